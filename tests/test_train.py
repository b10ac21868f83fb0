"""The Trainer against the loop written by hand, and against itself: interrupted, killed, resumed, refused.

Oracles: the hand-written loop; the run that was never stopped; the settings that were changed.
"""
import json
import math
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from nplearn import checkpoint
from nplearn.data import Loader, load
from nplearn.data.augment import Compose, Flip, Shift
from nplearn.data.dataset import DataSet
from nplearn.errors import CheckpointError, TrainingError
from nplearn.feedback import Matrix
from nplearn.layers import BatchNorm, Conv2d, Dense, Dropout, Flatten, ReLU, Sequential, Tanh, leaves
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import Probe, accuracy
from nplearn.nets import mlp
from nplearn.optim import SGD, Adam, MultiStep
from nplearn.rules import Backprop, FeedbackAlignment, KolenPollack, Mixed, ProductFeedbackAlignment, Rule, registry
from nplearn.runs import Settings
from nplearn.tape import Tape
from nplearn.train import Trainer


@pytest.fixture(autouse=True)
def one_thread_of_blas():
    """As Settings.trainer asks for; whatever another test left must not matter."""
    from nplearn.kernels.threads import blas_threads
    blas_threads(1)


def images(n=46, n_test=20, classes=4, shape=(6, 5, 2), seed=0):
    """(training, test): noise around one image per class, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    means, parts = rng.integers(40, 216, (classes, *shape)), []
    for size in (n, n_test):
        labels = rng.integers(classes, size=size)
        inputs = np.clip(means[labels] + rng.normal(0, 40, (size, *shape)), 0, 255).astype(np.uint8)
        parts.append(DataSet("noise", "drawn", inputs, labels, map(str, range(classes)), [0.5] * shape[2],
                             [0.3] * shape[2]))
    return parts


DATA = images()


def dense_net(seed=3):
    return Sequential(flatten=Flatten(), fc1=Dense(9), act1=Tanh(), fc2=Dense(7), act2=ReLU(),
                      fc3=Dense(4)).build((6, 5, 2), seed)


def noisy_net(seed=3):
    return Sequential(conv=Conv2d(3, 3), norm=BatchNorm(), act1=ReLU(), drop=Dropout(0.3), flatten=Flatten(),
                      fc1=Dense(7), norm2=BatchNorm(), act2=Tanh(), drop2=Dropout(0.5),
                      fc2=Dense(4)).build((6, 5, 2), seed)


RULES = {"kp": KolenPollack, "fa": FeedbackAlignment, "brsf": lambda: registry.make("brsf"),
         "pfa": lambda: ProductFeedbackAlignment(expand=3), "pfa, sparse": lambda: registry.make("pfa:density=0.5"),
         "pfa-o": lambda: registry.make("pfa-o"), "frozen": lambda: registry.make("frozen"),
         "kp, own optimiser": lambda: KolenPollack(optimiser=lambda arena: Adam(arena, MultiStep(0.01, {1: 0.1}))),
         "mixed": lambda: Mixed({"fc1": KolenPollack(), "*1": ProductFeedbackAlignment(expand=2), "conv": Backprop(),
                                 "*": FeedbackAlignment()})}
NETS = {"dense": dense_net, "noisy": noisy_net}


def make_rule(name, net):
    if name == "mixed" and net == "dense":              # every pattern must find a layer
        return Mixed({"fc3": KolenPollack(), "fc2": ProductFeedbackAlignment(expand=2), "*": FeedbackAlignment()})
    if name == "mixed":
        return Mixed({"conv": Backprop(), "fc1": KolenPollack(), "*": ProductFeedbackAlignment(expand=2)})
    return RULES[name]()


def trainer(folder=None, rule="kp", net="dense", data=DATA, lr=0.05, bar=None, loader=Loader, probe=True, **options):
    """Batches of 8, shifted and flipped, from 46 images: 6 an epoch, the last one shorter."""
    net_, loss = NETS[net](), SoftmaxCrossEntropy()
    made = make_rule(rule, net) if isinstance(rule, str) else rule
    made.attach(net_, 5)
    optimiser = SGD(net_.arena, MultiStep(lr, {2: 0.5}), momentum=0.9, decay=MultiStep(0.02, {1: 0.1}))
    watch = Probe(net_, made, loss, data[0].normalised(data[0].inputs[:9]), data[0].labels[:9]) if probe else None
    train = loader(data[0], 8, seed=7, augment=Compose(Shift(1), Flip()))
    return Trainer(net_, made, optimiser, loss, train, Loader(data[1], 16, shuffle=False), seed=11, probe=watch,
                   folder=str(folder) if folder else None, bar=bar, **options)


def state(run):
    """{name: bytes} of all that training moves, and the history but for its times."""
    held = {name: array.tobytes() for name, array in run.arrays().items()}
    for name, optimiser in run.optimisers().items():
        held |= {f"optim {name} {slot}": array.tobytes() for slot, array in optimiser.state().items()}
    return held | {"history": untimed(run.history), "at": (run.epoch, run.index, run.step)}


def untimed(history):
    return [{key: value for key, value in record.items() if key != "step_ms"} for record in history]


def same(found, wanted):
    return [name for name in wanted if found[name] != wanted[name]] == [] and found.keys() == wanted.keys()


class Stop:
    """A bar that is interrupted at the n-th update of the run; a resumed run tells it how far it is."""

    def __init__(self, n):
        self.left = n

    def update(self, n=1):
        self.left -= n
        if self.left <= 0:
            raise KeyboardInterrupt

    def set_description_str(self, text, refresh):
        self.says = text

    def set_postfix_str(self, text, refresh):
        self.says = text


class Stopping(Loader):
    """A loader that is interrupted when the batch `at` (of epoch, index) is asked for."""

    at = None

    def batch(self, epoch, index):
        if self.at == (epoch, index):
            raise KeyboardInterrupt
        return super().batch(epoch, index)


# -- the loop ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rule", ["backprop", "kp"])
def test_the_trainer_is_the_loop_written_by_hand(rule):
    train, test = load("mnist5k")
    train, test, loss = train.take(range(300)), test.take(range(100)), SoftmaxCrossEntropy()

    def begin():
        net = mlp(10, (32, 16)).build((28, 28, 1), seed=0)
        return net, SGD(net.arena, lr=0.05, momentum=0.9, decay=1e-4), registry.make(rule).attach(net, seed=0)
    net, optimiser, attached = begin()
    attached.follow(optimiser)
    tape, step, wanted = Tape(net, loss), 0, []
    for epoch in range(2):
        values, right = [], 0
        for inputs, labels in Loader(train, batch=64, seed=0).epoch(epoch):
            tape.begin(inputs, labels, seed=(0, step))
            tape.output = net.forward(tape.input, tape)
            tape.values, tape.error = loss(tape.output, tape.labels)
            values += tape.values.ravel().tolist()
            right += int((tape.output.argmax(axis=1) == tape.labels).sum())
            attached.assign(net, tape)
            optimiser.step()
            attached.learn(net, tape)
            step += 1
        predicted = net.predict(test.normalised(test.inputs))
        wanted.append((np.mean(values), right / 300, accuracy(predicted, test.labels)))
    other, optimiser, attached = begin()
    history = Trainer(other, attached, optimiser, loss, Loader(train, 64, seed=0),
                      Loader(test, 30, shuffle=False)).fit(2)
    assert other.arena.value.tobytes() == net.arena.value.tobytes()
    for record, (value, train_accuracy, test_accuracy) in zip(history[1:], wanted, strict=True):
        assert record["train_loss"] == pytest.approx(value, rel=1e-6)
        assert record["train_accuracy"] == train_accuracy and record["test_accuracy"] == test_accuracy
    if rule == "backprop":
        assert history[2]["train_loss"] < 0.8 * history[1]["train_loss"]


def test_history_and_log_say_what_each_epoch_was(tmp_path):
    run = trainer(tmp_path)
    history = run.fit(3)
    with open(tmp_path / "log.jsonl") as log:
        assert [json.loads(line) for line in log] == history
    assert [(r["epoch"], r["step"]) for r in history] == [(0, 0), (1, 6), (2, 12), (3, 18)]
    assert [r["lr"] for r in history[1:]] == [0.05, 0.05, 0.025]
    assert [r["decay"] for r in history[1:]] == pytest.approx([0.02, 0.002, 0.002])
    assert "train_loss" not in history[0] and all(r["step_ms"] > 0 for r in history[1:])
    for record in history:
        assert 0 <= record["test_accuracy"] <= 1 and record["test_loss"] > 0
        assert [layer["layer"] for layer in record["layers"]] == ["fc1", "fc2", "fc3"]
        assert record["layers"][0]["weight_angle"] is None      # JSON has no NaN
    json.dumps(history, allow_nan=False)
    assert history[3]["train_loss"] < history[1]["train_loss"] and history[3]["test_loss"] < history[0]["test_loss"]


def test_evaluation_and_probe_change_nothing_of_a_run():
    watched, blind = trainer(rule="brsf", net="noisy"), trainer(rule="brsf", net="noisy", probe=False)
    blind.test = None
    watched.fit(2), blind.fit(2)
    wanted, found = ({name: a.tobytes() for name, a in run.arrays().items()} for run in (blind, watched))
    assert found == wanted


def test_schedules_by_epoch_act_in_the_twin_and_in_a_rules_own_optimiser():
    seen = []

    class Watching(KolenPollack):
        def learn(self, net, tape):
            super().learn(net, tape)
            seen.append((self.optimiser.epoch, self.optimiser.now["lr"]))
    trainer(rule=Watching()).fit(3)
    assert seen == [(0, 0.05)] * 6 + [(1, 0.05)] * 6 + [(2, 0.025)] * 6
    seen.clear()
    trainer(rule=Watching(optimiser=lambda arena: SGD(arena, MultiStep(0.4, {1: 0.5, 2: 0.5}), 0))).fit(3)
    assert seen == [(0, 0.4)] * 6 + [(1, 0.2)] * 6 + [(2, 0.1)] * 6


class Asking(Backprop):
    """A rule that takes `wants` batches at every phase and notes what it was given."""

    def __init__(self, wants):
        super().__init__()
        self.wants, self.calls, self.learned = wants, [], []

    def learn(self, net, tape):
        super().learn(net, tape)
        self.learned.append(tape.seed)

    def phase(self, net, batches):
        drawn = [next(batches) for _ in range(self.wants)]
        drawn = drawn and [drawn[-1].input.copy(), drawn[-1].labels.copy(), drawn[-1].run()]
        self.calls.append((len(self.learned), batches.step, batches.epoch, drawn))


def test_phase_comes_before_the_first_update_and_after_each_learn():
    rule = Asking(0)
    trainer(rule=rule).fit(2)
    assert [call[:3] for call in rule.calls] == [(n, n, min(n // 6, 2)) for n in range(13)]


def test_batches_of_a_phase_change_no_data_order_and_never_end():
    asking, quiet = Asking(9), Asking(0)                # more than the five whole batches of an epoch
    busy, plain = trainer(rule=asking), trainer(rule=quiet)
    busy.fit(2), plain.fit(2)
    assert busy.net.arena.value.tobytes() == plain.net.arena.value.tobytes()
    orders = {call[3][1].tobytes() for call in asking.calls}
    assert len(orders) == len(asking.calls), "each step draws an order of its own"
    assert all(call[3][0].shape[-1] * call[3][0].shape[0] == 8 and call[3][2] > 0 for call in asking.calls)


def test_batches_of_a_phase_are_the_same_after_a_resume(tmp_path):
    whole, first, second = Asking(2), Asking(2), Asking(2)
    trainer(rule=whole).fit(2)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, rule=first, bar=Stop(8)).fit(2)
    trainer(tmp_path, rule=second).fit(2, resume=True)
    for (_, *wanted), (_, *found) in zip(whole.calls, first.calls + second.calls, strict=True):
        assert wanted[:2] == found[:2] and wanted[2][1].tobytes() == found[2][1].tobytes()


# -- a loss that is no number -----------------------------------------------------------------------------------------

def poisoned(run, at, how):
    update = run.update

    def wrapped(inputs, labels):
        if run.step == at:
            how(run.net)
        return update(inputs, labels)
    run.update = wrapped
    return run


@pytest.mark.parametrize(("how", "says"), [
    (lambda net: net.layers[3].weight.value.__setitem__((2, 1), np.nan), "fc2 has weights that are not finite"),
    (lambda net: net.layers[3].bias.value.__setitem__(0, np.inf), "fc2 has weights that are not finite"),
    (lambda net: net.layers[5].weight.value.fill(3e38), "the output is not finite, behind fc3")])
def test_a_loss_that_is_no_number_names_epoch_step_and_layer(tmp_path, how, says):
    trainer(tmp_path).fit(1)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match=f"epoch 2, step 8: a loss of .*; {says}"):
        poisoned(trainer(tmp_path), 8, how).fit(3, resume=True)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before
    on = trainer(tmp_path)
    on.fit(3, resume=True)
    straight = trainer()
    straight.fit(3)
    assert same(state(on), state(straight))


def test_the_label_of_a_run_stands_in_its_error():
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="^fa seed 3 epoch 1, step "):
        trainer(lr=1e30, label="fa seed 3", probe=False).fit(2)


# -- resume -----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def straight():
    """state of the run that was never stopped, by (rule, net); made once."""
    made = {}

    def of(rule, net):
        if (rule, net) not in made:
            run = trainer(rule=rule, net=net)
            run.fit(3)
            made[rule, net] = state(run)
        return made[rule, net]
    return of


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("rule", RULES)
def test_a_resumed_run_is_the_run_that_was_never_stopped(rule, net, tmp_path, straight):
    for step in (2, 5, 6):                              # stops in the bar: in mid-epoch, and at an epoch's very end
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path, rule, net, bar=Stop(step)).fit(3, resume=True)
    run = trainer(tmp_path, rule, net)
    run.fit(2, resume=True)                             # stops between epochs
    run = trainer(tmp_path, rule, net, loader=Stopping)
    run.train.at = 2, 3                                 # stops in the loader
    with pytest.raises(KeyboardInterrupt):
        run.fit(3, resume=True)
    run = trainer(tmp_path, rule, net)
    run.fit(3, resume=True)
    assert same(state(run), straight(rule, net))
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert untimed(map(json.loads, log)) == untimed(run.history)


def test_a_finished_run_can_be_extended_epoch_by_epoch(tmp_path, straight):
    for epochs in (1, 2, 2, 3):
        run = trainer(tmp_path, "pfa", "noisy")
        run.fit(epochs, resume=True)
    assert same(state(run), straight("pfa", "noisy"))


def test_a_checkpoint_is_saved_while_training_when_its_time_has_come(tmp_path):
    saved = []
    run = trainer(tmp_path, save_every=0)
    save = run.save
    run.save = lambda: (saved.append(run.step), save())
    run.fit(1)
    assert saved == [1, 2, 3, 4, 5, 6, 6]


def test_a_second_interrupt_inside_an_update_saves_no_half_of_it(tmp_path, straight):
    def breaking(net, tape):                            # W has moved, B has not
        if run.step == 8:
            raise KeyboardInterrupt
        KolenPollack.learn(run.rule, net, tape)
    trainer(tmp_path).fit(1)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    run = trainer(tmp_path)
    run.rule.learn = breaking
    with pytest.raises(KeyboardInterrupt):
        run.fit(3, resume=True)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before
    run = trainer(tmp_path)
    run.fit(3, resume=True)
    assert same(state(run), straight("kp", "dense"))


def test_without_resume_a_run_starts_anew(tmp_path, straight):
    trainer(tmp_path).fit(1)
    run = trainer(tmp_path)
    run.fit(3)
    assert same(state(run), straight("kp", "dense"))


# -- refusals ---------------------------------------------------------------------------------------------------------

class Wider(Rule):
    def feedback(self, layer, rng):
        return Matrix(layer.draw(rng), learns=True)


@pytest.mark.parametrize(("change", "says"), [
    ({"lr": 0.04}, ["optimisers.weights.lr.value is 0.05 instead of 0.04", "optimisers.rule.state.lr.value"]),
    ({"rule": "fa"}, ["rule is ['KolenPollack', {}] instead of", "optimisers.rule.state.kind is surplus"]),
    ({"rule": "pfa"}, ["rule is", "rule/fc2.lower is missing", "rule/fc2.matrix is surplus"]),
    ({"net": "noisy"}, ["net.conv.kind is missing", "net/conv.weight is missing", "net/fc3.weight is surplus"]),
    ({"data": images(n=47)}, ["records is 46 instead of 47"])])
def test_another_run_is_refused_with_every_difference(tmp_path, change, says):
    trainer(tmp_path).fit(1)
    other = trainer(tmp_path, **change)
    before = state(other)
    with pytest.raises(CheckpointError) as error:
        other.fit(2, resume=True)
    for words in says:
        assert words in str(error.value)
    assert same(state(other), before), "a refused checkpoint changes nothing"


def test_nets_that_differ_in_no_array_are_told_apart(tmp_path):
    trainer(tmp_path, net="noisy").fit(1)
    other = trainer(tmp_path, net="noisy")
    other.net.layers[3].p = 0.4
    other.train.drop_last, other.train.shuffle = True, False
    with pytest.raises(CheckpointError) as error:
        other.fit(2, resume=True)
    for words in ("net.drop.p is 0.3 instead of 0.4", "drop_last is False instead of True",
                  "shuffle is True instead of False"):
        assert words in str(error.value)
    act = trainer(tmp_path / "dense")
    act.fit(1)
    other = trainer(tmp_path / "dense")
    other.net.layers[2].__class__ = ReLU
    with pytest.raises(CheckpointError, match="net.act1.kind is Tanh instead of ReLU"):
        other.load()


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, straight, capsys):
    trainer(tmp_path).fit(1)
    trainer(tmp_path).fit(2, resume=True)
    file = tmp_path / "checkpoint.npz"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    run = trainer(tmp_path)
    run.fit(3, resume=True)
    printed = capsys.readouterr().out
    assert "checkpoint.npz is damaged; going on from" in printed and "checkpoint.npz.previous" in printed
    assert same(state(run), straight("kp", "dense"))
    checkpoint.load(file)


def test_a_lost_checkpoint_falls_back_too_and_two_damaged_ones_say_what_to_do(tmp_path, straight, capsys):
    trainer(tmp_path).fit(1)
    trainer(tmp_path).fit(2, resume=True)
    os.unlink(tmp_path / "checkpoint.npz")
    run = trainer(tmp_path)
    run.fit(3, resume=True)
    assert "is missing; going on from" in capsys.readouterr().out
    assert same(state(run), straight("kp", "dense"))
    for name in ("checkpoint.npz", "checkpoint.npz.previous"):
        (tmp_path / name).write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match="restore it from a copy, or start the run again"):
        trainer(tmp_path).fit(3, resume=True)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    checkpoint.save(tmp_path / "checkpoint.npz", {"a": np.ones(2)}, {"step": 3})
    with pytest.raises(CheckpointError, match="no state of a training"):
        trainer(tmp_path).fit(1, resume=True)


def test_resume_without_a_checkpoint_starts(tmp_path, straight):
    run = trainer(tmp_path / "new")
    run.fit(3, resume=True)
    assert same(state(run), straight("kp", "dense"))


# -- other processes --------------------------------------------------------------------------------------------------

CHILD = textwrap.dedent("""
    import os, signal, sys
    sys.path.insert(0, {root!r})
    from tests.test_train import trainer
    from nplearn.kernels.threads import blas_threads
    blas_threads(1)
    run = trainer({folder!r}, "pfa", "noisy", save_every=0, probe=False)
    update = run.update
    def watched(*batch):
        if run.step == {interrupt_at}:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*batch)
    run.update = watched
    print("ready", flush=True)
    run.fit(12, resume=True)
    print("finished", flush=True)
""")


def child(folder, interrupt_at=None):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = CHILD.format(root=root, folder=str(folder), interrupt_at=interrupt_at)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def finish(folder):
    run = trainer(folder, "pfa", "noisy", probe=False)
    run.fit(12, resume=True)
    return state(run)


@pytest.fixture(scope="module")
def never_stopped():
    run = trainer(None, "pfa", "noisy", probe=False)
    run.fit(12)
    return state(run)


def killed_again_and_again(folder, times, seed):
    rng = np.random.default_rng(seed)
    for _ in range(times):
        process = child(folder)
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        process.communicate()


def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(tmp_path, never_stopped):
    killed_again_and_again(tmp_path, 4, 0)
    assert same(finish(tmp_path), never_stopped)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.npz", "checkpoint.npz.previous", "log.jsonl"]


@pytest.mark.long
def test_a_run_killed_thirty_times_goes_on_to_the_same_bits(tmp_path, never_stopped):
    for seed in range(3):
        killed_again_and_again(tmp_path / str(seed), 10, seed + 1)
        assert same(finish(tmp_path / str(seed)), never_stopped)


def test_ctrl_c_ends_the_step_saves_and_resumes_to_the_same_bits(tmp_path, never_stopped):
    process = child(tmp_path, interrupt_at=20)
    out, err = process.communicate()
    assert process.returncode != 0 and "finished" not in out and "KeyboardInterrupt" in err
    arrays, meta = checkpoint.load(tmp_path / "checkpoint.npz")
    assert (meta["epoch"], meta["index"], meta["step"], int(arrays["optim/weights/steps"])) == (3, 3, 21, 21)
    assert same(finish(tmp_path), never_stopped)


# -- it learns --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def reached():
    """Test accuracy of a rule after three epochs of the embedded digits."""
    data, made = load("mnist5k"), {}

    def of(rule):
        if rule not in made:
            settings = Settings(rule=rule, lr=0.02, net_options={"hidden": [64, 48]})
            made[rule] = settings.trainer(data, probe=0).fit(3)[-1]["test_accuracy"]
        return made[rule]
    return of


@pytest.mark.parametrize("rule", ["backprop", "fa", "usf", "pfa", "kp", "dfa"])
def test_a_rule_beats_the_controls_that_teach_hidden_layers_nothing(rule, reached):
    assert reached(rule) > 0.75
    for control in ("shuffled", "frozen"):
        assert reached(control) < 0.75 < reached(rule) - 0.02
        assert reached(rule) > reached(control) + 0.1


def test_history_of_layers_is_finite_where_it_is_a_number():
    for record in trainer(net="noisy").fit(1):
        for layer in record["layers"]:
            numbers = [value for value in layer.values() if not isinstance(value, str | list | None)]
            assert numbers and all(map(math.isfinite, numbers))
    assert {layer.path for layer in leaves(noisy_net())} >= {layer["layer"] for layer in record["layers"]}

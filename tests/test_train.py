"""The Trainer against the loop written by hand; its log, its phases, its errors; and whether rules learn.

Oracles: the hand-written loop, the schedule's own values, a control that must fail.
"""
import json
import math

import numpy as np
import pytest

from nplearn import resume
from nplearn.data import Loader, load
from nplearn.errors import TrainingError
from nplearn.layers import Dense, Dropout, Flatten, ReLU, Sequential
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import accuracy, evaluate
from nplearn.optim import SGD, MultiStep
from nplearn.rules import Backprop, KolenPollack, registry
from nplearn.runs import Settings
from nplearn.tape import Tape
from nplearn.train import Trainer
from tests.training import Stop, same, state, trainer

# -- the loop ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rule", ["backprop", "kp", "brsf"])
def test_the_trainer_is_the_loop_written_by_hand(rule):
    train, test = load("mnist5k")
    train, test, loss = train.take(range(300)), test.take(range(100)), SoftmaxCrossEntropy()

    def begin():
        net = Sequential(flatten=Flatten(), fc1=Dense(32), relu=ReLU(), drop=Dropout(0.1),
                         fc2=Dense(10)).build((28, 28, 1), seed=0)
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
    assert rule != "backprop" or history[2]["train_loss"] < 0.8 * history[1]["train_loss"]


def test_history_and_log_say_what_each_epoch_was(tmp_path):
    run = trainer(tmp_path)
    history = run.fit(3)
    with open(tmp_path / "log.jsonl") as log:
        early, *lines = map(json.loads, log)
    assert early["early"] and lines == history
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


def test_the_bar_and_the_early_line_say_how_it_goes(tmp_path):
    bar = Stop(11)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, bar=bar, label="kp seed 5").fit(3)
    assert bar.says[0] == "kp seed 5 epoch 2" and bar.says[1].startswith("loss ") and ", accuracy 0." in bar.says[1]
    early, *_ = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert early["early"] and early["step"] == 10 and early["loss"] > 0
    assert early["epoch_seconds"] == pytest.approx(6 * early["step_ms"] / 1000)


def test_evaluation_and_probe_change_nothing_of_a_run():
    watched, blind = trainer(rule="brsf", net="noisy"), trainer(rule="brsf", net="noisy", probe=False)
    blind.test = None
    watched.fit(2), blind.fit(2)
    wanted, found = ({name: a.tobytes() for name, a in resume.arrays(run).items()} for run in (blind, watched))
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
        tapes = (next(batches) for _ in range(self.wants))
        drawn = [(tape.input.tobytes(), tape.count, tape.run()) for tape in tapes]
        self.calls.append((len(self.learned), batches.step, batches.epoch, drawn))


def test_phase_comes_before_the_first_update_and_after_each_learn():
    rule = Asking(0)
    trainer(rule=rule).fit(2)
    assert [call[:3] for call in rule.calls] == [(n, n, min(n // 6, 2)) for n in range(13)]


def test_batches_of_a_phase_change_no_data_order_and_never_end():
    asking, quiet = Asking(12), Asking(0)               # more than two rounds of the five whole batches there are
    busy, plain = trainer(rule=asking), trainer(rule=quiet)
    busy.fit(2), plain.fit(2)
    assert busy.net.arena.value.tobytes() == plain.net.arena.value.tobytes()
    drawn = [batch for call in asking.calls for batch in call[3]]
    assert len({inputs for inputs, _, _ in drawn}) == len(drawn) == 13 * 12, "every step and round has its own order"
    assert all(count == 8 and value > 0 for _, count, value in drawn)


def test_batches_of_a_phase_are_the_same_after_a_resume(tmp_path):
    whole, first, second = Asking(2), Asking(2), Asking(2)
    trainer(rule=whole).fit(2)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, rule=first, bar=Stop(8)).fit(2)
    trainer(tmp_path, rule=second).fit(2, resume=True)
    assert [call[1:] for call in first.calls + second.calls] == [call[1:] for call in whole.calls]


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


def test_training_evaluation_and_probe_read_the_net_as_the_rule_does():
    class Doubles(Backprop):
        def forward(self, x, tape=None):
            return 2 * super().forward(x, tape)
    doubled, plain = trainer(rule=Doubles()), trainer(rule=Backprop())
    for run in doubled, plain:
        run.measure_start()
    inputs, labels = next(iter(doubled.train.epoch(0)))
    value = doubled.update(inputs, labels)
    loss = SoftmaxCrossEntropy()
    begun = plain.tape.begin(inputs, labels, seed=(11, 0))
    assert value == pytest.approx(loss(2 * plain.net.forward(begun.input, begun), begun.labels)[0].mean(), rel=1e-6)
    outputs = [evaluate(plain.net, loss, plain.test, rule=rule)["loss"] for rule in (None, plain.rule)]
    assert outputs[0] == outputs[1] != doubled.history[0]["test_loss"]
    assert doubled.history[0]["layers"][-1]["delta_norm"] != plain.history[0]["layers"][-1]["delta_norm"]

"""A run that is stopped, killed, damaged or refused. Oracle: the run that was never stopped, to the last bit."""
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from nplearn import checkpoint, resume
from nplearn.errors import CheckpointError
from nplearn.layers import ReLU
from nplearn.rules import KolenPollack
from tests.training import NETS, RULES, Stop, Stopping, images, same, state, trainer, untimed

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
    early, *log = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert early["early"] and untimed(log) == untimed(run.history)


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


def test_an_interrupt_during_the_last_evaluation_is_not_swallowed(tmp_path):
    run = trainer(tmp_path)
    measure = run.measure

    def interrupted():
        if run.step == 18:                              # the third and last epoch is over
            os.kill(os.getpid(), signal.SIGINT)
        return measure()
    run.measure = interrupted
    with pytest.raises(KeyboardInterrupt):
        run.fit(3)
    assert checkpoint.load(run.file)[1]["epoch"] == 3


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


def test_ctrl_c_is_the_callers_again_after_a_run(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    trainer().fit(1)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, bar=Stop(3)).fit(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_resume_a_run_starts_anew(tmp_path, straight):
    trainer(tmp_path).fit(1)
    run = trainer(tmp_path)
    run.fit(3)
    assert same(state(run), straight("kp", "dense"))


# -- refusals ---------------------------------------------------------------------------------------------------------

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


def test_what_may_change_the_bits_is_said_at_resume(tmp_path, capsys, monkeypatch):
    trainer(tmp_path).fit(1)
    here = resume.run_record()
    monkeypatch.setattr(resume, "run_record", lambda device: {**here, "numpy": "9.9"})
    trainer(tmp_path).fit(2, resume=True)
    said = [line for line in capsys.readouterr().out.splitlines() if "bits may differ" in line]
    assert said == [f"resumed, but bits may differ: numpy was {np.__version__} and is now 9.9"]


def test_resume_without_a_checkpoint_starts(tmp_path, straight):
    run = trainer(tmp_path / "new")
    run.fit(3, resume=True)
    assert same(state(run), straight("kp", "dense"))


# -- other processes --------------------------------------------------------------------------------------------------

CHILD = textwrap.dedent("""
    import os, signal, sys
    sys.path.insert(0, {root!r})
    from tests.training import trainer
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

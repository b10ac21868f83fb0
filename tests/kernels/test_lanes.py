"""Lanes share out chunks and change no bit. Oracle: a plain loop."""
import doctest
import subprocess
import sys
import threading
import time
from types import MethodType

import numpy as np
import pytest

import nplearn.columns as columns_module
import nplearn.layers.shortcut as shortcut_layer
from nplearn.kernels import lanes, workspace
from nplearn.kernels.threads import use_threads
from nplearn.layers import (
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    LocallyConnected2d,
    MaxPool2d,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    holders,
    laned,
)
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.optim import SGD
from nplearn.rules.registry import make
from nplearn.tape import Tape


@pytest.fixture(autouse=True)
def one_lane_afterwards():
    yield
    use_threads(1, laned=True)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("T", [0, 1, 2, 3, 8])
def test_every_chunk_is_worked_on_once(n, T):
    lanes.use(n)
    seen = []
    lanes.share(T, seen.append)
    assert sorted(seen) == list(range(T)) and lanes.count() == n


@pytest.mark.parametrize("bad", [0, 3, 7])
def test_what_a_lane_raises_reaches_the_caller_and_the_lanes_go_on(bad):
    lanes.use(3)

    def work(t):
        if t == bad:
            raise ValueError(f"chunk {t}")
    with pytest.raises(ValueError, match=f"chunk {bad}"):
        lanes.share(8, work)
    done = []
    lanes.share(8, done.append)
    assert sorted(done) == list(range(8))


def test_chunkwise_is_the_function_of_the_whole():
    lanes.use(2)
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    assert np.array_equal(lanes.chunkwise(lambda a, b, out: np.subtract(a * b, 1, out=out), x, y), x * y - 1)


def trained(rule, n):
    net = Sequential(Conv2d(3, 3), BatchNorm(), ReLU(), MaxPool2d(2),
                     Residual(Conv2d(3, 3, groups=3), ReLU(), Dropout(0.2)), Conv2d(4, 3, 2), ReLU(),
                     LocallyConnected2d(3, 2), Flatten(), Dense(4)).build((9, 8, 2), seed=1)
    use_threads(n, laned(net))
    made, optimiser = make(rule).attach(net, 0), SGD(net.arena, 0.05, momentum=0.9, decay=0.01)
    made.follow(optimiser)
    tape, rng = Tape(net, SoftmaxCrossEntropy()), np.random.default_rng(2)
    for step in range(4):
        tape.begin(rng.normal(size=(136, 9, 8, 2)).astype(np.float32), rng.integers(4, size=136), seed=step)
        tape.run()
        assert tape.input.shape[0] > 2                  # several chunks, or this says nothing
        made.assign(net, tape)
        optimiser.step()
        made.learn(net, tape)
    return net.arena.value.tobytes(), [array.tobytes() for array in made.arrays().values()]


@pytest.mark.parametrize("rule", ["backprop", "dfa:residual=pure", "pfa", "brsf"])
def test_training_ends_in_the_same_bits_on_any_number_of_lanes(rule):
    assert trained(rule, 1) == trained(rule, 2) == trained(rule, 3)


class Slow(Layer):
    """Adds one, in an own loop over lanes that takes its time in the last chunk."""

    flows = True

    def forward(self, x, tape=None):
        y = np.zeros_like(x)

        def one(t):
            time.sleep(0.05 * (t == len(x) - 1))
            y[t] = x[t] + 1
        lanes.share(len(x), one)
        return y


class Plain(Layer):
    """Doubles, in plain NumPy: what lanes are still writing it must not read."""

    def forward(self, x, tape=None):
        return 2 * x


class Refuses(Slow):
    """Says that it does not flow."""

    flows = False

    def forward(self, x, tape=None):
        return 2 * x


class Inherits(Slow):
    """Says nothing of flowing, so its plain NumPy is safe although its base flows."""

    def forward(self, x, tape=None):
        return 2 * x


def test_plain_numpy_in_a_layer_sees_what_lanes_have_finished():
    lanes.use(2)
    for plain in (Plain(), Inherits(), Refuses()):
        net = Sequential(Slow(), Slow(), plain, Slow())
        assert (net.forward(np.zeros((4, 1, 1))) == 5).all()


def test_in_a_flow_work_gathers_until_lanes_meet_and_takes_each_chunk_through_all_of_it():
    lanes.use(2)
    done, place = [], np.zeros(1)
    with lanes.flow():
        lanes.share(4, lambda t: done.append((t, "a")))
        lanes.share(4, lambda t: done.append((t, "b")))
        assert lanes.total(4, lambda t: np.array([t]), out=place) is place
        assert done == [] and place == [0]
        lanes.meet()
        assert place == [6]
        for part in (range(2), range(2, 4)):            # each lane in its own order
            assert [d for d in done if d[0] in part] == [(t, step) for t in part for step in "ab"]
        lanes.share(4, lambda t: done.append("c"))
        assert lanes.total(4, lambda t: t) == 6 and done.count("c") == 4
        with lanes.flow():
            lanes.share(4, lambda t: done.append("d"))
        assert "d" not in done                          # the inner end is not the outermost
        lanes.share(3, lambda t: done.append("e"))      # chunks of another number: first what there was
        assert done.count("d") == 4 and "e" not in done
        with lanes.flow(False):
            assert done.count("e") == 3
            lanes.share(3, lambda t: done.append("f"))
            assert done.count("f") == 3
        lanes.share(1, lambda t: done.append("g"))      # a single chunk has nobody to wait for
        assert "g" in done
    lanes.use(1)
    with lanes.flow():
        for _ in range(lanes.MANY):
            lanes.share(2, lambda t: done.append("h"))
        assert done.count("h") == 2 * lanes.MANY        # so many that they are done


def test_an_error_of_a_lane_surfaces_when_they_meet_and_leaves_nothing_behind():
    lanes.use(2)

    def fails(t):
        if t == 1:
            raise ValueError("chunk 1")
    with pytest.raises(ValueError, match="chunk 1"), lanes.flow():
        lanes.share(2, fails)
        lanes.share(2, lambda t: None)
    assert lanes.total(2, lambda t: t) == 1
    with pytest.raises(KeyError), lanes.flow():         # the caller's own error: what had gathered is forgotten
        lanes.share(2, fails)
        raise KeyError
    assert lanes.total(2, lambda t: t) == 1


# -- what must not go wrong in a flow ---------------------------------------------------------------------------------

def deep():
    """Shapes that change, shortcuts that share an error, a layer used twice, a pool whose error is one number a map."""
    twice = Conv2d(4, 3)
    fork = Residual(twice, ReLU(), Conv2d(4, 1), shortcut=Conv2d(4, 3))
    return Sequential(Conv2d(4, 3), BatchNorm(), ReLU(), twice, fork, MaxPool2d(2), Flatten(), Dense(36),
                      Reshape((3, 3, 4)), Dropout(0.2), Conv2d(5, 1), GlobalAvgPool(), Dense(3))


def renamed():
    """A reshape right below that pool."""
    return Sequential(Conv2d(4, 3), Flatten(), Dense(36), Reshape((3, 3, 4)), GlobalAvgPool(), Dense(3))


RULES = "backprop", "fa", "dfa", "usf", "kp", "pfa:path=direct", "pfa:path=collapsed", "shuffled"


@pytest.mark.parametrize("build", [deep, renamed])
@pytest.mark.parametrize("name", RULES)
def test_a_flow_reads_nothing_that_is_not_written(name, build, monkeypatch):
    """Arrays start as NaN; the reference lets no work gather. To the bit, on any number of lanes."""
    true = workspace.empty
    for module in (workspace, columns_module, shortcut_layer):
        monkeypatch.setattr(module, "empty", lambda xp, shape, dtype: np.full(shape, np.nan, dtype))
    assert true is not workspace.empty

    def gradients(many, n):
        monkeypatch.setattr(lanes, "MANY", many)
        lanes.use(n)
        net = build().build((6, 6, 3), seed=1, dtype="float64")
        net.chunk = lambda n: 2
        rule, tape = make(name).attach(net, 0), Tape(net, SoftmaxCrossEntropy())
        rng = np.random.default_rng(0)
        tape.begin(rng.normal(size=(8, 6, 6, 3)), rng.integers(3, size=8))
        tape.run()
        rule.assign(net, tape)
        return np.concatenate([net.arena.grad, *(arena.grad for arena in rule.states())])
    wanted = gradients(1, 1)
    assert np.isfinite(wanted).all() and wanted.any()
    for n in (1, 2, 3):
        assert np.array_equal(gradients(32, n), wanted)


def test_two_threads_that_train_do_not_mix_what_they_put_off():
    def train(seed, found):
        net = deep().build((6, 6, 3), seed=seed)
        net.chunk = lambda n: 1
        rule, tape, optimiser = make("backprop").attach(net, 0), Tape(net, SoftmaxCrossEntropy()), SGD(net.arena, 0.01)
        rng = np.random.default_rng(seed)
        for i in range(10):
            tape.begin(rng.normal(size=(8, 6, 6, 3)), rng.integers(3, size=8), seed=i)
            tape.run()
            rule.assign(net, tape)
            optimiser.step()
        found[seed] = net.arena.value.copy()
    alone, together = {}, {}
    for seed in (0, 1):
        train(seed, alone)
    for n in (1, 2):                                    # lanes, which both then share
        lanes.use(n)
        threads = [threading.Thread(target=train, args=(seed, together)) for seed in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(np.array_equal(alone[seed], together[seed]) for seed in (0, 1))


def test_a_method_replaced_on_a_layer_sees_arrays_that_are_written():
    net = Sequential(Conv2d(2, 3), ReLU(), Conv2d(2, 3)).build((4, 4, 2))
    seen, layer, apply = [], net.layers[2], net.layers[2].apply
    layer.apply = lambda x, W: (seen.append(x.copy()), apply(x, W))[1]
    x = np.random.default_rng(0).normal(size=(4, 4, 2, 4, 2)).astype(np.float32)
    net.forward(x)
    assert np.array_equal(seen[0], net.layers[1].forward(net.layers[0].forward(x)))


def test_a_method_replaced_on_a_feedback_sees_arrays_that_are_written():
    def seen_by(name):
        net = Sequential(Conv2d(2, 3), Conv2d(2, 3), Conv2d(2, 3), GlobalAvgPool()).build((4, 4, 2))
        net.chunk = lambda n: 2
        rule, tape = make("pfa:path=direct").attach(net, 0), Tape(net, SoftmaxCrossEntropy())
        rng = np.random.default_rng(0)
        tape.begin(rng.normal(size=(8, 4, 4, 2)), rng.integers(2, size=8))
        tape.run()
        rule.assign(net, tape)
        feedback, seen = net.layers[1].feedback, []     # its delta comes out of another layer's carry
        true = getattr(type(feedback), name)
        wanted = tape.walk(records=True)
        net.backward(wanted.error, wanted)

        def replaced(self, layer, d, *rest):
            seen.append(d.copy())
            return true(self, layer, d, *rest)
        assert feedback.as_written
        setattr(feedback, name, MethodType(replaced, feedback))
        assert not feedback.as_written
        rule.assign(net, tape)
        return seen, wanted.deltas[net.layers[1]]
    for name in ("carry", "collect", "mixed"):          # the last is called by the other two
        seen, (delta,) = seen_by(name)
        assert seen and all(np.array_equal(d, delta) for d in seen)


@pytest.mark.parametrize("name", RULES)
def test_no_rule_of_ours_keeps_lanes_from_flowing(name):
    net = make(name).attach(deep().build((6, 6, 3)), 0).net
    assert all(layer.as_written and layer.feedback.as_written for layer in holders(net))


@pytest.mark.parametrize(("n", "k"), [(8, 3), (3, 3), (7, 1), (2, 5), (0, 2), (100, 7)])
def test_cuts_leave_nothing_out_and_parts_differ_by_one_at_most(n, k):
    cuts = lanes.cuts(n, k)
    sizes = np.diff(cuts)
    assert (cuts[0], cuts[-1], len(sizes)) == (0, n, k) and max(sizes) - min(sizes) <= 1


def test_the_examples_in_the_docstrings_are_true():
    failed, ran = doctest.testmod(lanes)
    assert failed == 0 and ran > 0


def test_an_error_that_is_caught_inside_loses_no_work_from_outside():
    class Forgives(Layer):
        flows = True

        def forward(self, x, tape=None):
            try:
                with lanes.flow():
                    raise ValueError
            except ValueError:
                return x
    assert (Sequential(Slow(), Forgives(), Slow()).forward(np.zeros((4, 1, 1))) == 2).all()


def test_lanes_work_under_the_callers_errstate():
    lanes.use(2)
    with np.errstate(all="ignore"):
        assert np.isinf(lanes.chunkwise(lambda x, out: np.divide(x, 0, out=out), np.ones((4, 3)))).all()
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        lanes.share(2, lambda t: np.divide(np.ones(3), 1 - t))


def test_lanes_come_up_where_the_system_has_no_fork():
    code = ("import os, numpy; del os.register_at_fork; from nplearn.kernels import lanes; lanes.use(2); found = []; "
            "lanes.share(4, found.append); print(sorted(found))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[0, 1, 2, 3]\n", done.stderr


def test_an_interrupt_while_waiting_leaves_the_lanes_in_step(monkeypatch):
    lanes.use(2)

    def interrupted(works, part):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lanes, "_part", interrupted)
        lanes.share(4, lambda t: time.sleep(0.05))
    for _ in range(3):
        done = []
        lanes.share(4, lambda t, done=done: (time.sleep(0.02 * (t > 1)), done.append(t)))
        assert sorted(done) == [0, 1, 2, 3]

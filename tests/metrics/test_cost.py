"""The cost of a step: against the products that NumPy is really asked for, against closed forms, leaving no trace."""
import doctest
import sys
import time
import tracemalloc
from collections import Counter
from math import isnan, prod
from types import SimpleNamespace

import numpy as np
import pytest

from nplearn.columns import outside
from nplearn.errors import BuildError, SettingError
from nplearn.feedback import Feedback
from nplearn.kernels import conv, lanes, workspace
from nplearn.kernels.threads import blas_threads
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
    Port,
    ReLU,
    Residual,
    Sequential,
    Tanh,
    Transposed,
    everything,
    leaves,
    weighted,
)
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import Cost, Counts, cost, held
from nplearn.metrics.cost import step, summed
from nplearn.metrics.watch import Watch
from nplearn.nets import mlp
from nplearn.optim import SGD, Adam
from nplearn.optim.base import Optimiser
from nplearn.params import Param
from nplearn.rules import Backprop, FeedbackAlignment, ProductFeedbackAlignment, registry
from nplearn.rules.base import Rule
from nplearn.tape import Tape
from nplearn.testing.trial import NETS
from tests.homes import KINDS, loss_of, pairs

LOSS = SoftmaxCrossEntropy()
VARIANTS = ["dfa:form=biotorch", "dfa:residual=pure", "dfa:residual=block", "pfa:path=direct", "pfa:path=collapsed",
            "pfa:density=0.5"]
QUIET = ["backprop", "fa", "dfa", "usf", "frsf", "kp", "pfa", "pfa-o", "frozen", *VARIANTS]      # draw nothing
PAIRS = pairs([*registry.names(controls=True), *VARIANTS])
N = 8
WIDE = (30, 20, 12, 10)                                 # of the multilayer perceptron of the closed forms


def small_mlp():
    return mlp(WIDE[-1], hidden=WIDE[1:-1], activation=Tanh).build(WIDE[0], 1)


def batch(net, n=N, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, *outside(net.in_shape))).astype(net.dtype),
            rng.integers(net.out_shape[0], size=n))


def of(net, rule="backprop", optimiser=None, n=N):
    rule = registry.make(rule) if isinstance(rule, str) else rule
    return cost(net, rule.attach(net, 1), LOSS, *batch(net, n), optimiser)


def adds(found, **which):
    """Multiply-adds of the parts with that phase, layer or operation."""
    return sum(counts.multiply_adds for part, counts in found.parts.items()
               if which.items() <= dict(zip(("phase", "layer", "operation"), part, strict=True)).items())


def moved(found, layer, operation, phase):
    return found.parts[phase, layer, operation].bytes


# -- against the products that are made -------------------------------------------------------------------------------

class Spy(np.ndarray):
    """Tells of every matrix product that NumPy makes with it, and makes of its results spies."""

    calls = []                                          # (function, (shape, strides) of both operands and the result)

    def __array_ufunc__(self, ufunc, method, *args, out=(), **options):
        args = [bare(x) for x in args]
        result = getattr(ufunc, method)(*args, **options, **({"out": tuple(map(bare, out))} if out else {}))
        if ufunc is np.matmul and not any(x.ndim == 1 and (x == 1).all() for x in args):      # with ones it is a sum
            note(np.matmul, *args, result)
        if out:
            return out[0]
        return result.view(Spy) if isinstance(result, np.ndarray) else result

    def __array_function__(self, function, types, args, kwargs):
        if function not in (np.dot, np.tensordot, *ALGEBRA):
            return super().__array_function__(function, types, args, kwargs)
        args = [bare(x) for x in args]
        result = function(*args, **{key: bare(x) for key, x in kwargs.items()})
        if function in ALGEBRA:
            note(function, args[0], args[1] if function is np.linalg.solve else result, result)
            return result.view(Spy)
        a, b = args[:2]
        if function is np.tensordot:                    # in the form that it gives to dot
            i, j = kwargs["axes"]
            a, b = np.moveaxis(a, i, -1).reshape(-1, a.shape[i]), np.moveaxis(b, j, 0).reshape(b.shape[j], -1)
        note(np.dot, a, b, np.empty((len(a), b.shape[-1]), a.dtype))
        return result.view(Spy)


def bare(x):
    return x.view(np.ndarray) if isinstance(x, Spy) else x


def note(function, a, b, result):
    Spy.calls.append((function, *((x.shape, x.strides) for x in (a, b, result))))


def size(call):
    """M N K, of every product in a stack; of a solved system or an inverse, to leading order."""
    function, (a, _), _, (result, _) = call
    return ALGEBRA[function](max(a), min(a), *result[1:]) if function in ALGEBRA else prod(result) * a[-1]


ALGEBRA = {np.linalg.solve: lambda m, n, columns: n ** 3 // 3 + n * n * columns, np.linalg.inv: lambda m, n, _: n ** 3,
           np.linalg.pinv: lambda m, n, _: 8 * m * n * n + 4 * n ** 3}


def spying(function):
    def call(*args, **options):
        result = function(*[x.view(Spy) if isinstance(x, np.ndarray) else x for x in args], **options)
        return result.view(Spy) if isinstance(result, np.ndarray) else result
    return call


def products(net, rule, n=N, loss=LOSS):
    """{phase: the products of a step that nobody counts}."""
    found, tape, optimiser = {}, Tape(net, loss).begin(*batch(net, n)), SGD(net.arena, 0.01)
    rule.follow(optimiser)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("empty", "zeros", "empty_like"):
            patch.setattr(workspace, name, spying(getattr(workspace, name)))
        patch.setattr(workspace, "once", lambda key, make: make())      # what was kept is no spy
        for kind in {type(layer) for layer in weighted(net)}:
            for name in ("apply", "adjoint", "outer", "mix", "widen"):
                patch.setattr(kind, name, spying(getattr(kind, name)))
        for param in [*net.arena.params, *rule.params().values()]:      # for products of weights alone
            patch.setattr(param, "value", param.value.view(Spy))
        for phase, work in (("forward", lambda: tape.run(rule)), ("credit", lambda: rule.assign(net, tape)),
                            ("learning", lambda: (optimiser.step(), rule.learn(net, tape)))):
            Spy.calls = found[phase] = []
            work()
    return found


def whole(window, H, first, last):
    """All kernel rows at all output rows, as one run."""
    return [(slice(0, last - first), slice(0, window.kernel[0]))]


@pytest.mark.parametrize("name, kind", PAIRS)
def test_multiply_adds_are_those_of_the_products_made(name, kind, monkeypatch):
    """With those rows of a kernel that see nothing but padding, which convolutions leave out."""
    monkeypatch.setattr(conv, "rows_by_taps", whole)
    net, loss = KINDS[kind](1), loss_of(name)
    rule = registry.make(name).attach(net, 1)
    counted = cost(net, rule, loss, *batch(net)).by("phase")
    for phase, calls in products(net, rule, loss=loss).items():
        assert sum(map(size, calls)) == counted.get(phase, Counts()).multiply_adds, phase
    assert counted["forward"].multiply_adds > 0 < counted["credit"].multiply_adds


@pytest.mark.parametrize("kind", ["stride", "map", "norm", "residual"])
def test_rows_of_a_kernel_that_see_only_padding_are_left_out(kind):
    net = KINDS[kind](1)
    counted, made = of(net).by("phase"), products(net, registry.make("backprop").attach(net, 1))
    share = {phase: sum(map(size, made[phase])) / counted[phase].multiply_adds for phase in ("forward", "credit")}
    assert 0.5 < share["forward"] < 1 and (share["credit"] < 1) == (kind == "residual")     # where a convolution sends


def test_without_padding_the_way_down_may_multiply_more_than_is_counted(monkeypatch):
    """A convolution's adjoint is counted at its outputs; made as a convolution of d it multiplies at every input."""
    monkeypatch.setattr(conv, "rows_by_taps", whole)
    net = Sequential(conv1=Conv2d(3, 3), act=Tanh(), conv2=Conv2d(4, 3, padding="valid"), flatten=Flatten(),
                     fc=Dense(5)).build((6, 6, 2), 1)
    for name, wanted in (("dfa", 1), ("backprop", (6 * 6) / (4 * 4))):
        rule = registry.make(name).attach(net, 1)
        counted, made = of(net, rule), products(net, rule)
        assert sum(map(size, made["forward"])) == adds(counted, phase="forward")
        more = sum(map(size, made["credit"])) - adds(counted, phase="credit")
        assert 0 <= more <= (wanted - 1) * adds(counted, phase="credit", layer="conv2", operation="adjoint")


# -- closed forms -----------------------------------------------------------------------------------------------------

WEIGHTS = [n * m for n, m in zip(WIDE[1:], WIDE, strict=False)]


def test_backprop_on_a_perceptron():
    counted = of(small_mlp())
    assert adds(counted, phase="forward") == N * sum(WEIGHTS)
    assert adds(counted, phase="credit") == 2 * N * sum(WEIGHTS) - N * WEIGHTS[0]
    assert adds(counted, phase="learning") == adds(counted, phase="offline") == 0
    assert counted.total.multiply_adds == 3 * N * sum(WEIGHTS) - N * WEIGHTS[0]
    for layer, weight in zip(("fc1", "fc2", "fc3"), WEIGHTS, strict=True):
        assert adds(counted, layer=layer, operation="apply") == N * weight
        assert adds(counted, layer=layer, operation="outer") == N * weight
        assert adds(counted, layer=layer, operation="adjoint") == (N * weight if layer != "fc1" else 0)


@pytest.mark.parametrize("name", ["fa", "kp", "usf", "brsf", "frsf", "shuffled"])
@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_a_matrix_in_the_place_of_the_weight_multiplies_as_backprop_does(name, build):
    mine, theirs = of(build(1), name).by("phase"), of(build(1)).by("phase")
    assert {k: v.multiply_adds for k, v in mine.items()} == {k: v.multiply_adds for k, v in theirs.items()}
    assert sum(mine[phase].bytes for phase in mine) >= sum(theirs[phase].bytes for phase in theirs)


def test_direct_feedback_alignment_costs_a_product_with_the_output_error():
    counted, exact = of(small_mlp(), "dfa"), of(small_mlp())
    assert adds(counted, phase="credit") == N * sum(WEIGHTS) + N * WIDE[-1] * (WIDE[1] + WIDE[2])
    assert adds(counted, operation="product") == adds(counted, operation="product", phase="credit")
    assert counted.over(exact).multiply_adds == counted.total.multiply_adds / exact.total.multiply_adds < 1


def test_frozen_layers_cost_no_adjoint():
    counted, exact = of(small_mlp(), "frozen"), of(small_mlp())
    assert adds(counted, operation="adjoint") == 0
    assert moved(counted, "act1", "backward", "credit") == 4 * 2 * N * WIDE[1]      # what is cut takes no memory
    assert moved(exact, "act1", "backward", "credit") == 4 * 3 * N * WIDE[1]


def test_product_feedback_alignment_direct_and_collapsed():
    expand, shapes = 3, list(zip(WIDE[1:], WIDE, strict=False))
    exact = of(small_mlp())
    direct = of(small_mlp(), ProductFeedbackAlignment(expand=expand, path="direct"))
    collapsed = of(small_mlp(), ProductFeedbackAlignment(expand=expand, path="collapsed"))
    mixing, wide = [n * expand * n for n, _ in shapes], [expand * n * m for n, m in shapes]
    assert adds(direct, operation="mix") == N * sum(mixing)        # once, to learn and to send
    assert adds(direct, operation="outer") == N * sum(WEIGHTS) + N * sum(wide)
    assert adds(direct, operation="adjoint") == N * sum(wide[1:])
    assert adds(direct, operation="widen") == 0
    assert adds(collapsed, operation="widen", phase="credit") == sum(n * w for (n, _), w in zip(shapes[1:], wide[1:],
                                                                                                   strict=True))
    assert adds(collapsed, operation="widen", phase="learning") == sum(n * w for (n, _), w in zip(shapes, wide,
                                                                                                     strict=True))
    assert adds(collapsed, operation="widen", phase="learning", layer="fc2") == shapes[1][0] * wide[1]
    for operation in ("apply", "outer", "adjoint"):
        assert adds(collapsed, operation=operation) == adds(exact, operation=operation)
    assert adds(collapsed, operation="mix") == 0


@pytest.mark.parametrize("layer, weights", [
    (Conv2d(6, (3, 2), stride=(2, 1)), 3 * 7 * 6 * 6 * 4),              # 5 x 7 -> 3 x 7
    (Conv2d(6, 3, padding="valid", dilation=2), 1 * 3 * 6 * 9 * 4),
    (Conv2d(6, 3, groups=2), 5 * 7 * 6 * 9 * 2),
    (Conv2d(4, 3, groups=4), 5 * 7 * 4 * 9),
    (LocallyConnected2d(3, (2, 3), stride=2), 3 * 4 * 3 * 6 * 4)],
    ids=["stride", "dilation", "groups", "depth", "local"])
def test_windows_count_every_tap_at_every_output(layer, weights):
    net = Sequential(first=Port(), norm=BatchNorm(), layer=layer, flatten=Flatten(), fc=Dense(3)).build((5, 7, 4), 1)
    counted = of(net)
    for operation in ("apply", "adjoint", "outer"):
        assert adds(counted, layer="layer", operation=operation) == N * weights
    wider = of(net, ProductFeedbackAlignment(expand=2, path="direct"))
    assert adds(wider, layer="layer", operation="adjoint") == 2 * N * weights
    assert adds(wider, layer="layer", operation="outer") == 3 * N * weights


def test_a_layer_used_twice_is_counted_where_it_is_used():
    shared = Conv2d(2, 3)
    net = Sequential(one=shared, act=Tanh(), pool=MaxPool2d(2), two=shared, mean=GlobalAvgPool(),
                     fc=Dense(3)).build((4, 6, 2), 1)
    counted = of(net)
    assert adds(counted, layer="one", operation="apply") == N * 9 * 2 * 2 * (4 * 6 + 2 * 3)
    assert adds(counted, layer="one", operation="outer") == N * 9 * 2 * 2 * (4 * 6 + 2 * 3)


def test_what_is_turned_round_is_counted_once():
    net = small_mlp()
    back = Transposed(net.layers[3])
    turned = Sequential(*net.layers[:4], back=back, fc=Dense(4)).build(WIDE[0], 1)
    counted = of(turned)
    for operation in ("apply", "adjoint", "outer"):
        assert adds(counted, layer="back", operation=operation) == N * WEIGHTS[1]
        assert adds(counted, layer="3", operation=operation) == N * WEIGHTS[1]


@pytest.mark.parametrize("name", ["backprop", "pfa", "dfa", "kp", "brsf"])
@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_how_a_batch_is_cut_and_who_computes_it_change_no_count(name, build):
    net = build(1)
    cut = of(net, name)
    assert net.chunk(N) < N
    lanes.use(3)
    try:
        assert of(net, name).parts == cut.parts
    finally:
        lanes.use(1)
    net.column_bytes = 0
    whole = of(net, name)                               # what all chunks read, B of DFA, is read once
    assert net.chunk(N) == N and {part: (c.multiply_adds, c.draws) for part, c in whole.parts.items()} == \
        {part: (c.multiply_adds, c.draws) for part, c in cut.parts.items()}
    assert name == "dfa" or whole.parts == cut.parts


# -- draws ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
@pytest.mark.parametrize("name", QUIET)
def test_nothing_is_drawn_where_nothing_is_random(name, build):
    assert of(build(1), name).total.draws == 0


def test_draws_are_the_units_of_dropout_the_magnitudes_of_a_batch_and_the_deal_of_a_control():
    net = Sequential(fc1=Dense(7), drop=Dropout(0.5), fc2=Dense(9), act=ReLU(), fc3=Dense(4)).build(5, 1)
    assert of(net).by("layer", "operation")["drop", "draw"].draws == of(net).total.draws == 7 * N
    assert of(net, "brsf").total.draws == 7 * N + 7 * 9 + 9 * 4
    assert of(net, "shuffled").by("phase")["credit"].draws == 2 * N


class Noisy(Rule):
    """A rule of another package, with a generator of its own."""

    def attach(self, net, seed=0, layers=None):
        super().attach(net, seed, layers)
        self.rng = np.random.default_rng(seed)
        return self

    def learn(self, net, tape):
        net.arena.value[:6] += self.rng.standard_normal(6)
        self.rng.shuffle([1, 2, 3])


def test_a_generator_that_a_rule_holds_is_counted_and_put_back():
    net = small_mlp()
    rule = Noisy().attach(net, 4)
    before = rule.rng.bit_generator.state
    assert cost(net, rule, LOSS, *batch(net)).by("phase")["learning"].draws == 6 + 3
    assert type(rule.rng) is np.random.Generator and rule.rng.bit_generator.state == before


# -- bytes ------------------------------------------------------------------------------------------------------------

def test_bytes_of_a_dense_layer_and_its_activation():
    counted, (m, n, _, _) = of(small_mlp()), WIDE
    x, a, W, b = N * m, N * n, n * m, n
    assert moved(counted, "fc1", "apply", "forward") == 4 * (x + W + a)
    assert moved(counted, "fc1", "forward", "forward") == 4 * b         # a is written once, bias and all
    assert moved(counted, "act1", "forward", "forward") == 4 * (a + a)
    assert moved(counted, "act1", "backward", "credit") == 4 * (a + a + a)
    assert moved(counted, "fc1", "outer", "credit") == 4 * (x + a + W)
    assert moved(counted, "fc1", "over_bias", "credit") == 4 * (a + b)
    assert ("forward", "flatten", "forward") not in counted.parts       # a view


def test_bytes_of_layers_that_keep_something():
    net = Sequential(conv=Conv2d(3, 3), drop=Dropout(0.5), pool=MaxPool2d(2), norm=BatchNorm(), flatten=Flatten(),
                     fc=Dense(4)).build((4, 4, 2), 1)
    counted, a, p = of(net), N * 16 * 3, N * 4 * 3
    assert moved(counted, "conv", "apply", "forward") == 4 * (N * 16 * 2 + 9 * 2 * 3 + a)
    assert moved(counted, "drop", "forward", "forward") == 4 * (a + a + a)      # x, the mask, y
    assert moved(counted, "drop", "backward", "credit") == 4 * (a + a + a)
    assert moved(counted, "pool", "forward", "forward") == 4 * (a + p) + a      # and a byte for each: who won
    assert moved(counted, "pool", "backward", "credit") == 4 * (p + a) + a      # d, dx, who won
    assert 4 * (2 * p) < moved(counted, "norm", "forward", "forward") <= 4 * (3 * p + 30)
    assert 4 * (3 * p) < moved(counted, "norm", "backward", "credit") <= 4 * (3 * p + 30)


def test_bytes_of_a_sum_of_branches():
    net = Sequential(fc=Dense(6), block=Residual(act=Tanh()), out=Dense(3)).build(5, 1)
    counted = of(net)
    assert moved(counted, "block", "elementwise", "forward") == moved(counted, "block", "elementwise", "credit") \
        == 3 * 4 * N * 6


def test_bytes_of_a_signal_that_is_the_same_everywhere():
    net = Sequential(first=Conv2d(3, 3), act=Tanh(), conv=Conv2d(6, 3), mean=GlobalAvgPool(),
                     fc=Dense(4)).build((4, 4, 2), 1)
    counted = of(net, "dfa:form=biotorch")
    assert adds(counted, layer="conv", operation="adjoint") == N * 16 * 4 * 9 * 3
    assert moved(counted, "conv", "adjoint", "credit") == 4 * (N * 4 + 9 * 3 * 4 + N * 16 * 3)


class Scale(Layer):
    """A layer of another package: y = tanh(s x), with a layer inside that it tells nobody of."""

    def make(self, ground):
        self.scale, self.inner = Param(ground.put(np.ones(1))), Tanh()

    def params(self):
        return {"scale": self.scale}

    def forward(self, x, tape=None):
        tape.keep(self, x)
        return self.inner.forward(self.scale.value * x, tape)

    def backward(self, d, tape):
        x, d = tape.take(self), self.inner.backward(d, tape)
        tape.add(self.scale, (d * x).sum())
        return self.scale.value * d


def test_bytes_of_a_layer_are_all_that_it_reads_and_writes():
    counted = of(Sequential(fc1=Dense(7), scale=Scale(), fc2=Dense(3)).build(5, 1))
    up, down = 2 * 7 * N + 1, 4 * 7 * N + 2             # x, y and s; d, x, y, dx, s and its gradient
    assert counted.by("layer")["scale"].bytes == 4 * (up + down)
    assert "" in counted.by("layer") and len(counted.by("layer")) == 4


@pytest.mark.parametrize("make, arrays", [
    (lambda arena: SGD(arena, 0.1), 3), (lambda arena: SGD(arena, 0.1, momentum=0.9), 5),
    (lambda arena: SGD(arena, 0.1, decay=0.1, decay_bias=False), 4), (lambda arena: Adam(arena), 7)],
    ids=["plain", "momentum", "mask", "adam"])
def test_bytes_of_an_optimiser_are_those_of_its_arena(make, arrays):
    net = small_mlp()
    assert of(net, optimiser=make(net.arena)).by("phase")["learning"].bytes == arrays * net.arena.nbytes
    rule = registry.make("kp").attach(net, 1)
    also = arrays - (arrays == 4)                       # feedback has no bias to spare
    assert cost(net, rule, LOSS, *batch(net), make(net.arena)).by("phase")["learning"].bytes \
        == arrays * net.arena.nbytes + also * rule.state.nbytes


def test_a_rule_pays_for_the_arithmetic_of_its_feedback():
    """uSF: sign(W) reads W and writes the signs, times s reads and writes once more."""
    counted, exact = of(small_mlp(), "usf"), of(small_mlp())
    assert counted.total.bytes - exact.total.bytes == 4 * 4 * sum(WEIGHTS[1:])


# -- no trace ---------------------------------------------------------------------------------------------------------

def state(net, rule, optimiser):
    """Bytes of all that a step may move, and what hangs on every object."""
    held = {f"net {i}": x.tobytes() for i, x in enumerate((net.arena.value, net.arena.grad))}
    for layer in everything(net):
        held |= {f"{layer.path} {name}": x.tobytes() for name, x in layer.buffers().items()}
    held |= {name: x.tobytes() for name, x in rule.arrays().items()}
    held |= {f"rule {i}": arena.grad.tobytes() for i, arena in enumerate(rule.states())}
    for name, each in {"forward": optimiser, **rule.optimisers()}.items():
        held |= {f"{name} {slot}": x.tobytes() for slot, x in each.state().items()}
    objects = [rule, optimiser, *rule.optimisers().values(), *everything(net), *net.arena.params,
               *(layer.feedback for layer in weighted(net))]
    return held, [(x, dict(vars(x))) for x in objects]


def same(found, wanted):
    assert found[0] == wanted[0]
    for (mine, now), (theirs, then) in zip(found[1], wanted[1], strict=True):
        assert mine is theirs and now.keys() == then.keys() and all(now[name] is then[name] for name in now)


def trained(build, name, optimise, loss=LOSS):
    """Net, rule and optimiser after two steps."""
    net = build(1)
    rule, optimiser = registry.make(name).attach(net, 1), optimise(net.arena)
    rule.follow(optimiser)
    tape, optimiser.epoch = Tape(net, loss), 2
    for seed in range(2):
        tape.begin(*batch(net, seed=seed), seed=seed).run(rule)
        rule.assign(net, tape)
        optimiser.step()
        rule.learn(net, tape)
    return net, rule, optimiser


OPTIMISERS = {"sgd": lambda arena: SGD(arena, 0.05, momentum=0.9, decay=0.02), "adam": Adam}


@pytest.mark.parametrize("optimise", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("name, kind", PAIRS)
def test_counting_leaves_no_trace(name, kind, optimise):
    loss = loss_of(name)
    net, rule, optimiser = trained(KINDS[kind], name, optimise, loss)
    before = state(net, rule, optimiser)
    first = cost(net, rule, loss, *batch(net), optimiser)
    same(state(net, rule, optimiser), before)
    assert cost(net, rule, loss, *batch(net), optimiser).parts == first.parts
    cost(net, rule, loss, *batch(net))                  # with an optimiser of its own
    same(state(net, rule, optimiser), before)


@pytest.mark.parametrize("where", ["forward", "assign", "learn", "phase"])
def test_an_error_leaves_no_trace_either(where, monkeypatch):
    net, rule, optimiser = trained(NETS["norm"], "pfa", OPTIMISERS["sgd"])
    before, streams = state(net, rule, optimiser), sys.modules["nplearn.tape"].stream
    target = leaves(net)[-2] if where == "forward" else rule
    true = getattr(target, where)

    def fails(*args):
        true(*args)
        raise RuntimeError("on purpose")
    with monkeypatch.context() as patch:
        patch.setattr(type(target), where, lambda self, *args: fails(*args))
        with pytest.raises(RuntimeError, match="on purpose"):
            cost(net, rule, LOSS, *batch(net), optimiser)
    same(state(net, rule, optimiser), before)
    assert sys.modules["nplearn.tape"].stream is streams


class Telling(Optimiser):
    """Moves W along G, and says where to."""

    def __init__(self, arena):
        super().__init__(arena, 0.05, 0)

    def update(self, W, G, block, now, t, u):
        W -= 0.05 * G
        TOLD.append(W.tobytes())


TOLD = []


@pytest.mark.parametrize("name, kind", PAIRS)
def test_the_step_that_is_watched_is_the_real_one(name, kind):
    net, loss = KINDS[kind](1), loss_of(name)
    rule, optimiser = registry.make(name).attach(net, 1), Telling(net.arena)
    TOLD.clear()
    cost(net, rule, loss, *batch(net), optimiser)
    watched = list(TOLD)
    TOLD.clear()
    rule.follow(optimiser)
    step(net, rule, loss, optimiser, *batch(net))
    assert watched == TOLD != []


# -- rules and layers of others ---------------------------------------------------------------------------------------

class Own(Feedback):
    """B' d without an operator."""

    def __init__(self, B):
        self.B = B

    def carry(self, layer, d, x, tape):
        return self.B.T @ d


class OwnRule(Rule):
    def feedback(self, layer, rng):
        return Own(layer.draw(rng))


def test_products_in_a_rule_s_own_code_are_counted():
    counted = of(small_mlp(), OwnRule())
    assert adds(counted, operation="adjoint") == 0
    assert adds(counted, layer="fc2", operation="product") == N * WEIGHTS[1]
    assert moved(counted, "fc2", "product", "credit") == 4 * (N * WIDE[2] + WEIGHTS[1] + N * WIDE[1])


A, B3, C3 = np.ones((4, 3)), np.ones((3, 5)), np.ones((2, 3, 5))


@pytest.mark.parametrize("product, wanted", [
    (lambda a: a @ B3, 60), (lambda a: a @ C3, 120), (lambda a: a @ B3[:, 0], 12),
    (lambda a: B3.T.view(type(a)) @ a.T, 60), (lambda a: A.view(type(a)) @ B3, 0),
    (lambda a: np.matmul(a, B3, out=np.empty((4, 5))), 60), (lambda a: np.dot(a, B3), 60), (lambda a: a.dot(B3), 60),
    (lambda a: a.dot(B3, np.empty((4, 5))), 60), (lambda a: np.dot(a, C3), 120), (lambda a: np.inner(a, B3.T), 60),
    (lambda a: np.tensordot(a, C3, axes=(1, 1)), 120), (lambda a: np.tensordot(a, A, 2), 12),
    (lambda a: np.linalg.multi_dot([a, B3]), 60), (lambda a: np.einsum("ij,jk", a, B3), 60),
    (lambda a: np.einsum("ij, ...jk -> ...ik", a, C3), 120), (lambda a: np.einsum("tjk,tij->tik", C3, a[None]), 120),
    (lambda a: np.einsum("ij,jk->ik", A, B3, out=a @ B3), 120),
    (lambda a: a * a, 0), (lambda a: np.vecdot(a, a), 0), (lambda a: a.sum(axis=0), 0), (lambda a: np.divmod(a, 2), 0),
    (lambda a: np.add.at(a, 0, 1), 0), (lambda a: np.asarray(a) @ B3, 0)])
def test_products_have_many_names(product, wanted):
    watch = Watch()
    found = product(watch.see(A.copy()))
    assert Cost(summed(watch.notes)).total.multiply_adds == wanted
    assert found is None or np.array_equal(found, product(A.copy()))


class TwoPasses(Rule):
    """A walk of its own: a second pass of the batch, products of weights, and off-line work when it is due."""

    def assign(self, net, tape):
        again = tape.again()
        again.run(net)
        net.backward(again.error, again)

    def learn(self, net, tape):
        fc1, _, fc2, *_ = (layer for layer in leaves(net) if layer.params() or layer.path == "act1")
        fc2.weight.value @ fc1.weight.value

    def phase(self, net, batches):
        tape = next(batches)
        net.forward(tape.input)
        assert tape.mode == "probe" and (batches.step, batches.epoch) == (1, 0)


def test_a_walk_of_its_own_is_counted_in_its_phases():
    counted = of(small_mlp(), TwoPasses())
    assert adds(counted, phase="forward") == adds(counted, phase="offline") == N * sum(WEIGHTS)
    assert adds(counted, phase="credit") == 3 * N * sum(WEIGHTS) - N * WEIGHTS[0]
    assert adds(counted, phase="learning", layer="") == WIDE[2] * WIDE[1] * WIDE[0]


class Gram(Layer):
    """A container of another package, with products of its own."""

    def __init__(self):
        self.inner = Tanh()

    def children(self):
        return {"inner": self.inner}

    def place(self, path, in_shape, ground):
        self.path, self.in_shape, self.out_shape = path, in_shape, in_shape
        self.inner.place(f"{path}.inner", in_shape, ground)
        return in_shape

    def forward(self, x, tape=None):
        return self.inner.forward(np.matmul(x, np.swapaxes(x, 1, 2)) @ x, tape)

    def backward(self, d, tape):
        return self.inner.backward(d, tape)


def test_a_container_s_own_products_are_counted():
    counted = of(Sequential(fc1=Dense(7), gram=Gram(), fc2=Dense(3)).build(5, 1))
    assert adds(counted, layer="gram") == adds(counted, layer="gram", operation="product") == 2 * 7 * 7 * N


# -- what a user sees -------------------------------------------------------------------------------------------------

def test_sums_agree_however_they_are_cut():
    counted = of(NETS["residual"](1), "pfa")
    for keys in [("phase",), ("layer",), ("operation",), ("phase", "operation"), ("operation", "phase", "layer"), ()]:
        parts = counted.by(*keys).values()
        assert Counts(*map(sum, zip(*parts, strict=True))) == counted.total
    assert list(counted.by("phase")) == ["forward", "credit", "learning"]
    assert set(counted.by("layer")) <= {layer.path for layer in everything(NETS["residual"](1))}
    assert counted.by("phase", "layer", "operation") == counted.parts


def test_a_table_has_a_line_for_each_sum_and_the_total():
    counted = Cost({("forward", "fc", "apply"): Counts(1200, 48, 0), ("credit", "", "draw"): Counts(0, 4, 1)})
    assert counted.table("phase") == ("phase    multiply_adds  bytes  draws\n"
                                      "forward          1,200     48      0\n"
                                      "credit               0      4      1\n"
                                      "total            1,200     52      1")
    assert str(counted) == counted.table("phase", "operation")
    assert counted.table() == "multiply_adds  bytes  draws\n        1,200     52      1"
    assert counted.over(counted) == (1, 1, 1)
    assert isnan(counted.over(Cost({})).bytes) and Cost({}).total == (0, 0, 0)


def test_the_example_in_the_documentation():
    failed, ran = doctest.testmod(sys.modules[cost.__module__])
    assert ran >= 6 and failed == 0


def test_what_cannot_be_counted_is_refused():
    net, other = small_mlp(), small_mlp()
    with pytest.raises(BuildError, match="not attached"):
        cost(net, Backprop(), LOSS, *batch(net))
    rule = FeedbackAlignment().attach(net, 1)
    with pytest.raises(BuildError, match="net.arena"):
        cost(net, rule, LOSS, *batch(net), SGD(other.arena, 0.1))
    with pytest.raises(SettingError, match="phase, layer, operation"):
        cost(net, rule, LOSS, *batch(net)).by("rule")
    net.device = SimpleNamespace(name="gpu", xp=None)
    with pytest.raises(SettingError, match="on the CPU"):
        cost(net, rule, LOSS, *batch(net))


# -- time -------------------------------------------------------------------------------------------------------------

def conv_net():
    return Sequential(conv1=Conv2d(32, 3), act1=ReLU(), pool=MaxPool2d(2), conv2=Conv2d(64, 3), norm=BatchNorm(),
                      act2=ReLU(), conv3=Conv2d(64, 3, stride=2), act3=ReLU(), flatten=Flatten(), fc1=Dense(256),
                      act4=ReLU(), fc2=Dense(10)).build((16, 16, 3), 1)


def times(calls, rounds):
    """{call: seconds of one product of these operands, alone and as they lay}: the best of interleaved rounds."""
    def laid_out(shape, strides):
        size = 1 + sum((n - 1) * abs(step) // 4 for n, step in zip(shape, strides, strict=True))
        room = workspace.empty(np, (size,), np.float32)
        room[...] = rng.standard_normal(room.shape)
        return np.lib.stride_tricks.as_strided(room, shape, [abs(step) for step in strides])

    rng, best = np.random.default_rng(0), dict.fromkeys(calls, np.inf)
    operands = {call: [laid_out(*x) for x in call[1:]] for call in calls}
    for _ in range(rounds):
        for call, (a, b, result) in operands.items():
            start = time.perf_counter()
            np.dot(a, b) if call[0] is np.dot else np.matmul(a, b, out=result)
            best[call] = min(best[call], time.perf_counter() - start)
    return best


@pytest.mark.long
@pytest.mark.parametrize("build", [lambda: mlp(10, hidden=(512, 512)).build(784, 1), conv_net], ids=["mlp", "conv"])
def test_products_take_the_time_that_is_counted(build, capsys):
    """To 10 %, time over backprop's is the counted ratio. Equal calls are timed once: for FA and KP it is exact."""
    counted, made = {}, {}
    for name in ("backprop", "fa", "dfa", "kp", "pfa", "pfa-o"):
        net = build()
        rule = registry.make(name).attach(net, 1)
        counted[name] = of(net, rule, n=128)
        made[name] = Counter(call for calls in products(net, rule, n=128).values() for call in calls)
    blas_threads(1)
    best = times(list(dict.fromkeys(call for calls in made.values() for call in calls)), rounds=25)
    seconds = {name: sum(n * best[call] for call, n in calls.items()) for name, calls in made.items()}
    with capsys.disabled():
        for name in made:
            ratio, took = counted[name].over(counted["backprop"]).multiply_adds, seconds[name] / seconds["backprop"]
            print(f"\n{name}: counted {ratio:.3f}, took {took:.3f}", end="")
    for name in made:
        ratio = counted[name].over(counted["backprop"]).multiply_adds
        assert seconds[name] / seconds["backprop"] == pytest.approx(ratio, rel=0.1), name


def test_what_a_step_holds_grows_with_the_batch_and_with_what_a_rule_keeps():
    def of_rule(rule, n):
        net = mlp(10, hidden=(64, 32)).build(100, 1, np.float64)
        inputs, labels = np.ones((n, 100)), np.zeros(n, int)
        before = state(net, made := rule.attach(net, 1), optimiser := SGD(net.arena, 0.1))
        found = held(net, made, LOSS, inputs, labels, optimiser)
        same(state(net, made, optimiser), before)
        assert not tracemalloc.is_tracing()
        return found
    small, large = (of_rule(Backprop(), n) for n in (64, 512))
    activities = 8 * (64 + 32 + 10)                     # bytes a sample, before and after each nonlinearity or so
    assert activities * 448 < large - small < 6 * activities * 448
    assert of_rule(TwoPasses(), 512) > large + activities * 512


def test_several_steps_hold_what_is_due_after_some_of_them():
    net = small_mlp()
    rule = registry.make("rf-sleep:wake=5,sleep=3").attach(net, 1)
    one, ten = (cost(net, rule, LOSS, *batch(net), steps=n) for n in (1, 10))
    assert "offline" not in one.by("phase") or one.by("phase")["offline"].multiply_adds == 0
    assert ten.by("phase")["forward"].multiply_adds == 10 * one.by("phase")["forward"].multiply_adds
    asleep = ten.by("phase")["offline"].multiply_adds
    twice = cost(net, rule, LOSS, *batch(net), steps=5).by("phase")["offline"].multiply_adds
    assert asleep == 2 * twice > 0

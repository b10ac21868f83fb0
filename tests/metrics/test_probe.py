"""The probe against two backward passes done by hand or apart, against theory, and against its own absence."""
import math

import numpy as np
import pytest

from nplearn.backend import stream
from nplearn.columns import rows
from nplearn.errors import BuildError
from nplearn.layers import (
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    MaxPool2d,
    ReLU,
    Sequential,
    Tanh,
    leaves,
    weighted,
)
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import Probe
from nplearn.optim import SGD
from nplearn.rules import EXACT_TOP, FeedbackAlignment, KolenPollack, Mixed, ProductFeedbackAlignment, registry
from nplearn.tape import Tape
from nplearn.testing.trial import NETS, Trial
from tests.homes import KINDS, loss_of, pairs

STILL = "frozen", "rf", "rf-sleep", "pc-rf", "pred"     # send nothing down in the first step, or never
LOSS, NAMES = SoftmaxCrossEntropy(), registry.names(controls=True)


def degrees(a, b):
    """arccos of the cosine, in float64: right to 1e-6 degrees."""
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    return math.degrees(math.acos(max(-1.0, min(1.0, a @ b / math.sqrt((a @ a) * (b @ b))))))


def batch(net, n=8, seed=0):
    rng = np.random.default_rng(seed)
    h = net.in_shape
    shape = (h[0], h[2], h[1]) if len(h) == 3 else h
    return rng.standard_normal((n, *shape)), rng.integers(net.out_shape[0], size=n)


def measured(net, rule, seed=0, n=8, loss=LOSS):
    return Probe(net, rule, loss, *batch(net, n, seed), seed=seed).measure()


# -- what it says -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_backprop_is_at_no_angle_to_itself(build):
    net = build(1)
    for layer in measured(net, registry.make("backprop").attach(net, 1)):
        assert layer["gradient_angle"] == layer["delta_angle"] == layer["delta_angle_samples"] == 0
        assert layer["gradient_norm"] == layer["gradient_norm_backprop"] > 0
        assert layer["delta_norm"] == layer["delta_norm_backprop"] > 0
        if layer["sends"]:
            assert layer["weight_angle"] == 0 and layer["norm_ratio"] == layer["sign_agreement"] == 1
        else:
            assert math.isnan(layer["weight_angle"])


def test_every_number_is_that_of_two_walks_by_hand():
    net = Sequential(fc1=Dense(7), act1=Tanh(), fc2=Dense(6), act2=Tanh(), fc3=Dense(4)).build((5,), 3, np.float64)
    rule = registry.make("fa").attach(net, 8)
    x, labels = batch(net, 9)
    (W1, b1), (W2, b2), (W3, b3) = ((p.weight.value, p.bias.value) for p in weighted(net))
    h1 = np.tanh(W1 @ x.T + b1)
    h2 = np.tanh(W2 @ h1 + b2)
    y = W3 @ h2 + b3
    p = np.exp(y) / np.exp(y).sum(axis=0)
    p[labels, np.arange(9)] -= 1
    walks = []
    for B2, B3 in ((net.layers[2].feedback.matrix.value, net.layers[4].feedback.matrix.value), (W2, W3)):
        d3 = p / 9
        d2 = (1 - h2**2) * (B3.T @ d3)
        d1 = (1 - h1**2) * (B2.T @ d2)
        walks.append([(d1, d1 @ x), (d2, d2 @ h1.T), (d3, d3 @ h2.T)])
    report = Probe(net, rule, LOSS, x, labels).measure()
    assert [layer["layer"] for layer in report] == ["fc1", "fc2", "fc3"]
    for layer, (d, G), (e, exact) in zip(report, *walks, strict=True):
        wanted = {"delta_angle": degrees(d, e), "gradient_angle": degrees(G, exact),
                  "delta_angle_samples": np.mean([degrees(a, b) for a, b in zip(d.T, e.T, strict=True)]),
                  "samples_left_out": 0}
        sizes = {"delta_norm": d, "delta_norm_backprop": e, "gradient_norm": G, "gradient_norm_backprop": exact}
        wanted |= {name: math.sqrt((a * a).sum()) for name, a in sizes.items()}
        wanted["gradient_norm_ratio"] = wanted["gradient_norm"] / wanted["gradient_norm_backprop"]
        assert {name: layer[name] for name in wanted} == pytest.approx(wanted, rel=1e-9, abs=3e-6)
    for layer, B, W in zip(report[1:], (net.layers[2].feedback, net.layers[4].feedback), (W2, W3), strict=True):
        B = B.matrix.value
        assert layer["weight_angle"] == pytest.approx(degrees(B, W), abs=3e-6)
        assert layer["norm_ratio"] == pytest.approx(math.sqrt((B * B).sum() / (W * W).sum()))
        assert layer["sign_agreement"] == pytest.approx(np.mean(np.sign(B) == np.sign(W)))
    assert math.isnan(report[0]["weight_angle"]) and report[0]["below_floor"] == []


@pytest.mark.parametrize("name, kind", pairs(NAMES))
def test_every_rule_is_measured_on_every_net_that_it_takes(name, kind):
    build, loss = KINDS[kind], loss_of(name)
    net, other = build(2), Trial(build, lambda: registry.make(name), seed=2, loss=loss)
    report = measured(net, registry.make(name).attach(net, 2), loss=loss)
    other.tape = Tape(other.net, loss, mode="probe").begin(*batch(net), seed=("probe", 0))
    other.tape.run(other.rule)
    mine, exact = other.assign(), other.backprop()      # two walks of another tape on another net of the same seed
    assert [layer["layer"] for layer in report] == [layer.path for layer in weighted(net)]
    for layer in report:
        G, reference = mine[layer["layer"] + ".weight"], exact[layer["layer"] + ".weight"]
        assert layer["gradient_norm_backprop"] == pytest.approx(np.linalg.norm(reference), rel=1e-12)
        if G.any():
            assert layer["gradient_angle"] == pytest.approx(degrees(G, reference), abs=3e-6)
        else:
            assert name in STILL and math.isnan(layer["gradient_angle"]) and layer["gradient_norm"] == 0
    if EXACT_TOP in other.rule.claims:
        assert report[-1]["gradient_angle"] == report[-1]["delta_angle"] == 0, "the last layer learns exactly"


@pytest.mark.parametrize("name", ["dfa", "dfa:form=biotorch", "dfa:residual=pure"])
def test_a_broadcast_has_no_weight_angle_but_a_gradient_angle(name):
    net = NETS["residual"](0)
    for layer in measured(net, registry.make(name).attach(net, 0))[:-1]:
        assert math.isnan(layer["weight_angle"]) and math.isnan(layer["norm_ratio"])
        assert 0 < layer["gradient_angle"] < 180 and 0 < layer["delta_angle"] < 180


@pytest.mark.parametrize(("rule", "angles", "within"), [
    ("usf", (30.0, 41.4, 49.5, 55.8, 60.8), 3), ("brsf", (41.4, 55.8, 65.0, 71.6, 76.3), 3),
    ("pfa:expand=10,lower=aligned", (17.5, 24.6, 29.9, 34.3, 38.0), 3), ("fa", (90,) * 5, 3)])
def test_delta_angles_follow_the_law_of_depth(rule, angles, within):
    """arccos(c^k) k layers below the output of a random relu net, c the cosine of the weight angle."""
    hidden = {f"{kind}{i}": layer for i in range(1, 6) for kind, layer in (("fc", Dense(512)), ("relu", ReLU()))}
    net = Sequential(**hidden, out=Dense(512)).build((512,), 5, np.float32)
    *below, top = measured(net, registry.make(rule).attach(net, 5), n=64)
    assert top["delta_angle"] == 0
    for found, wanted in zip(reversed(below), angles, strict=True):
        assert abs(found["delta_angle"] - wanted) < within
        assert abs(found["delta_angle_samples"] - wanted) < within


def test_a_layer_used_twice_is_measured_over_both_visits():
    twice = Dense(6)
    net = Sequential(a=Dense(6), act1=Tanh(), b=twice, act2=Tanh(), c=twice, act3=Tanh(),
                     out=Dense(3)).build((4,), 7, np.float64)
    rule = FeedbackAlignment().attach(net, 7)
    x, labels = batch(net)
    report = {layer["layer"]: layer for layer in Probe(net, rule, LOSS, x, labels).measure()}
    W, B = (twice.weight.value, net.layers[6].weight.value), (twice.feedback.matrix.value,
                                                              net.layers[6].feedback.matrix.value)
    h = [np.tanh(net.layers[0].weight.value @ x.T)]
    h += [np.tanh(W[0] @ h[0])]
    h += [np.tanh(W[0] @ h[1])]
    y = W[1] @ h[2]
    error = np.exp(y) / np.exp(y).sum(axis=0)
    error[labels, np.arange(8)] -= 1
    deltas, gradients = [], []
    for V, V_out in (B, W):
        upper = (1 - h[2]**2) * (V_out.T @ error)
        lower = (1 - h[1]**2) * (V.T @ upper)
        deltas.append(np.concatenate([upper, lower]))   # a sample's delta is that of both its visits
        gradients.append(upper @ h[1].T + lower @ h[0].T)
    assert report["b"]["delta_angle"] == pytest.approx(degrees(*deltas), abs=3e-6)
    assert report["b"]["delta_angle_samples"] == pytest.approx(
        np.mean([degrees(*pair) for pair in zip(deltas[0].T, deltas[1].T, strict=True)]), abs=3e-6)
    assert report["b"]["gradient_angle"] == pytest.approx(degrees(*gradients), abs=3e-6)


def test_a_convolution_on_maps_of_two_sizes_is_measured():
    twice = Conv2d(3, 3)
    net = Sequential(first=Conv2d(3, 3), act=Tanh(), a=twice, pool=MaxPool2d(2), b=twice, mean=GlobalAvgPool(),
                     out=Dense(4)).build((6, 4, 2), 1, np.float64)
    report = measured(net, FeedbackAlignment().attach(net, 1))
    assert [layer["layer"] for layer in report] == ["first", "a", "out"]
    assert 0 < report[1]["delta_angle"] < 180 and report[1]["samples_left_out"] == 0


def test_samples_without_a_delta_are_left_out_and_counted():
    net = Sequential(fc1=Dense(4), relu=ReLU(), fc2=Dense(3)).build((2,), 0, np.float64)
    net.layers[0].weight.value[...] = np.abs(net.layers[0].weight.value)
    rule = registry.make("usf").attach(net, 0)
    x = np.array([[1.0, 2], [-1, -2], [3, 1], [-2, -1], [-1, -1]])      # a negative row leaves every unit silent
    report = Probe(net, rule, LOSS, x, np.array([0, 1, 2, 0, 1])).measure()
    assert report[0]["samples_left_out"] == 3 and report[1]["samples_left_out"] == 0


# -- the floor --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_that_is_rounding_alone_is_flagged(dtype):
    """With one and the same input for all, dW = (sum of deltas) x', and BatchNorm makes the deltas sum to zero."""
    net = Sequential(fc1=Dense(5), norm=BatchNorm(eps=1.0), act=Tanh(), fc2=Dense(3)).build((4,), 2, dtype)
    rule = FeedbackAlignment().attach(net, 2)
    net.layers[1].shift.value[...] = 0.4                # else the output layer would see zeros
    same, labels = np.tile(np.array([[0.3, -1.1, 0.7, 2.0]]), (12, 1)), np.arange(12) % 3
    low, top = Probe(net, rule, LOSS, same, labels).measure()
    assert low["below_floor"] == ["gradient"] and top["below_floor"] == []
    assert low["delta_norm_backprop"] > 1e-3 and low["gradient_norm_backprop"] < 1e-4 * low["delta_norm_backprop"]
    other = np.random.default_rng(0).standard_normal((12, 4))
    assert all(layer["below_floor"] == [] for layer in Probe(net, rule, LOSS, other, labels).measure())


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e-12), (np.float64, 1e-60)])
def test_an_ordinary_small_gradient_is_not_flagged(dtype, scale):
    net = Sequential(fc1=Dense(6), act=Tanh(), fc2=Dense(5), act2=Tanh(), fc3=Dense(3)).build((4,), 2, dtype)
    net.layers[-1].weight.value *= scale
    report = measured(net, FeedbackAlignment().attach(net, 2))
    assert all(layer["below_floor"] == [] for layer in report)
    assert 0 < report[0]["gradient_norm_backprop"] < 100 * scale


def test_a_reference_of_zero_is_flagged_and_has_no_angle():
    net = Sequential(fc1=Dense(6), act=Tanh(), fc2=Dense(3)).build((4,), 2, np.float64)
    net.layers[-1].weight.value[...] = 0
    low, _ = measured(net, FeedbackAlignment().attach(net, 2))
    assert low["below_floor"] == ["gradient", "delta"] and math.isnan(low["gradient_angle"])
    assert low["samples_left_out"] == 8


# -- X30: it leaves no trace ------------------------------------------------------------------------------------------

MIXTURE = "a mixture"


def make(name):
    if name != MIXTURE:
        return registry.make(name)
    return Mixed({"conv*": ProductFeedbackAlignment(expand=2), "fc1": registry.make("brsf"), "*": KolenPollack()})


def noisy_net():
    return Sequential(conv=Conv2d(4, 3), norm=BatchNorm(), act1=Tanh(), drop1=Dropout(0.3), flatten=Flatten(),
                      fc1=Dense(7), norm2=BatchNorm(), act2=ReLU(), drop2=Dropout(0.5), fc2=Dense(5)
                      ).build((5, 4, 2), 4, np.float32)


def everything_of(net, rule, optimiser):
    held = {p.path: p.value for p in net.arena.params}
    held |= {f"{layer.path}.{name}": a for layer in leaves(net) for name, a in layer.buffers().items()}
    held |= {f"rule {path}": a for path, a in rule.arrays().items()}
    for name, o in {"weights": optimiser, **rule.optimisers()}.items():
        held |= {f"{name} {slot}": a for slot, a in o.state().items()}
    for i, arena in enumerate([net.arena, *rule.states()]):
        held[f"gradients {i}"] = arena.grad
    return {name: a.tobytes() for name, a in held.items()}


def trained(name, probed):
    net = noisy_net()
    rule = make(name).attach(net, 6)
    optimiser = SGD(net.arena, 0.05, momentum=0.9, decay=0.01)
    rule.follow(optimiser)
    tape, probe = Tape(net, LOSS), Probe(net, rule, LOSS, *batch(net, 9, 1))
    for step in range(20):
        tape.begin(*batch(net, 6, 100 + step), seed=(0, step))
        tape.run()
        rule.assign(net, tape)
        before = everything_of(net, rule, optimiser) if probed else None
        if probed:
            drawn = stream(0, "elsewhere").random()
            probe.measure()
            assert everything_of(net, rule, optimiser) == before
            assert stream(0, "elsewhere").random() == drawn
        optimiser.step()
        rule.learn(net, tape)
        if probed and step % 3 == 0:
            probe.measure()
    return everything_of(net, rule, optimiser), rows(net.forward(tape.input))


def takes_noise(name):
    try:
        return name == MIXTURE or bool(registry.make(name).attach(noisy_net()))
    except BuildError:
        return False


@pytest.mark.parametrize("name", [*filter(takes_noise, NAMES), MIXTURE, "pfa:path=direct", "pfa:density=0.4"])
def test_measuring_leaves_no_trace(name):
    (with_probe, output), (without, wanted) = trained(name, True), trained(name, False)
    assert [key for key in without if with_probe[key] != without[key]] == []
    assert output.tobytes() == wanted.tobytes()


def test_measuring_twice_gives_the_same_numbers():
    net = noisy_net()
    probe = Probe(net, registry.make("brsf").attach(net, 0), LOSS, *batch(net, 9, 1))
    first, second = ([{k: str(v) for k, v in layer.items()} for layer in probe.measure()] for _ in range(2))
    assert first == second

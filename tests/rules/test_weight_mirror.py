"""Weight mirrors: a mirror batch adds a multiple of W, to each layer from noise of its own, without an optimiser."""
import numpy as np
import pytest

from nplearn.backend import stream
from nplearn.columns import columns, outside, sample_std
from nplearn.errors import SettingError
from nplearn.layers import AKROUT, Conv2d, Dense, Flatten, Sequential, Sigmoid, Tanh, weighted
from nplearn.metrics.angles import angle
from nplearn.optim import SGD
from nplearn.rules import FeedbackAlignment, Mixed, WeightMirror
from nplearn.testing.trial import NETS, Batches, Trial, copies, dense_net, differ, map_net, ready, stride_net
from tests.helpers import after_steps, assert_float32_stays_and_is_near_float64, one_chunk_and_two
from tests.rules.smoke import mlp, prototypes, trained

VAR = 0.1 ** 2 / 12                                     # of the noise


class Basis(WeightMirror):
    """Mirrors with the inputs e_1, ..., e_n in place of noise: the expectation, of unit variance, exactly."""

    def uniform(self, shape, rng):
        n = int(np.prod(shape))
        return self.put(columns(np.eye(n).reshape(n, *outside(shape)) / self.amp + 0.5, self.net.chunk(n)))


class Now:
    """Batches of a moment in training; a mirror asks only when it is."""

    epoch = 0

    def __init__(self, step, per_epoch=3):
        self.step, self.per_epoch = step, per_epoch


def attached(net, **options):
    return WeightMirror(**options).attach(net, 5)


def kept(rule):
    return copies(rule.arrays())


def moved(rule, layer, before):
    return layer.feedback.matrix.value - before[f"{layer.path}.matrix"]


def noisy_biases(net, size=0.5):
    for p in net.arena.params:
        if p.kind == "bias":
            p.value[...] = size * stream(3, p.path).normal(size=p.value.shape)
    return net


# -- the expectation --------------------------------------------------------------------------------------------------

def used(rule, layer):
    """How often a sample uses each weight, counted input by input: 1 at every place of the output that it reaches."""
    n = int(np.prod(layer.in_shape))
    x = rule.put(columns(np.eye(n).reshape(n, *outside(layer.in_shape)), n))
    ones = np.ones((1, *layer.apply(x, layer.weight.value).shape[1:-1], n))
    return layer.outer(x, ones)


@pytest.mark.parametrize("net", NETS)
def test_the_expected_increment_is_the_weight_itself_with_taps_normalised(net):
    net = noisy_biases(NETS[net](1))
    rule = Basis(rate=1, amp=1, samples=1, growth="none", warm=1).attach(net, 5)
    before = kept(rule)
    rule.phase(net, Now(0))
    for layer in rule.layers:
        W, reached = layer.weight.value, used(rule, layer) > 0
        assert abs(moved(rule, layer, before) - W * reached).max() <= 1e-12 * abs(W).max()
        assert reached.mean() > 0.5                     # the others stand in the padding, whatever the input


@pytest.mark.parametrize("net", NETS)
def test_without_it_the_increment_is_the_weight_times_how_often_it_is_used(net):
    net = noisy_biases(NETS[net](1))
    rule = Basis(rate=1, amp=1, samples=1, growth="none", warm=1, tap_normalise=False).attach(net, 5)
    before = kept(rule)
    rule.phase(net, Now(0))
    for layer in rule.layers:
        wanted = used(rule, layer) * layer.weight.value
        assert abs(moved(rule, layer, before) - wanted).max() <= 1e-12 * abs(wanted).max()


def test_a_tap_in_the_corner_of_a_padded_kernel_is_used_25_times_of_36():
    net = ready(Sequential(first=Conv2d(2, 3), conv=Conv2d(4, 3), flatten=Flatten(), fc=Dense(2)), (6, 6, 1))
    rule = attached(net)
    conv = net.layers[1]
    assert np.array_equal(rule.uses[conv][1, :, :, 0], [[25, 30, 25], [30, 36, 30], [25, 30, 25]])
    assert rule.uses[weighted(net)[-1]] == 1            # a dense layer has nothing to make up for


@pytest.mark.parametrize("size, wanted", [(4, 11.4), (6, 7.1), (8, 5.2), (14, 2.9)])
def test_padding_alone_keeps_the_feedback_at_a_known_angle_from_the_weight(size, wanted):
    net = ready(Sequential(first=Conv2d(16, 1), conv=Conv2d(32, 3), flatten=Flatten(), fc=Dense(2)), (size, size, 1))
    rule, conv = attached(net), net.layers[1]
    W = conv.weight.value
    assert angle(rule.uses[conv] * W, W) == pytest.approx(wanted, abs=0.3)


@pytest.mark.parametrize("unit, slope", [("linear", lambda b: b * 0 + 1), ("tanh", lambda b: 1 - np.tanh(b) ** 2),
                                         ("sigmoid", lambda b: (1 - np.tanh(b / 2) ** 2) / 4)])
def test_small_noise_adds_rate_samples_variance_slope_w(unit, slope):
    net = noisy_biases(Sequential(a=Dense(20), act=Tanh(), b=Dense(15)).build(8, 1, np.float64))
    rule = attached(net, unit=unit, growth="none", warm=2000)
    layer, before = rule.layers[0], kept(rule)
    rule.phase(net, Now(0))
    wanted = 2000 * 0.01 * 128 * VAR * slope(layer.bias.value) * layer.weight.value
    found = moved(rule, layer, before)
    assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)
    assert 0.99 < (found * wanted).sum() / (wanted * wanted).sum() < 1.01


def test_a_relu_without_biases_mirrors_half_the_weight():
    net = Sequential(a=Dense(20), act=Tanh(), b=Dense(15, bias=False)).build(8, 1, np.float64)
    rule = attached(net, unit="relu", growth="none", warm=2000)
    layer, before = rule.layers[0], kept(rule)
    rule.phase(net, Now(0))
    wanted = 2000 * 0.01 * 128 * VAR * layer.weight.value / 2
    assert np.linalg.norm(moved(rule, layer, before) - wanted) < 0.05 * np.linalg.norm(wanted)


def test_a_batch_as_published_is_nearly_at_right_angles_to_w_and_a_centred_one_is_not():
    net = Sequential(a=Dense(20), act=Tanh(), b=Dense(15, init=AKROUT)).build(8, 1, np.float64)
    angles = {}
    for centre in (False, True):
        rule = attached(net, unit="sigmoid", growth="none", centre=centre)
        layer, found = rule.layers[0], []
        for step in range(1, 21):
            before = kept(rule)
            rule.phase(net, Now(step))
            found.append(angle(moved(rule, layer, before), layer.weight.value))
        angles[centre] = np.mean(found)
    assert 80 < angles[False] < 90 and 18 < angles[True] < 30


def test_the_response_counts_the_biases():
    """Where a logistic unit is saturated by its bias it answers to nothing."""
    net = Sequential(a=Dense(20), act=Tanh(), b=Dense(15)).build(8, 1, np.float64)
    net.layers[2].bias.value[:7] = 40
    rule = attached(net, unit="sigmoid", growth="none")
    layer, before = rule.layers[0], kept(rule)
    rule.phase(net, Now(1))
    found = moved(rule, layer, before)
    assert not found[:7].any() and found[7:].all()


# -- growth -----------------------------------------------------------------------------------------------------------

def one_increment(net, layer):
    """What a batch of the basis adds at rate 1."""
    rule = Basis(rate=1, amp=1, samples=1, growth="none", warm=1).attach(net, 5)
    before = kept(rule)
    rule.phase(net, Now(0))
    return moved(rule, layer, before)


@pytest.mark.parametrize("net", ["dense", "stride"])
def test_under_decay_the_start_fades_and_the_increments_add_up_to_a_multiple_of_w(net):
    net = NETS[net](1)
    rule = Basis(rate=0.3, amp=1, samples=1, decay=0.2, warm=17).attach(net, 5)
    before = kept(rule)
    rule.phase(net, Now(0))
    for layer in rule.layers:
        left, start = 0.8 ** 17, before[f"{layer.path}.matrix"]
        wanted = left * start + (1 - left) * 0.3 / 0.2 * one_increment(net, layer)
        rule.attach(net, 5)
        rule.phase(net, Now(0))
        assert abs(layer.feedback.matrix.value - wanted).max() <= 1e-12 * abs(wanted).max()


def test_by_itself_decay_brings_the_feedback_to_w_and_holds_it_there():
    net = dense_net(1)
    rule = attached(net, rate=0.05, warm=4000)
    assert rule.lam == pytest.approx(0.05 * 128 * VAR)
    rule.phase(net, Now(0))
    for layer in rule.layers:
        B, W = layer.feedback.matrix.value, layer.weight.value
        assert angle(B, W) < 6 and np.linalg.norm(B) == pytest.approx(np.linalg.norm(W), rel=0.05)


def test_without_control_the_feedback_grows_in_proportion_to_the_batches():
    net = dense_net(1)
    norms = []
    for warm in (1000, 2000, 4000):
        rule = attached(net, growth="none", warm=warm)
        before = kept(rule)
        rule.phase(net, Now(0))
        norms.append(np.linalg.norm(moved(rule, rule.layers[0], before)))
    assert norms[1] == pytest.approx(2 * norms[0], rel=0.05) and norms[2] == pytest.approx(4 * norms[0], rel=0.05)


@pytest.mark.parametrize("net", ["dense", "map"])
def test_renorm_leaves_a_response_to_noise_of_standard_deviation_a_half(net):
    net = NETS[net](1)
    rule = attached(net, growth="renorm", warm=1)
    rule.phase(net, Now(0))
    for layer in rule.layers:
        rng = stream(5, "mirror", 0, 0, layer.path)
        x = rule.uniform(layer.in_shape, rng)
        back = layer.adjoint(rule.uniform(layer.out_shape, rng), layer.feedback.matrix.value, x.shape)
        assert sample_std(back).mean() == pytest.approx(0.5, rel=1e-12)


def test_renorm_bounds_the_feedback_where_none_does_not():
    net, norms = dense_net(1), {}
    for growth in ("none", "renorm"):
        rule = attached(net, growth=growth, rate=1, warm=100)
        rule.phase(net, Now(0))
        first = np.linalg.norm(rule.layers[0].feedback.matrix.value)
        for step in range(1, 101):
            rule.phase(net, Now(step))
        norms[growth] = np.linalg.norm(rule.layers[0].feedback.matrix.value) / first
    assert norms["none"] > 1.8 and 0.8 < norms["renorm"] < 1.2
    assert angle(rule.layers[0].feedback.matrix.value, rule.layers[0].weight.value) < 5


# -- when, from which noise, and who moves B --------------------------------------------------------------------------

@pytest.mark.parametrize("options, wanted", [
    ({}, [5, 1, 1, 1, 1, 1, 1]), ({"warm": 2}, [2, 1, 1, 1, 1, 1, 1]), ({"warm": 0, "every": 3}, [0, 0, 0, 1, 0, 0, 1]),
    ({"every": 2}, [5, 0, 1, 0, 1, 0, 1])], ids=str)
def test_an_epoch_of_mirror_batches_comes_first_and_then_one_behind_every_update(options, wanted, monkeypatch):
    net, calls = dense_net(1), []
    rule = attached(net, **options)
    monkeypatch.setattr(rule, "mirror", lambda layer, rng: calls.append(layer.path))
    found = []
    for step in range(7):
        calls.clear()
        rule.phase(net, Now(step, per_epoch=5))
        assert calls == ["fc2", "fc3"] * (len(calls) // 2)              # fc1 sends nothing
        found.append(len(calls) // 2)
    assert found == wanted


def test_every_layer_batch_and_step_has_noise_of_its_own_and_a_key_gives_it_again():
    net, seen = Sequential(a=Dense(4), b=Dense(4), c=Dense(4)).build(4, 1, np.float64), {}
    def hear(rule, step):
        rule.mirror = lambda layer, rng: seen.setdefault((rule.seed, step, layer.path), []).append(rng.random(5))
        rule.phase(net, Now(step))
    for seed in (5, 6):
        for step in range(3):
            hear(WeightMirror().attach(net, seed), step)
    draws = np.array([draw for found in seen.values() for draw in found])
    assert len(draws) == 2 * 2 * (3 + 1 + 1) and len({row.tobytes() for row in draws}) == len(draws)
    again, seen = seen, {}
    hear(WeightMirror().attach(net, 6), 2)
    assert np.array_equal(seen[6, 2, "b"], again[6, 2, "b"])


def test_noise_is_uniform_about_zero_with_the_amplitude_as_its_width():
    net, heard = map_net(1), []
    rule = attached(net, amp=0.4, samples=500)
    layer = rule.layers[0]
    layer.apply = lambda x, W, apply=layer.apply: (heard.append(x), apply(x, W))[1]
    rule.phase(net, Now(1))
    x = heard[0]
    assert x.shape[1:-1] == layer.in_shape and x.shape[0] * x.shape[-1] == 500
    assert -0.2 <= x.min() < -0.199 and 0.199 < x.max() <= 0.2
    assert abs(x.mean()) < 0.002 and x.var() == pytest.approx(0.4 ** 2 / 12, rel=0.02)


def test_only_the_phase_moves_the_feedback_and_nothing_else_does():
    trial = Trial(dense_net, WeightMirror)
    trial.step(0)
    before, weights = copies(trial.rule.arrays()), trial.net.arena.value.copy()
    trial.run(1)
    trial.rule.assign(trial.net, trial.tape)
    trial.optimiser.step()
    trial.rule.learn(trial.net, trial.tape)
    assert not differ(trial.rule.arrays(), before) and not np.array_equal(trial.net.arena.value, weights)
    after = trial.net.arena.value.copy()
    trial.rule.phase(trial.net, Batches(trial, 2))
    assert differ(trial.rule.arrays(), before) and np.array_equal(trial.net.arena.value, after)
    assert trial.rule.optimisers() == {} and trial.rule.optimiser is None and len(trial.rule.states()) == 1


def test_at_rate_0_it_is_feedback_alignment_to_the_bit():
    wm, fa = Trial(dense_net, lambda: WeightMirror(rate=0)), Trial(dense_net, FeedbackAlignment)
    for step in range(4):
        wm.step(step)
        fa.step(step)
    assert not differ(wm.state(), fa.state())


def test_in_a_mixture_it_mirrors_the_layers_it_was_given():
    trial = Trial(dense_net, lambda: Mixed({"fc3": WeightMirror(), "*": FeedbackAlignment()}))
    before = copies(trial.rule.arrays())
    trial.step(0)
    after = trial.rule.arrays()
    assert np.array_equal(after["fc2.matrix"], before["fc2.matrix"])
    assert not np.array_equal(after["fc3.matrix"], before["fc3.matrix"])


@pytest.mark.parametrize("net", ["stride", "residual"])
@pytest.mark.parametrize("growth", ["decay", "renorm"])
def test_how_a_batch_is_cut_changes_nothing(net, growth):
    found = one_chunk_and_two(NETS[net], lambda: WeightMirror(rate=0.1, growth=growth, unit="sigmoid"),
                              lambda trial: after_steps(trial).state())
    assert not differ(*found, 1e-11)


@pytest.mark.parametrize("growth", ["none", "decay", "renorm"])
def test_in_float32_it_stays_float32_and_near_the_run_in_float64(growth):
    assert_float32_stays_and_is_near_float64(stride_net, lambda: WeightMirror(growth=growth, unit="tanh"))


def test_while_weights_learn_the_feedback_follows_them():
    start, trial = (Trial(dense_net, lambda: WeightMirror(rate=0.2),
                          optimise=lambda arena: SGD(arena, 0.05, momentum=0.9)) for _ in range(2))
    for _ in range(300):
        trial.run(0)
        trial.rule.assign(trial.net, trial.tape)
        trial.optimiser.step()
        trial.rule.phase(trial.net, Batches(trial, 1 + trial.optimiser.steps))
    for layer, first in zip(trial.rule.layers, start.rule.layers, strict=True):
        assert angle(first.feedback.matrix.value, first.weight.value) > 45
        assert angle(layer.feedback.matrix.value, layer.weight.value) < 20
        assert angle(layer.weight.value, first.weight.value) > 10


# -- options ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, says", [
    ({"unit": "step"}, "unit 'step'; expected linear or relu or tanh or sigmoid"),
    ({"growth": "some"}, "growth 'some'; expected none or decay or renorm"),
    ({"centre": "no"}, "centre 'no'; expected true or false"), ({"tap_normalise": "x"}, "tap_normalise 'x'"),
    ({"rate": -1}, "rate -1; expected a finite number of at least 0"), ({"amp": "wide"}, "amp 'wide'"),
    ({"samples": 0}, "samples 0; expected a whole number of at least 1"), ({"every": 0.5}, "every 0.5"),
    ({"warm": -1}, "warm -1"), ({"decay": 1}, "decay 1; expected a decay below 1"),
    ({"rate": 10}, "growth decay, decay 1.06.*lower the rate"), ({"decay": 0.1, "growth": "none"}, "of growth decay")])
def test_options_that_mean_nothing_are_refused(options, says):
    with pytest.raises(SettingError, match=f"WeightMirror: {says}|WeightMirror.*{says}"):
        WeightMirror(**options)


# -- learning ---------------------------------------------------------------------------------------------------------

def test_its_hidden_layers_learn_in_a_few_epochs():
    train, test = prototypes()
    net = mlp(20, 64, 64, 10)
    assert trained(WeightMirror(rate=0.1), net, train, test, lr=1e-2, epochs=8) > 0.8


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"growth": "renorm"}, {"growth": "none"}], ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_prototypes_it_comes_near_backprop(seed, options):
    train, test = prototypes()
    assert trained(WeightMirror(**options), mlp(20, 64, 64, 10, seed=seed), train, test, seed=seed) > 0.92


def test_akrouts_unit_is_the_layers_own():
    """784-500-10 has logistic outputs too, which stand in the loss: the net ends in a linear layer."""
    net = noisy_biases(Sequential(a=Dense(6), act=Sigmoid(), b=Dense(3)).build(4, 1, np.float64))
    rule = attached(net, unit="sigmoid", centre=False, growth="none", samples=9)
    layer, before = rule.layers[0], kept(rule)
    rule.phase(net, Now(4))
    x = 0.1 * (stream(5, "mirror", 4, 0, "b").random((9, 6)).T - 0.5)
    y = 1 / (1 + np.exp(-(layer.weight.value @ x + layer.bias.value)))
    assert abs(moved(rule, layer, before) - 0.01 * y @ x.T).max() < 1e-15

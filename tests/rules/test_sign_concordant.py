import numpy as np
import pytest
from hypothesis import given, settings

from nplearn.errors import SettingError
from nplearn.layers import (
    HE_FAN_OUT,
    LECUN_NORMAL,
    TORCH,
    XAVIER,
    ZERO,
    Conv2d,
    Dense,
    Flatten,
    LocallyConnected2d,
    ReLU,
    Sequential,
    Tanh,
    weighted,
)
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.rules import BatchRandomSignConcordant, FixedRandomSignConcordant, UniformSignConcordant
from nplearn.tape import Tape
from nplearn.testing.strategies import nets, seeds
from nplearn.testing.trial import NETS, Trial, angle, dense_net, differ, map_net, ready

ALL = [UniformSignConcordant, FixedRandomSignConcordant, BatchRandomSignConcordant]
BY_NAME = {"ids": lambda rule: getattr(rule, "__name__", None)}


def used(trial, tape=None):
    """The matrix that each layer sends through in this pass."""
    return {layer.path: layer.feedback.matrix(layer, tape or trial.tape) for layer in trial.rule.layers}


@pytest.mark.parametrize("rule", ALL, **BY_NAME)
@pytest.mark.parametrize("net", ["map", "residual"])
def test_feedback_has_the_signs_of_the_weights_zeros_included_at_every_step(net, rule):
    trial = Trial(NETS[net], rule)
    flips = 0
    for step in range(20):
        for layer in weighted(trial.net):
            layer.weight.value.flat[step % 3::3] = 0
        signs = {layer.path: np.sign(layer.weight.value) for layer in trial.rule.layers}
        trial.run(step)
        assert not differ({path: np.sign(B) for path, B in used(trial).items()}, signs)
        trial.step(step)
        flips += sum((np.sign(layer.weight.value) * signs[layer.path] < 0).sum() for layer in trial.rule.layers)
    assert flips > 5                                   # signs did change on the way


@pytest.mark.parametrize("rule", ALL, **BY_NAME)
def test_what_carries_is_the_matrix_that_is_said_to(rule):
    trial = Trial(map_net, rule)
    trial.run()
    for layer in trial.rule.layers:
        x = trial.tape.seen(layer)[0]
        d = np.random.default_rng(0).normal(size=(x.shape[0], *layer.out_shape, x.shape[-1]))
        wanted = layer.adjoint(d, np.sign(layer.weight.value) * abs(used(trial)[layer.path]), x.shape)
        assert np.array_equal(layer.feedback.carry(layer, d, x, trial.tape), wanted)


@settings(max_examples=10, deadline=None)
@given(nets(), seeds())
def test_usf_is_backprop_where_all_weights_have_its_magnitude(net, seed):
    trial = Trial(lambda _: net, UniformSignConcordant, seed % 1000)
    for layer in trial.rule.layers:
        layer.weight.value[...] = np.where(layer.weight.value < 0, -layer.std(), layer.std())
    trial.run()
    assert not differ(trial.assign(), trial.backprop(), 1e-12)


def test_usf_feedback_changes_only_where_a_weight_changes_sign():
    trial = Trial(dense_net, UniformSignConcordant)
    for step in range(20):
        W, B = ({layer.path: array(layer).copy() for layer in trial.rule.layers}
                for array in (lambda layer: layer.weight.value, lambda layer: layer.feedback.effective(layer)))
        trial.step(step)
        for layer in trial.rule.layers:
            changed = layer.feedback.effective(layer) != B[layer.path]
            assert np.array_equal(changed, np.sign(layer.weight.value) != np.sign(W[layer.path]))


def test_fixed_magnitudes_stay_to_the_bit_and_are_kept_unsigned():
    trial = Trial(map_net, FixedRandomSignConcordant)
    before = {path: M.copy() for path, M in trial.rule.arrays().items()}
    assert set(before) == {"local.magnitude", "fc.magnitude"} and all((M >= 0).all() for M in before.values())
    for step in range(20):
        trial.step(step)
        for layer in trial.rule.layers:
            assert np.array_equal(abs(layer.feedback.effective(layer)), before[f"{layer.path}.magnitude"])
    assert not differ(trial.rule.arrays(), before)


def test_frsf_whose_magnitudes_are_those_of_w_is_backprop_and_without_magnitudes_sends_nothing():
    trial = Trial(dense_net, FixedRandomSignConcordant)
    for layer in trial.rule.layers:
        layer.feedback.kept[...] = abs(layer.weight.value)
    trial.run()
    assert not differ(trial.assign(), trial.backprop())
    for layer in trial.rule.layers:
        layer.feedback.kept[...] = 0
    assert [bool(trial.assign()[layer.weight.path].any()) for layer in weighted(trial.net)] == [False, False, True]


def test_batchwise_magnitudes_are_a_function_of_the_step_and_of_nothing_else():
    trial, other = Trial(dense_net, BatchRandomSignConcordant), Trial(dense_net, BatchRandomSignConcordant)
    trial.run(3)
    third = used(trial)
    other.step(0)
    other.net.predict(np.ones((3, 6)))
    other.run(3)
    same = {layer.path: np.abs(M) for layer, M in zip(other.rule.layers, used(other).values(), strict=True)}
    assert not differ(same, {path: abs(B) for path, B in third.items()})
    again = trial.tape.again()
    again.run(trial.net)
    assert not differ(used(trial, again), third) and not differ(used(trial, trial.tape.walk()), third)
    trial.run(4)
    assert all(angle(abs(B), abs(third[path])) > 5 for path, B in used(trial).items())


@pytest.mark.parametrize("rule", [FixedRandomSignConcordant, BatchRandomSignConcordant], **BY_NAME)
def test_layers_of_one_shape_have_magnitudes_of_their_own(rule):
    trial = Trial(lambda seed: ready(Sequential(a=Dense(6), b=Dense(6), c=Dense(6)), (5,), seed), rule)
    trial.run()
    one, other = used(trial).values()
    assert one.shape == other.shape and angle(abs(one), abs(other)) > 5


def test_what_brsf_compares_with_w_is_one_draw_in_every_step():
    trial = Trial(dense_net, BatchRandomSignConcordant)
    first = {layer: abs(layer.feedback.effective(layer)) for layer in trial.rule.layers}
    trial.step(0)
    assert all(np.array_equal(abs(layer.feedback.effective(layer)), M) for layer, M in first.items())


def test_an_evaluation_between_two_steps_changes_no_bit_of_brsf():
    alone, watched = Trial(map_net, BatchRandomSignConcordant), Trial(map_net, BatchRandomSignConcordant)

    def look():
        watched.net.predict(np.ones((2, 6, 5, 2)))
        probe = watched.tape.again()
        probe.run(watched.net)
        watched.net.backward(probe.error, probe.walk(collects=False))
    for step in range(10):
        alone.step(step)
        watched.step(step, look)
    assert not differ(watched.state(), alone.state())


# -- scales, as published ---------------------------------------------------------------------------------------------

def layers_of(init):
    """A convolution 3x3 of 4 channels on 6, a locally connected layer, a dense one with 10 outputs."""
    net = ready(Sequential(first=Conv2d(6, 1), conv=Conv2d(4, 3, init=init), local=LocallyConnected2d(5, 2, init=init),
                           flatten=Flatten(), fc=Dense(10, init=init)), (3, 4, 1))
    return net, dict(zip(("conv", "local", "fc"), weighted(net)[1:], strict=True))


PUBLISHED = [                                           # scale, init, conv, locally connected, dense
    ("init", XAVIER, (2 / (54 + 36)) ** 0.5, (2 / (16 + 20)) ** 0.5, (2 / (60 + 10)) ** 0.5),
    ("init", TORCH, (3 * 54) ** -0.5, (3 * 16) ** -0.5, (3 * 60) ** -0.5),
    ("init", HE_FAN_OUT, (2 / 36) ** 0.5, (2 / 20) ** 0.5, (2 / 10) ** 0.5),
    ("sign-symmetry", XAVIER, (2 / 36) ** 0.5, (2 / 20) ** 0.5, 60 ** -0.5),
    (1, XAVIER, 1, 1, 1), (0.3, TORCH, 0.3, 0.3, 0.3)]


@pytest.mark.parametrize("scale, init, conv, local, fc", PUBLISHED)
def test_the_uniform_magnitude_is_as_published(scale, init, conv, local, fc):
    net, layers = layers_of(init)
    UniformSignConcordant(scale).attach(net)
    for name, s in (("conv", conv), ("local", local), ("fc", fc)):
        B = layers[name].feedback.effective(layers[name])
        np.testing.assert_allclose(abs(B), s, rtol=1e-14)


@pytest.mark.parametrize("rule", [FixedRandomSignConcordant, BatchRandomSignConcordant], **BY_NAME)
@pytest.mark.parametrize("scale, init, conv, local, fc", PUBLISHED)
def test_random_magnitudes_have_the_published_laws(rule, scale, init, conv, local, fc):
    net, layers = layers_of(init)
    rule(scale).attach(net)
    for name, s in (("conv", conv), ("local", local), ("fc", fc)):
        M = abs(layers[name].feedback.effective(layers[name]))
        noise = 4 * M.size ** -0.5                      # four standard deviations of a mean of |U| or |N|, and to spare
        if scale == "init":                             # |draw| by W's law
            assert np.sqrt((M * M).mean()) == pytest.approx(s, rel=noise)
            assert init.kind == "normal" or M.max() <= s * 3 ** 0.5
        elif scale == "sign-symmetry" and name != "fc":
            assert np.sqrt((M * M).mean()) == pytest.approx(s, rel=noise) and M.max() > s * 3 ** 0.5
        else:
            assert M.max() <= s and M.mean() == pytest.approx(s / 2, rel=noise)


def test_in_sign_symmetrys_linear_layers_the_norm_is_that_of_w_times_the_root_of_three():
    net = Sequential(a=Dense(300, init=TORCH), b=Dense(200, init=TORCH)).build((5,), dtype=np.float64)
    rule = UniformSignConcordant("sign-symmetry").attach(net)
    B, W = rule.layers[0].feedback.effective(rule.layers[0]), rule.layers[0].weight.value
    assert np.linalg.norm(B) / np.linalg.norm(W) == pytest.approx(3 ** 0.5, rel=0.01)


@pytest.mark.parametrize("init, rule, scale, degrees", [
    (XAVIER, UniformSignConcordant, "init", 30.0), (LECUN_NORMAL, UniformSignConcordant, "init", 37.071),
    (XAVIER, FixedRandomSignConcordant, "init", 41.410), (XAVIER, BatchRandomSignConcordant, "init", 41.410),
    (LECUN_NORMAL, FixedRandomSignConcordant, 1, 46.292), (LECUN_NORMAL, FixedRandomSignConcordant, "init", 50.460)])
def test_initial_angles_are_the_exact_ones(init, rule, scale, degrees):
    net = Sequential(a=Dense(512, init=init), b=Dense(512, init=init)).build((3,), dtype=np.float64)
    rule(scale).attach(net)
    layer = weighted(net)[1]
    assert angle(layer.feedback.effective(layer), layer.weight.value) == pytest.approx(degrees, abs=0.3)


def test_initial_norm_ratios_are_one_at_the_scale_of_the_draw():
    for rule in ALL:
        net = Sequential(a=Dense(300), b=Dense(200)).build((3,), dtype=np.float64)
        rule().attach(net)
        layer = weighted(net)[1]
        ratio = np.linalg.norm(layer.feedback.effective(layer)) / np.linalg.norm(layer.weight.value)
        assert ratio == pytest.approx(1, rel=0.02), rule


@pytest.mark.parametrize("rule, degrees", [(UniformSignConcordant, [30.0, 41.4, 49.5, 55.8, 60.8]),
                                           (BatchRandomSignConcordant, [41.4, 55.8, 65.0, 71.6, 76.3])], **BY_NAME)
def test_delta_angles_grow_with_depth_as_the_powers_of_the_cosine(rule, degrees):
    named = {}
    for i in range(1, 7):
        named[f"fc{i}"], named[f"act{i}"] = Dense(512, init=LECUN_NORMAL if i == 1 else XAVIER), ReLU()
    net = Sequential(**named, fc7=Dense(512)).build((512,), dtype=np.float64)
    rule().attach(net)
    rng = np.random.default_rng(0)
    tape = Tape(net, SoftmaxCrossEntropy()).begin(rng.normal(size=(64, 512)), rng.integers(512, size=64))
    tape.run(net)
    mine, true = tape.walk(records=True, collects=False), tape.walk(exact=True, records=True, collects=False)
    for walk in mine, true:
        walk.error = rng.normal(size=tape.error.shape) if walk is mine else mine.error
        net.backward(walk.error, walk)
    for k, (layer, wanted) in enumerate(zip(weighted(net)[-2::-1], degrees, strict=False), start=1):
        assert angle(mine.deltas[layer][0], true.deltas[layer][0]) == pytest.approx(wanted, abs=3), k
    assert k == 5


# -- zero weights, bad settings ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("rule", ALL, **BY_NAME)
def test_from_zero_weights_hidden_layers_never_start(rule):
    def build(seed):
        return ready(Sequential(a=Dense(7, init=ZERO), act=Tanh(), b=Dense(6, init=ZERO), act2=Tanh(),
                                c=Dense(4, init=ZERO)), (5,), seed)
    trial = Trial(build, lambda: rule(1))
    for step in range(5):
        trial.step(step)
    assert [bool(p.value.any()) for p in trial.net.arena.params] == [False] * 5 + [True]     # the top's bias alone


@pytest.mark.parametrize("rule", ALL, **BY_NAME)
@pytest.mark.parametrize("scale", ["xavier", None, [1]])
def test_a_scale_that_does_not_exist_is_refused(rule, scale):
    with pytest.raises(SettingError, match="scale .*; expected (init or sign-symmetry or a|a finite) number"):
        rule(scale)


def test_what_is_kept_is_kept():
    memory = [Trial(dense_net, rule).rule.memory() for rule in ALL]
    assert memory == [0, (7 * 9 + 4 * 7) * 8, 0]


@pytest.mark.parametrize("rule", ALL, **BY_NAME)
def test_feedback_keeps_the_precision_of_the_net(rule):
    for scale in ("init", "sign-symmetry", 1):
        net = map_net()
        net.build((6, 5, 2), dtype=np.float32)
        trial = Trial(lambda seed, net=net: net, lambda scale=scale: rule(scale))
        trial.run()
        assert all(B.dtype == np.float32 for B in used(trial).values())
        trial.step(0)

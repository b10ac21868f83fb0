import numpy as np
import pytest

from nplearn.errors import BuildError, SettingError
from nplearn.feedback import Cut
from nplearn.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    Sequential,
    Tanh,
    activities,
    stages,
    weighted,
)
from nplearn.rules import DirectFeedbackAlignment, IndirectFeedbackAlignment, registry
from nplearn.testing.trial import NETS, Trial, differ, map_net, norm_net, ready, residual_net, stride_net
from tests.helpers import deltas, one_chunk_and_two
from tests.rules.smoke import mlp, prototypes, trained


def deep(seed):
    return ready(Sequential(fc1=Dense(9), act1=Tanh(), fc2=Dense(8), act2=Tanh(), fc3=Dense(7), act3=Tanh(),
                            fc4=Dense(4)), (6,), seed)


def pooled(pool):
    def build(seed):
        return ready(Sequential(conv=Conv2d(4, 3), act1=Tanh(), pool=pool(2), conv2=Conv2d(3, 2), act2=Tanh(),
                                flatten=Flatten(), fc1=Dense(6), act3=Tanh(), fc2=Dense(5)), (6, 6, 2), seed)
    return build


def ifa(**options):
    return lambda: IndirectFeedbackAlignment(**options)


def linear(seed):
    """One hidden layer has no nonlinearity, and pooling behind it."""
    return ready(Sequential(conv=Conv2d(4, 3), act1=Tanh(), conv2=Conv2d(3, 2), pool=AvgPool2d(2), flatten=Flatten(),
                            fc1=Dense(6), act2=Tanh(), fc2=Dense(5)), (6, 6, 2), seed)


def shifted(chain, h, tape):
    """[h_2, ..., h_{L-1}] of a pass that starts at h_1."""
    found = []
    for stage in chain[:-1]:
        if stage is not chain[0]:
            for layer in [*stage.front, stage.activation] if stage.activation else stage.front:
                h = layer.forward(h, tape)
            found.append(h)
        for layer in stage.behind:
            h = layer.forward(h, tape)
    return found


# -- laws -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("net", [deep, stride_net, pooled(AvgPool2d), pooled(MaxPool2d), norm_net, linear],
                         ids=["dense", "local", "avgpool", "maxpool", "norm", "linear"])
@pytest.mark.parametrize("seed", range(2))
def test_deltas_are_the_tangent_of_the_activities_above_the_first_layer(net, seed):
    """Taken down to the weighted layer, where something stands between it and its nonlinearity."""
    trial = Trial(net, ifa(), seed)
    trial.run()
    chain, d, tape = stages(trial.net), deltas(trial), trial.tape
    h = tape.seen(chain[0].activation)[0]
    change = np.einsum("ks,tkn->tsn", trial.rule.fixed()["B"], tape.error).reshape(h.shape) * (1 - h * h)
    s = 1e-6 / abs(change).max()
    above, below = shifted(chain, h + s * change, tape.again()), shifted(chain, h - s * change, tape.again())
    assert len(above) == len(chain) - 2 >= 1
    for stage, found, up, down in zip(chain[1:], d[1:-1], above, below, strict=False):
        numeric, walk = (up - down) / (2 * s), tape.walk(collects=False)
        for layer in reversed(stage.front[1:]):
            numeric = layer.backward(numeric, walk)
        assert abs(found - numeric).max() < 1e-7 * abs(numeric).max()


def test_the_first_delta_is_the_projected_error_times_the_slope():
    trial = Trial(map_net, ifa())
    trial.run()
    B, act = trial.rule.fixed()["B"], trial.net.layers[1]
    h, e = trial.tape.seen(act)[0], trial.tape.error
    T, H, C, W, nb = h.shape
    slow = np.einsum("ks,tkn->tsn", B, e).reshape(h.shape) * (1 - h * h)
    assert B.shape == (3, H * C * W) and abs(deltas(trial)[0] - slow).max() < 1e-15
    assert 0.95 * (H * C * W) ** -0.5 < abs(B).max() <= (H * C * W) ** -0.5


@pytest.mark.parametrize("seed", range(3))
def test_with_one_hidden_layer_it_is_direct_feedback_alignment_bitwise(seed):
    def build(seed):
        return ready(Sequential(fc1=Dense(7), act=Tanh(), fc2=Dense(4)), (6,), seed)
    one, two = Trial(build, ifa(), seed), Trial(build, DirectFeedbackAlignment, seed)
    assert np.array_equal(one.rule.fixed()["B"], two.rule.fixed()["fc2.matrix"])
    for step in range(10):
        one.step(step)
        two.step(step)
    assert not differ(one.forward_state(), two.forward_state())


def test_without_hidden_layers_it_is_backprop():
    trial = Trial(lambda seed: ready(Sequential(fc=Dense(4)), (6,), seed), ifa())
    trial.run()
    assert trial.rule.fixed() == {} and not differ(trial.assign(), trial.backprop())


def test_with_fixed_carriers_each_delta_is_the_one_below_through_its_matrix():
    trial = Trial(deep, ifa(carry="B"))
    trial.run()
    kept, d = trial.rule.fixed(), deltas(trial)
    assert {path: B.shape for path, B in kept.items()} == {"B": (4, 9), "fc2.B": (8, 9), "fc3.B": (7, 8)}
    for i, path in ((1, "fc2.B"), (2, "fc3.B")):
        h = trial.tape.seen(trial.net.layers[2 * i + 1])[0]
        assert abs(d[i] - (1 - h * h) * (kept[path] @ d[i - 1])).max() < 1e-15
    assert not np.allclose(kept["fc2.B"], trial.net.layers[2].weight.value)


def test_gradients_are_outer_products_with_the_inputs_of_the_pass_and_the_last_layer_is_exact():
    trial = Trial(map_net, ifa())
    trial.run()
    chain, d, found = stages(trial.net), deltas(trial), trial.gradients()
    for stage, x, delta in zip(chain, activities(chain, trial.tape), d, strict=False):
        outer = stage.layer.outer(x.reshape(trial.tape.seen(stage.layer)[0].shape), delta)
        assert np.array_equal(found[stage.layer.weight.path], outer)
    exact = trial.backprop()
    assert not differ(found, {path: exact[path] for path in ("fc.weight", "fc.bias")})


def test_nothing_goes_down_and_no_adjoint_is_taken():
    trial = Trial(norm_net, ifa())
    for layer in weighted(trial.net):
        layer.adjoint = None
    trial.step(0)
    assert all(type(layer.feedback) is Cut for layer in trial.rule.layers)


def test_through_batchnorm_the_delta_goes_down_exactly_and_teaches_scale_and_shift():
    trial = Trial(norm_net, ifa())
    trial.run()
    walk = trial.tape.walk(records=True)
    trial.rule.assign(trial.net, walk)
    conv, norm, act, *_ = trial.net.layers
    h, B = trial.tape.seen(act)[0], trial.rule.fixed()["B"]
    d = np.einsum("ks,tkn->tsn", B, trial.tape.error).reshape(h.shape) * (1 - h * h)
    assert abs(norm.params()["shift"].grad.ravel() - d.sum(axis=(0, 1, 3, 4))).max() < 1e-14
    fresh = trial.tape.walk(collects=False)
    assert np.array_equal(walk.deltas[conv][0], norm.backward(d, fresh)) or abs(
        walk.deltas[conv][0] - norm.backward(d, trial.tape.walk(collects=False))).max() < 1e-14


@pytest.mark.parametrize("carry", ["W", "B"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["stride", "map", "norm"])
def test_how_the_batch_is_cut_changes_no_gradient_but_by_rounding(name, dtype, carry):
    def gradients(trial):
        trial.run()
        assert all(d.dtype == dtype for d in deltas(trial))
        return trial.assign()
    whole, cut = one_chunk_and_two(NETS[name], ifa(carry=carry), gradients, dtype)
    assert whole["conv.weight"].any() and not differ(cut, whole, 1000 * np.finfo(dtype).eps)


def test_dropout_masks_the_change_on_its_way_up():
    def build(seed):
        return ready(Sequential(fc1=Dense(9), act1=Tanh(), drop=Dropout(0.5), fc2=Dense(8), act2=Tanh(), fc3=Dense(4)),
                     (6,), seed)
    trial = Trial(build, ifa())
    trial.run()
    first, second, _ = deltas(trial)
    mask, h = trial.tape.seen(trial.net.layers[2])[0], trial.tape.seen(trial.net.layers[4])[0]
    assert (mask == 0).any()
    assert abs(second - (1 - h * h) * (weighted(trial.net)[1].weight.value @ (mask * first))).max() < 1e-15


# -- settings ---------------------------------------------------------------------------------------------------------

def test_a_carrier_that_does_not_exist_is_refused():
    with pytest.raises(SettingError, match="IndirectFeedbackAlignment: carry 'V'; expected W or B"):
        IndirectFeedbackAlignment(carry="V")


def test_nets_that_divide_and_norms_behind_a_nonlinearity_are_refused():
    with pytest.raises(BuildError, match="block1: a Residual"):
        IndirectFeedbackAlignment().attach(residual_net(0))
    late = Sequential(fc1=Dense(5), act=Tanh(), norm=BatchNorm(), fc2=Dense(4)).build(3)
    with pytest.raises(BuildError, match="norm: a BatchNorm behind a nonlinearity; expected none with parameters; put"):
        IndirectFeedbackAlignment().attach(late)


@pytest.mark.parametrize("name", ["ifa", "ifa:carry=B"])
def test_the_contract_holds(name, contract):
    report = contract(lambda: registry.make(name))
    assert report.count == 126 and list(report.refused) == ["residual"]


# -- training ---------------------------------------------------------------------------------------------------------

def prototypes_under(name, seed=0, lr=3e-3, epochs=60):
    return trained(registry.make(name), mlp(20, 64, 64, 10, seed=seed), *prototypes(), lr=lr, epochs=epochs, seed=seed)


def test_in_a_few_epochs_it_teaches_its_hidden_layers():
    assert prototypes_under("ifa", lr=1e-2, epochs=10) > prototypes_under("frozen", lr=3e-2, epochs=10) + 0.15


@pytest.mark.long
def test_bands_on_the_prototypes():
    found = [prototypes_under("ifa", seed) for seed in range(3)]
    print(found, prototypes_under("ifa:carry=B"))
    assert np.mean(found) == pytest.approx(0.936, abs=0.05)

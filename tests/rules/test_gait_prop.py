import sys

import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.errors import BuildError, SettingError, TrainingError
from nplearn.layers import (
    ORTHOGONAL,
    BatchNorm,
    Conv2d,
    Dense,
    First,
    Flatten,
    LeakyReLU,
    ReLU,
    Sequential,
    stages,
    weighted,
)
from nplearn.losses import SquaredError
from nplearn.nets import square
from nplearn.optim import SGD, Adam
from nplearn.rules import GaitProp, registry
from nplearn.rules.exact_inverse import inverse
from nplearn.runs import Settings
from nplearn.testing.trial import NETS, Trial, dense_net, differ, ready
from tests.fake_device import FakeCupy, crossings
from tests.rules.smoke import prototypes, trained


def biased(net, in_shape, seed):
    """The net built in float64, its biases moved off zero."""
    ready(net, in_shape, seed)
    for layer in weighted(net):
        layer.bias.value[...] = 0.1 * np.random.default_rng(seed).normal(size=layer.bias.value.shape)
    return net


def square_net(seed):
    """6-6-6-6, of which 4 are classes."""
    return biased(square(4, 6, hidden=2), (6,), seed)


def tower_net(seed):
    """9-9-7-5, of which 3 are classes."""
    return biased(square(3, widths=(9, 7, 5)), (9,), seed)


def conv_net(seed):
    """A convolution below, whose inverse nobody asks for."""
    return ready(Sequential(conv=Conv2d(2, 3, stride=2), act=LeakyReLU(0.1), flatten=Flatten(),
                            fc=Dense(18, init=ORTHOGONAL), act2=LeakyReLU(0.2), out=First(4)), (6, 5, 2), seed)


def deep(seed, init=ORTHOGONAL):
    return biased(square(10, 16, hidden=4, init=init), (16,), seed)


TRIAL = {"nets": {"square": square_net, "tower": tower_net, "conv": conv_net}}


def gait(**options):
    return lambda: GaitProp(**{"orthogonality": 0, **options})


def walked(trial, exact=False):
    """[delta of each weighted layer, top first] under the rule, or exactly."""
    walk = trial.tape.walk(records=True, exact=exact)
    if exact:
        trial.net.backward(walk.error, walk)
    else:
        trial.rule.assign(trial.net, walk)
    return [walk.deltas[layer][0] for layer in reversed(weighted(trial.net))]


def off(found, wanted):
    return [abs(a - b).max() / abs(b).max() for a, b in zip(found, wanted, strict=True)]


def keeps_signs(trial, gamma):
    """Whether no unit of the pass is so near zero that its mix h + gamma f'^2 (tau - h) lies on the other side."""
    for k, (stage, delta) in enumerate(zip(reversed(stages(trial.net)), walked(trial, exact=True), strict=True)):
        h = trial.tape.seen(stage.activation)[0]
        if (abs(h) <= 1.5 * gamma ** (k + 1) * abs(stage.activation.slope(h) * delta) * trial.tape.count).any():
            return False
    return True


def a_trial(build, factory, gamma):
    """One whose signs no target crosses."""
    for seed in range(200):
        trial = Trial(build, factory, seed, SquaredError())
        trial.run()
        if keeps_signs(trial, gamma):
            return trial
    raise AssertionError("no such seed")


# -- laws -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("gamma, errors", [(1e-2, [1e-15, 5e-14, 1e-11, 2e-9, 2e-7]),
                                           (1e-3, [1e-15, 6e-13, 8e-10, 2e-6, 2e-3])])
def test_targets_through_orthogonal_weights_are_backprop_as_far_as_rounding_lets_them(gamma, errors):
    trial = a_trial(deep, gait(form="target", gamma=gamma), gamma)
    found = off(walked(trial), walked(trial, exact=True))
    print(gamma, found)
    assert all(e <= 10 * known for e, known in zip(found, errors, strict=True))


def test_differences_through_orthogonal_weights_are_backprop_at_any_depth():
    trial = Trial(deep, gait(), loss=SquaredError())
    trial.run()
    assert max(off(walked(trial), walked(trial, exact=True))) < 1e-12


@pytest.mark.parametrize("build", [deep, square_net, tower_net, conv_net], ids=["deep", "square", "tower", "conv"])
def test_the_difference_form_is_backprop_with_the_inverse_in_the_place_of_the_transpose(build):
    trial = Trial(build, gait())
    for layer in weighted(trial.net):
        layer.weight.value += 0.2 * np.random.default_rng(0).normal(size=layer.weight.value.shape)
    trial.run()
    chain, wanted = stages(trial.net), []
    e = chain[-1].tail.backward(trial.tape.error, trial.tape.walk())
    for stage, below in zip(reversed(chain), [*reversed(chain[:-1]), None], strict=True):
        d = e * np.where(trial.tape.seen(stage.activation)[0] > 0, 1, stage.activation.leak)
        wanted.append(d)
        if below is not None:
            e = below.tail.backward(np.linalg.solve(stage.layer.weight.value, d), trial.tape.walk())
    assert max(off(walked(trial), wanted)) < 1e-11
    assert min(off(walked(trial, exact=True)[1:], wanted[1:])) > 0.1    # which is not backprop


@pytest.mark.parametrize("build", [square_net, tower_net], ids=["square", "tower"])
def test_both_forms_give_the_same_numbers_for_any_invertible_weights(build):
    def loose(seed):
        net = build(seed)
        for layer in weighted(net):
            layer.weight.value += 0.1 * np.random.default_rng(seed).normal(size=layer.weight.value.shape)
        return net
    trial = a_trial(loose, gait(form="target", gamma=1e-4), 1e-3)
    other = Trial(loose, gait(), trial.seed, SquaredError())
    other.run()
    found = off(walked(trial), walked(other))
    print(found)
    assert all(e < known for e, known in zip(found, [1e-14, 1e-10, 1e-6], strict=True))


@pytest.mark.parametrize("form", ["difference", "target", "plain"])
@pytest.mark.parametrize("build", [square_net, tower_net], ids=["square", "tower"])
def test_the_last_delta_is_exact_and_units_that_are_not_read_have_none(build, form):
    trial = Trial(build, gait(form=form))
    trial.run()
    found, exact = walked(trial), walked(trial, exact=True)
    assert abs(found[0] - exact[0]).max() <= 1e-16
    classes = trial.net.out_shape[0]
    assert found[0][:, :classes].all() and not found[0][:, classes:].any()
    for stage, delta in zip(reversed(stages(trial.net)[:-1]), found[1:], strict=True):
        read = stage.out_shape[0]
        assert delta[:, :read].any() and not delta[:, read:].any()


def test_the_plain_form_is_target_propagation_with_exact_inverses():
    trial = Trial(deep, gait(form="plain"), loss=SquaredError())
    trial.run()
    W = [(layer.weight.value, layer.bias.value[:, 0]) for layer in weighted(trial.net)]
    h = [rows(trial.tape.seen(stage.activation)[0]) for stage in stages(trial.net)]
    tau = h[-1].copy()
    tau[:, :10] = rows(trial.tape.target)
    for (V, b), y, found in zip(reversed(W), reversed(h), walked(trial), strict=True):
        wanted = (y - tau) * np.where(y > 0, 1, 0.1) / len(y)
        assert abs(rows(found) - wanted).max() < 1e-12 * abs(wanted).max()
        tau = np.linalg.solve(V, (np.where(tau > 0, tau, tau / 0.1) - b).T).T


# -- inverses ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, off_by", [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_after_every_step_the_inverse_is_that_of_the_weights_as_they_are(dtype, off_by):
    def build(seed):
        return square_net(seed).build(6, seed, dtype)
    trial = Trial(build, GaitProp, optimise=lambda arena: SGD(arena, 0.05))
    seen = []
    for step in range(5):
        trial.step(step)
        layer = weighted(trial.net)[1]
        B = layer.feedback.effective(layer)
        assert B.dtype == dtype and abs(B.T @ layer.weight.value - np.eye(6)).max() < off_by
        seen.append(B.copy())
    assert not np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize("spoil, says", [(lambda W: W.__setitem__(0, W[1]), "V W - I = "),
                                         (lambda W: W.__setitem__(0, 0), "V W - I = inf"),
                                         (lambda W: W.__setitem__(0, W[1] + 1e-9 * W[0]), "V W - I = ")])
def test_a_weight_without_a_usable_inverse_stops_the_training_in_words(spoil, says):
    trial = Trial(square_net, gait())
    spoil(weighted(trial.net)[2].weight.value)
    with pytest.raises(TrainingError, match=f"fc3: .*{says}.*; expected at most 1e-10; start from orthogonal weights"):
        trial.step(0)
    assert abs(inverse(weighted(trial.net)[1]) @ weighted(trial.net)[1].weight.value - np.eye(6)).max() < 1e-14


def test_a_device_that_says_nan_of_a_singular_weight_stops_the_training_too(monkeypatch):
    """As CuPy does. Of a weight that is NaN itself the inverse is NaN: the loss has told of that."""
    monkeypatch.setattr(np.linalg, "inv", lambda W: W * np.nan)
    layer = weighted(square_net(0))[1]
    with pytest.raises(TrainingError, match="V W - I = nan; expected at most 1e-10"):
        inverse(layer)
    layer.weight.value[0, 0] = np.nan
    assert np.isnan(inverse(layer)).all()


# -- the regulariser --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", ["difference", "target"])
def test_the_regulariser_is_the_gradient_of_squared_scalar_products_of_columns(form):
    lam, plain = 0.3, Trial(tower_net, gait(form=form))
    trial = Trial(tower_net, gait(form=form, orthogonality=lam))
    for each in plain, trial:
        for layer in weighted(each.net):
            layer.weight.value += 0.3 * np.random.default_rng(1).normal(size=layer.weight.value.shape)
        each.run()
    with_it, without = trial.assign(), plain.assign()
    def penalty(W):
        gram = W.T @ W
        return (gram * gram).sum() - (np.diag(gram) ** 2).sum()
    for layer in weighted(trial.net):
        W, way = layer.weight.value, np.random.default_rng(2).normal(size=layer.weight.value.shape)
        slope = (penalty(W + 1e-5 * way) - penalty(W - 1e-5 * way)) / 2e-5
        found = ((with_it[layer.weight.path] - without[layer.weight.path]) * way).sum()
        assert found == pytest.approx(lam * slope, rel=1e-7 if form == "target" else 1e-8)
        assert np.array_equal(with_it[layer.bias.path], without[layer.bias.path])


def test_with_it_weights_come_to_be_orthogonal_and_without_they_stay_as_they_are():
    left = {}
    for lam in 0.0, 0.3:
        trial = Trial(lambda seed: deep(seed, init=SQUARISH), gait(orthogonality=lam), optimise=lambda a: SGD(a, 0.05))
        for step in range(60):
            trial.step(step)
        gram = weighted(trial.net)[1].weight.value.T @ weighted(trial.net)[1].weight.value
        left[lam] = abs(gram - np.diag(np.diag(gram))).max() / np.diag(gram).mean()
    assert left[0.3] < 0.05 < 0.15 < left[0.0]


class Squarish:
    """Orthogonal, and off it by a fifth."""

    def draw(self, rng, shape, fan_in, fan_out):
        return ORTHOGONAL.draw(rng, shape, fan_in, fan_out) + 0.2 * rng.normal(size=shape) / shape[0] ** 0.5


SQUARISH = Squarish()


def test_orthogonal_weights_have_draws_of_their_own():
    layers = weighted(deep(0))
    for layer in layers:
        W = layer.weight.value
        assert abs(W @ W.T - np.eye(16)).max() < 1e-14
    assert not any(np.allclose(a.weight.value, b.weight.value) for a in layers for b in layers if a is not b)


# -- precision, chunks, devices ---------------------------------------------------------------------------------------

def test_the_difference_form_takes_float32_and_the_target_form_says_why_not():
    def build(seed):
        return deep(seed).build(16, seed, np.float32)
    trial = Trial(build, gait(), loss=SquaredError())
    trial.run()
    assert max(off(walked(trial), walked(trial, exact=True))) < 2e-5
    with pytest.raises(BuildError, match=r"GaitProp: a net in float32, where a target's rounding error grows by "
                                         r"1/gamma = 1e\+03 a layer; expected float64; .*form=\"difference\""):
        Trial(build, gait(form="target"))


@pytest.mark.parametrize("name", ["gait", "gait:form=target,gamma=0.1", "gait:form=plain"])
@pytest.mark.parametrize("net", TRIAL["nets"])
def test_how_the_batch_is_cut_changes_no_gradient_but_by_rounding(name, net):
    found = []
    for column_bytes in 0, 2**21:
        def build(seed, bytes=column_bytes):
            made = TRIAL["nets"][net](seed)
            made.column_bytes = bytes
            return made
        trial = Trial(build, lambda: registry.make(name))
        trial.run()
        found.append(trial.assign())
    assert not differ(*found, 1e-11)


@pytest.mark.parametrize("name", ["gait", "gait:form=target"])
def test_a_step_on_a_device_ends_where_the_hosts_does(name, monkeypatch):
    module = FakeCupy()
    module.linalg = type("linalg", (), {"inv": lambda x: type(x)(np.linalg.inv(x.held))})
    monkeypatch.setitem(sys.modules, "cupy", module)
    found = []
    for where in "cpu", "gpu":
        trial = Trial(lambda seed, where=where: tower_net(seed).build(9, seed, np.float64, where),
                      lambda: registry.make(name))
        crossings.clear()
        trial.step(0)
        found.append({path: x.get() if where == "gpu" else x for path, x in trial.state().items()})
    assert not differ(*found, 1e-6 if "target" in name else 1e-11)
    assert crossings["float"] == 1 + 2                  # the loss, and whether each inverse undoes its weight


# -- what is refused --------------------------------------------------------------------------------------------------

def chain(*layers, shape=6, **named):
    return Sequential(*layers, **named).build(shape, 0, np.float64)


@pytest.mark.parametrize("net, says", [
    (lambda: dense_net(0), r"fc1: a Tanh; expected one that is y / f'\(a\) read backwards, such as LeakyReLU"),
    (lambda: chain(a=Dense(6), f=LeakyReLU(0.1), b=Dense(4), g=LeakyReLU(0.1)),
     r"b: a weight of 4x6; expected a square matrix"),
    (lambda: chain(a=Dense(6), f=ReLU(), b=Dense(6), g=LeakyReLU(0.1)), "f: a ReLU"),
    (lambda: chain(a=Dense(6), f=LeakyReLU(0), b=Dense(6), g=LeakyReLU(0.1)), "f: a LeakyReLU"),
    (lambda: chain(a=Dense(6), f=LeakyReLU(0.1), b=Dense(6)), r"b: no nonlinearity; .*LeakyReLU\(1\) where"),
    (lambda: chain(a=Conv2d(4, 1), f=LeakyReLU(0.1), b=Conv2d(4, 1), g=LeakyReLU(0.1), shape=(3, 3, 4)),
     "b: a weight of 4x1x1x4"),
    (lambda: chain(a=Dense(6), f=LeakyReLU(0.1), n=BatchNorm(), b=Dense(6), g=LeakyReLU(0.1)), "n: a BatchNorm behind"),
    (lambda: NETS["residual"](0), "block1: a Residual")])
def test_nets_without_inverses_are_refused_with_what_would_do(net, says):
    with pytest.raises(BuildError, match=says.replace("fc1: a Tanh", "act1: a Tanh")):
        GaitProp().attach(net())


def test_a_target_does_not_come_through_a_norm_and_a_difference_does():
    net = chain(a=Dense(6), f=LeakyReLU(0.1), b=Dense(6, init=ORTHOGONAL), n=BatchNorm(), g=LeakyReLU(0.1))
    with pytest.raises(BuildError, match=r"n: a layer between a weight and its nonlinearity; .*form=\"difference\""):
        GaitProp(form="target").attach(net)
    GaitProp().attach(net)


def test_a_linear_layer_is_a_leaky_relu_of_one():
    net = chain(a=Dense(6), f=LeakyReLU(1), b=Dense(6, init=ORTHOGONAL), g=LeakyReLU(1))
    for form in "target", "difference":
        GaitProp(form=form).attach(net)


@pytest.mark.parametrize("options, says", [
    ({"form": "tower"}, "GaitProp: form 'tower'; expected difference or target or plain"),
    ({"gamma": 0}, "gamma 0; expected a finite number of at least"), ({"orthogonality": -1}, "orthogonality -1")])
def test_a_setting_that_does_not_exist_is_refused(options, says):
    with pytest.raises(SettingError, match=says):
        GaitProp(**options)


# -- the contract, at home, training ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["gait", "gait:orthogonality=0", "gait:form=target,gamma=0.1", "gait:form=plain"])
def test_the_contract_holds(name, contract):
    assert contract(lambda: registry.make(name), **TRIAL).count == 2 * 3 * 15


def test_at_home_it_is_the_papers_net_for_mnist():
    settings = Settings.for_rule("gait")
    net = settings.build((28, 28, 1), 10)
    assert [layer.weight.value.shape for layer in weighted(net)] == [(784, 784)] * 5 and net.out_shape == (10,)
    assert (settings.loss, settings.optimiser, settings.lr) == ("squared", "adam", 1e-4)
    assert (GaitProp().form, GaitProp().gamma, GaitProp().orthogonality) == ("difference", 1e-3, 0.1)
    GaitProp().attach(net)
    tower = Settings.for_rule("gait", net_options={"widths": [784, 500, 200, 10]}).build((28, 28, 1), 10)
    assert [layer.weight.value.shape[0] for layer in weighted(tower)] == [784, 500, 200, 10]
    GaitProp().attach(tower)


def prototypes_under(rule, seed=0, lr=3e-3, epochs=40, widths=(64, 64, 64)):
    net = square(10, widths=widths).build(20, seed, np.float64)
    return trained(rule, net, *prototypes(), lr=lr, epochs=epochs, loss=SquaredError(), optimise=Adam, seed=seed)


def test_in_a_few_epochs_it_teaches_its_hidden_layers():
    assert prototypes_under(GaitProp(), epochs=8) > prototypes_under(registry.make("frozen"), lr=1e-2, epochs=8) + 0.1


@pytest.mark.long
def test_on_the_prototypes_it_is_as_good_as_backprop_and_plain_target_propagation_is_not():
    found = {name: prototypes_under(registry.make(name)) for name in (
        "backprop", "gait", "gait:form=target", "gait:orthogonality=0", "frozen")}
    print(found)
    assert found["gait"] == pytest.approx(found["backprop"], abs=0.05)
    assert found["gait:form=target"] == pytest.approx(found["gait"], abs=0.03)
    assert found["gait"] > found["frozen"] + 0.1

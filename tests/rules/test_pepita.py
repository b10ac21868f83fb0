import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import (
    HE_FAN_IN,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    ReLU,
    Sequential,
    Tanh,
    weighted,
)
from nplearn.losses import SigmoidCrossEntropy
from nplearn.rules import IndirectFeedbackAlignment, Pepita, registry
from nplearn.testing.trial import NETS, N, Trial, dense_net, differ, map_net, ready, residual_net
from tests.helpers import deltas, one_chunk_and_two
from tests.rules.smoke import prototypes, trained


def pepita(**options):
    return lambda: Pepita(**options)


def chain_of(act):
    def build(seed):
        return ready(Sequential(fc1=Dense(9), act1=act(), fc2=Dense(8), act2=act(), fc3=Dense(7), act3=act(),
                                fc4=Dense(4)), (6,), seed)
    return build


def conv_chain(seed):
    return ready(Sequential(conv=Conv2d(4, 3), act1=Tanh(), pool=AvgPool2d(2), flatten=Flatten(), fc1=Dense(6),
                            act2=Tanh(), fc2=Dense(5)), (6, 4, 2), seed)


def linear_chain(seed):
    """One hidden layer has no nonlinearity, and pooling behind it."""
    return ready(Sequential(fc1=Conv2d(4, 3), act1=Tanh(), conv=Conv2d(3, 2), pool=AvgPool2d(2), flatten=Flatten(),
                            fc2=Dense(6), act2=Tanh(), fc3=Dense(5)), (6, 4, 2), seed)


def modulation(trial):
    """F e, shaped like the input."""
    e = trial.tape.error * trial.tape.count
    return (trial.rule.fixed()["F"] @ e).reshape(trial.tape.input.shape)


# -- laws -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(3))
def test_at_the_first_relu_layer_the_change_is_the_modulation_through_w_where_units_are_on(seed):
    trial = Trial(chain_of(ReLU), pepita(scale=1e-2), seed)
    trial.run()
    first, change = weighted(trial.net)[0], modulation(trial)
    a = first.forward(trial.tape.input)
    assert np.array_equal(a > 0, first.forward(trial.tape.input + change) > 0)     # no unit crosses zero
    wanted = (a > 0) * first.apply(change, first.weight.value) / -N
    assert abs(deltas(trial)[0] - wanted).max() < 2e-13 * abs(wanted).max()


@pytest.mark.parametrize("net", [chain_of(Tanh), conv_chain, linear_chain], ids=["dense", "conv", "linear"])
def test_to_first_order_it_is_indirect_feedback_alignment_with_minus_w_f_for_b(net):
    errors = []
    for s in 1e-2, 1e-3, 1e-4:
        mine = Trial(net, pepita(scale=s, positions="sum"))
        theirs = Trial(net, IndirectFeedbackAlignment)
        first, F = weighted(theirs.net)[0], mine.rule.fixed()["F"]
        K = F.shape[1]
        B = theirs.rule.fixed()["B"]
        B[...] = -first.apply(F.reshape(1, *first.in_shape, K), first.weight.value).reshape(-1, K).T
        for trial in mine, theirs:
            trial.run()
        errors.append(max(abs(p - q).max() / abs(q).max() for p, q in
                          zip(deltas(mine)[:-1], deltas(theirs)[:-1], strict=True)))
    assert errors[0] < 0.1
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1) and errors[1] / errors[2] == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("out_error", ["first", "second"])
@pytest.mark.parametrize("net", ["dense", "map", "norm"])
def test_without_modulation_hidden_gradients_are_nothing_and_the_last_is_backprops(net, out_error):
    trial = Trial(NETS[net], pepita(scale=0, out_error=out_error))
    trial.run()
    found, exact = trial.assign(), trial.backprop()
    top = {p.path for p in weighted(trial.net)[-1].params().values()}
    assert not differ(found, {path: exact[path] for path in top})
    assert not any(found[path].any() for path in found if path not in top)


def dropped(seed):
    return ready(Sequential(fc1=Dense(20), act=ReLU(), drop=Dropout(0.5), fc2=Dense(8), act2=Tanh(), fc3=Dense(4)),
                 (6,), seed)


def test_units_dropped_in_the_first_pass_learn_nothing_and_the_others_have_the_mask_once():
    trial = Trial(dropped, pepita())
    trial.run(rows=[0])
    first, mask = weighted(trial.net)[0], trial.tape.seen(trial.net.layers[2])[0][0, :, 0]
    gradient = trial.assign()["fc1.weight"]
    assert (mask == 0).any() and not gradient[mask == 0].any()
    x, change = trial.tape.input, modulation(trial)
    wanted = mask * (np.maximum(first.forward(x), 0) - np.maximum(first.forward(x + change), 0))[0, :, 0]
    assert wanted.any() and set(mask) == {0, 2}
    assert abs(gradient - np.outer(wanted, (x + change)[0, :, 0])).max() < 1e-15


def test_a_change_of_the_input_goes_through_a_layer_by_itself():
    """apply(x + c) - apply(x) = apply(c): the difference at the first layer takes no second product with W."""
    trial = Trial(map_net, pepita())
    trial.run()
    for layer in weighted(trial.net):
        x, W = trial.tape.seen(layer)[0], layer.weight.value
        c = np.random.default_rng(0).normal(size=x.shape)
        whole = layer.apply(x + c, W) - layer.apply(x, W)
        assert abs(whole - layer.apply(c, W)).max() < 1e-13 * abs(layer.apply(x + c, W)).max()


@pytest.mark.parametrize("out_error", ["first", "second"])
def test_a_step_against_the_papers_formulas_by_rows(out_error):
    trial = Trial(dense_net, pepita(out_error=out_error))
    trial.run()
    found, F = trial.assign(), trial.rule.fixed()["F"]
    layers = weighted(trial.net)
    def passed(x):
        h = [x]
        for layer, f in zip(layers, (np.tanh, lambda a: np.where(a > 0, a, 0.01 * a), lambda a: a), strict=True):
            h.append(f(h[-1] @ layer.weight.value.T + layer.bias.value[:, 0]))
        z = np.exp(h[-1] - h[-1].max(axis=1, keepdims=True))
        return h, z / z.sum(axis=1, keepdims=True) - rows(trial.tape.target)
    x = rows(trial.tape.input)
    h, e = passed(x)
    k, second = passed(x + e @ F.T)
    teaching = [h[1] - k[1], h[2] - k[2], e if out_error == "first" else second]
    for layer, below, t in zip(layers, k, teaching, strict=False):
        assert abs(found[f"{layer.path}.weight"] - t.T @ below / N).max() < 1e-14
        assert abs(found[f"{layer.path}.bias"][:, 0] - t.sum(axis=0) / N).max() < 1e-14


def test_the_error_is_the_losses_own_whatever_the_loss():
    trial = Trial(dense_net, pepita(), loss=SigmoidCrossEntropy())
    trial.run()
    before = trial.tape.input.copy()
    y = rows(trial.tape.output)
    e = 1 / (1 + np.exp(-y)) - rows(trial.tape.target)
    assert abs(rows(modulation(trial)) - e @ trial.rule.fixed()["F"].T).max() < 1e-14
    trial.assign()
    assert np.array_equal(trial.tape.input, before)     # the first pass stays what it was


# -- scale ------------------------------------------------------------------------------------------------------------

def test_a_convolutions_gradient_is_the_mean_over_its_positions():
    found = {}
    for positions in "mean", "root", "sum":
        trial = Trial(conv_chain, pepita(positions=positions))
        trial.run()
        found[positions] = trial.assign()
    S = weighted(trial.net)[0].uses
    assert S == 24
    for path, g in found["sum"].items():
        inside = path.startswith("conv.")
        assert abs(found["mean"][path] * (S if inside else 1) - g).max() < 1e-14 * max(abs(g).max(), 1)
        assert abs(found["root"][path] * (S ** 0.5 if inside else 1) - g).max() < 1e-14 * max(abs(g).max(), 1)


def test_the_settings_are_those_of_the_official_dense_nets():
    assert Pepita().settings() == {"scale": 0.05, "out_error": "second", "positions": "mean"}


def test_f_is_uniform_with_the_bound_of_the_input():
    trial = Trial(map_net, pepita())
    F, bound = trial.rule.fixed()["F"], 0.05 * (6 / 60) ** 0.5
    assert F.shape == (60, 3) and 0.97 * bound < abs(F).max() <= bound
    assert np.std(F) == pytest.approx(bound / 3 ** 0.5, rel=0.15) and (abs(F).max(axis=1) > 0).all()
    assert np.allclose(Trial(map_net, pepita(scale=0.5)).rule.fixed()["F"], 10 * F)
    assert trial.rule.memory() == F.nbytes


def test_nothing_goes_down_and_running_statistics_see_one_pass():
    trial, plain = Trial(NETS["norm"], pepita()), Trial(NETS["norm"], lambda: registry.make("frozen"))
    for layer in weighted(trial.net):
        layer.adjoint = None
    trial.run()
    plain.run()
    trial.assign()
    mine, theirs = trial.forward_state(), plain.forward_state()
    assert not differ(mine, {name: theirs[name] for name in mine if "norm" in name})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["stride", "map", "norm"])
def test_how_the_batch_is_cut_changes_no_gradient_but_by_rounding(name, dtype):
    def gradients(trial):
        trial.run()
        assert all(d.dtype == dtype for d in deltas(trial))
        return trial.assign()
    whole, cut = one_chunk_and_two(NETS[name], pepita(scale=0.5), gradients, dtype)
    tolerance = 10000 * np.finfo(dtype).eps             # differences of two passes lose digits
    assert whole["conv.weight"].any() and not differ(cut, whole, tolerance)


def test_how_the_batch_is_cut_changes_no_mask():
    def gradients(trial):
        trial.run()
        return trial.assign()
    assert not differ(*one_chunk_and_two(dropped, pepita(), gradients), 1e-12)


# -- settings ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, says", [
    ({"out_error": "third"}, "Pepita: out_error 'third'; expected first or second"),
    ({"positions": "max"}, "positions 'max'; expected mean or root or sum"),
    ({"scale": -1}, "scale -1; expected a finite number of at least 0")])
def test_a_setting_that_does_not_exist_is_refused(options, says):
    with pytest.raises(SettingError, match=says):
        Pepita(**options)


def test_nets_that_divide_and_norms_behind_a_nonlinearity_are_refused():
    with pytest.raises(BuildError, match="block1: a Residual"):
        Pepita().attach(residual_net(0))
    late = Sequential(fc1=Dense(5), act=Tanh(), norm=BatchNorm(), fc2=Dense(4)).build(3)
    with pytest.raises(BuildError, match="norm: a BatchNorm behind a nonlinearity"):
        Pepita().attach(late)


@pytest.mark.parametrize("name", ["pepita", "pepita:out_error=first,positions=sum,scale=0.5"])
def test_the_contract_holds(name, contract):
    report = contract(lambda: registry.make(name))
    assert report.count == 126 and list(report.refused) == ["residual"]


def test_with_dropout_a_repeated_walk_gives_the_same_bits():
    trial = Trial(dropped, pepita())
    trial.run()
    first = trial.assign()
    assert not differ(trial.assign(trial.tape.walk()), first) and not differ(trial.assign(), first)


# -- training ---------------------------------------------------------------------------------------------------------

def net_of(seed):
    """The official start: weights by He's law for fan-in (theirs is uniform)."""
    return Sequential(fc1=Dense(64, init=HE_FAN_IN), act1=ReLU(), fc2=Dense(64, init=HE_FAN_IN), act2=ReLU(),
                      fc3=Dense(10, init=HE_FAN_IN)).build(20, seed, np.float64)


def prototypes_under(name, seed=0, lr=3e-3, epochs=60):
    return trained(registry.make(name), net_of(seed), *prototypes(), lr=lr, epochs=epochs, seed=seed)


def test_in_a_few_epochs_it_teaches_its_hidden_layers():
    assert prototypes_under("pepita", lr=3e-3, epochs=15) > prototypes_under("frozen", lr=1e-2, epochs=15) + 0.04


@pytest.mark.long
def test_bands_on_the_prototypes():
    found = [prototypes_under("pepita", seed) for seed in range(3)]
    print(found, prototypes_under("frozen", lr=1e-2))
    assert np.mean(found) == pytest.approx(0.759, abs=0.05)

"""The cost of rules with targets and inverses, against closed forms on a small perceptron.

M_l = n_{l-1} n_l, M their sum, M' that of l = 2 ... L; per sample and update, nonlinearities left out.
"""
import numpy as np
import pytest

from nplearn.columns import outside
from nplearn.layers import Tanh
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import cost
from nplearn.nets import mlp
from nplearn.rules import registry
from nplearn.testing.trial import stride_net

N, WIDE = 8, (30, 20, 14, 12, 10)
EACH = [0, *(n * m for n, m in zip(WIDE, WIDE[1:], strict=False))]      # M_l from 1
L, M, BELOW = len(WIDE) - 1, sum(EACH), sum(EACH[2:])


def of(name, wide=WIDE):
    """{phase: counts per sample} of a step, the total under ""."""
    net = mlp(wide[-1], hidden=wide[1:-1], activation=Tanh).build(wide[0], 1)
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((N, wide[0])).astype(np.float32), rng.integers(wide[-1], size=N)
    found = cost(net, registry.make(name).attach(net, 1), SoftmaxCrossEntropy(), *batch)
    phases = {phase: counts.multiply_adds / N for phase, counts in found.by("phase").items()}
    return phases | {"": found.total.multiply_adds / N, "draws": found.total.draws / N}


def online(found):
    return sum(found.get(phase, 0) for phase in ("forward", "credit", "learning"))


FORWARD_EPOCHS = {"tp": 2 * M + BELOW, "sdtp": 2 * M + 2 * BELOW, "dtp": 2 * M + 2 * BELOW - EACH[L]}
INVERSE_STEP = {"tp": 3 * BELOW, "sdtp": 3 * BELOW, "dtp": 3 * (BELOW - EACH[L])}


@pytest.mark.parametrize("name", FORWARD_EPOCHS)
def test_targets_through_learned_inverses(name):
    """SDTP: 2M + 5M' in parallel; else 2M + 2M' in forward epochs and M + 3M' in inverse epochs.

    TP evaluates each inverse once, 2M + M'; in DTP the last layer has no inverse and sends down once by its adjoint."""
    turns, together = of(name), of(f"{name}:schedule=parallel")
    assert turns["forward"] == M and online(turns) == FORWARD_EPOCHS[name]
    assert turns["offline"] == M + INVERSE_STEP[name]
    assert together[""] == online(together) == FORWARD_EPOCHS[name] + INVERSE_STEP[name]
    both = of(f"{name}:schedule=both")
    assert online(both) == online(together) and both["offline"] == turns["offline"]


def test_auxiliary_units_make_the_last_layer_wide():
    """2M + 5M' with M_L = n_{L-1} (n_L + units): the units have no outer product and are evaluated twice instead."""
    more = 6 * WIDE[-2]
    assert of("ao-sdtp:units=6,schedule=parallel")[""] == 2 * (M + more) + 5 * (BELOW + more)
    assert of("ao-sdtp:units=0,schedule=parallel")[""] == of("sdtp:schedule=parallel")[""]
    turns = of("ao-sdtp:units=6")
    assert online(turns) == 2 * (M + more) + 2 * (BELOW + more) and turns["offline"] == M + more + 3 * (BELOW + more)


def test_fixed_inverses():
    assert of("fw-dtp")[""] == 2 * M + 2 * BELOW


@pytest.mark.parametrize("steps", [1, 4])
def test_local_difference_reconstruction(steps):
    """2M + 2M' + K 7M', and M for the fresh pass after the weights have moved."""
    found = of(f"l-drl:steps={steps}")
    assert found["learning"] == M + 7 * steps * BELOW
    assert found[""] == 2 * M + 2 * BELOW + M + 7 * steps * BELOW


def test_difference_reconstruction():
    """2M + 2M' + sum over l > 1 of (sum of M_k, k >= l) + (sum of M_k, k > l) + 3 M_l."""
    inverse = sum(sum(EACH[i:]) + sum(EACH[i + 1:]) + 3 * EACH[i] for i in range(2, L + 1))
    assert of("drl:schedule=parallel")[""] == 2 * M + 2 * BELOW + inverse
    turns = of("drl")
    assert online(turns) == 2 * M + 2 * BELOW and turns["offline"] == M + BELOW + inverse   # g(h) again, for no target


def test_direct_difference_reconstruction():
    direct = WIDE[-1] * sum(WIDE[1:-1])
    inverse = sum(sum(EACH[i + 1:]) for i in range(1, L)) + 3 * direct
    assert of("ddtp:schedule=parallel")[""] == 2 * M + 2 * direct + inverse


def test_ratios_to_backprop_on_a_narrowing_perceptron():
    wide = 784, 256, 128, 64, 10
    exact = of("backprop", wide)[""]
    assert exact == 526_208
    assert of("sdtp:schedule=parallel", wide)[""] / exact == pytest.approx(1.32, abs=0.005)
    assert of("fw-dtp", wide)[""] / exact == pytest.approx(1.08, abs=0.005)


@pytest.mark.parametrize("name, draws", [
    ("tp", sum(WIDE[1:-1])), ("dtp", sum(WIDE[1:-2])), ("sdtp:schedule=parallel", sum(WIDE[1:-1])),
    ("drl", sum(WIDE[1:-1])), ("ddtp", sum(WIDE[1:-1])), ("fw-dtp", 0),
    ("l-drl:steps=3", 3 * (sum(WIDE[1:-1]) + sum(WIDE[2:])))])
def test_draws_are_a_number_for_each_unit_that_is_corrupted(name, draws):
    assert of(name)["draws"] == draws


def test_on_maps_a_turned_layer_costs_what_the_layer_does():
    net = stride_net(1)
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((N, *outside(net.in_shape))), rng.integers(net.out_shape[0], size=N)
    found = cost(net, registry.make("sdtp:schedule=parallel").attach(net, 1), SoftmaxCrossEntropy(), *batch)
    layers = found.by("layer")
    for path in ("local", "fc1", "fc2"):
        up = found.parts["forward", path, "apply"].multiply_adds
        assert layers[path].multiply_adds == 3 * up         # up, outer, up again on the corrupted activity
        assert layers[f"inverse.{path}"].multiply_adds == 4 * up    # g(t), g(h), g(f(z)), its outer

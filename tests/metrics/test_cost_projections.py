"""What projections of errors and targets cost, against the closed forms: M multiply-adds of all layers for a sample."""
import numpy as np
import pytest

from nplearn.layers import Tanh
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import cost
from nplearn.nets import mlp, square
from nplearn.rules import registry

N = 8
WIDE = (30, 20, 12, 15, 10)
PRODUCTS = [n * m for n, m in zip(WIDE, WIDE[1:], strict=False)]
M, FIRST, LAST, CLASSES, HIDDEN = sum(PRODUCTS), PRODUCTS[0], PRODUCTS[-1], WIDE[-1], sum(WIDE[1:-1])


def adds(rule, net=None):
    """{phase: multiply-adds}"""
    net = net or mlp(CLASSES, hidden=WIDE[1:-1], activation=Tanh).build(WIDE[0], 1)
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((N, *net.in_shape)).astype(net.dtype), rng.integers(net.out_shape[0], size=N)
    found = cost(net, registry.make(rule).attach(net, 1), SoftmaxCrossEntropy(), *batch)
    return {phase: counts.multiply_adds for phase, counts in found.by("phase").items()} | {
        "all": found.total.multiply_adds}


@pytest.mark.parametrize("rule, per_sample", [
    ("backprop", 3 * M - FIRST), ("dfa", 2 * M + CLASSES * HIDDEN), ("sdfa", 2 * M + CLASSES * HIDDEN),
    ("drtp", 2 * M),                                    # of a one-hot target the projection is a row of B: a look-up
    ("ifa", 3 * M - FIRST - LAST + CLASSES * WIDE[1]),
    ("ifa:carry=B", 3 * M - FIRST - LAST + CLASSES * WIDE[1]), ("pepita", 3 * M + CLASSES * WIDE[0])])
def test_a_step_costs_what_its_formula_says(rule, per_sample):
    assert adds(rule)["all"] == N * per_sample


@pytest.mark.parametrize("form", ["difference", "target", "plain"])
def test_gait_prop_costs_a_walk_down_and_a_cube_for_each_inverse(form):
    """n^3 to invert, and n^3 for the product that says whether it undoes W."""
    def net():
        return square(4, 12, hidden=2).build(12, 1, np.float64)
    each = 12 * 12
    wanted = N * (3 * 3 * each - each) + 2 * 2 * 12 ** 3
    assert adds(f"gait:form={form},orthogonality=0", net())["all"] == wanted
    assert adds(f"gait:form={form}", net())["all"] == wanted + 3 * 2 * 12 ** 3     # W' W, and W times that


def test_only_the_second_pass_of_pepita_is_taken_in_assign():
    found = adds("pepita")
    assert found["forward"] == N * M and found["credit"] == N * (2 * M + CLASSES * WIDE[0])

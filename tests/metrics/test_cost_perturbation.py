"""What perturbation rules cost, against the closed forms: M multiply-adds of all layers for a sample."""
import numpy as np
import pytest

from nplearn.layers import Tanh
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import cost
from nplearn.nets import mlp
from nplearn.rules import registry

N, WIDE = 8, (30, 20, 12, 10)
PRODUCTS = [n * m for n, m in zip(WIDE, WIDE[1:], strict=False)]
M, FIRST, UNITS = sum(PRODUCTS), PRODUCTS[0], sum(WIDE[1:])


@pytest.mark.parametrize("rule, per_sample, draws", [
    ("np", 3 * M, UNITS), ("np:antithetic=true", 4 * M, 2 * UNITS), ("np:draws=3", 5 * M, 3 * UNITS),
    ("forward-gradient", 3 * M - FIRST, UNITS),         # tangents start behind the first layer
    ("ptf", 3 * M - FIRST + M + M - FIRST, UNITS - WIDE[-1]),       # backprop's, a second pass, outer for B
    ("ptf:antithetic=true", 5 * M + M - 2 * FIRST, UNITS - WIDE[-1])])
def test_a_step_costs_what_its_formula_says(rule, per_sample, draws):
    net = mlp(WIDE[-1], hidden=WIDE[1:-1], activation=Tanh).build(WIDE[0], 1)
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((N, WIDE[0])).astype(np.float32), rng.integers(WIDE[-1], size=N)
    total = cost(net, registry.make(rule).attach(net, 1), SoftmaxCrossEntropy(), *batch).total
    assert (total.multiply_adds, total.draws) == (N * per_sample, N * draws)

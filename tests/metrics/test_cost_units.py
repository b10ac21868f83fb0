"""What bursts and vector units cost: multiply-adds of the closed forms; M of all layers for a sample."""
import numpy as np
import pytest

from nplearn.losses import SoftmaxCrossEntropy, SquaredError
from nplearn.metrics import cost
from nplearn.nets import mlp, vector
from nplearn.rules import registry

WIDTHS, N, K = (30, 20, 12, 16, 5), 8, 5
PRODUCTS = [n * m for n, m in zip(WIDTHS, WIDTHS[1:], strict=False)]
M, FIRST = sum(PRODUCTS), PRODUCTS[0]


def counted(rule, net, loss):
    """{phase: multiply-adds for a sample}, and of all."""
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((N, *net.in_shape)).astype(net.dtype), rng.integers(net.out_shape[0], size=N)
    found = cost(net, registry.make(rule).attach(net, 1), loss, *batch)
    return {phase: counts.multiply_adds / N for phase, counts in found.by("phase").items()} | {
        "all": found.total.multiply_adds / N}


@pytest.mark.parametrize("rule, per_sample", [
    ("burst", 4 * M - 2 * FIRST), ("burst:y=tied", 4 * M - 2 * FIRST), ("burst:learns=kp", 4 * M - 2 * FIRST),
    ("burst:top=bounded", 4 * M - 2 * FIRST), ("burst:learns=q", 5 * M - 3 * FIRST)])
def test_bursts_and_events_each_come_down_once(rule, per_sample):
    net = mlp(K, WIDTHS[1:-1], "sigmoid", output="sigmoid").build(WIDTHS[0], 1)
    assert counted(rule, net, SquaredError())["all"] == per_sample


def test_a_quiet_batch_is_a_pass_and_a_walk_with_outer_products_for_q_instead_of_w():
    net = mlp(K, WIDTHS[1:-1], "sigmoid", output="sigmoid").build(WIDTHS[0], 1)
    found = counted("burst:learns=q,quiet=2", net, SquaredError())
    assert found["forward"] + found["credit"] == 4 * M - 2 * FIRST
    assert found["offline"] == 2 * (4 * M - 3 * FIRST)


def test_vector_units_have_k_components_and_an_error_that_is_broadcast_costs_no_product():
    net = vector(K, WIDTHS[1:-1]).build(WIDTHS[0], 1)
    vectors = K * (M - PRODUCTS[-1] + WIDTHS[-2])       # the last layer is one unit
    assert counted("gevb", net, SoftmaxCrossEntropy())["all"] == 2 * vectors
    assert counted("backprop", net, SoftmaxCrossEntropy())["all"] == 3 * vectors - K * FIRST

"""Multiply-adds of rules with losses of each layer's own, against what their equations say, on a small dense net.

M weights in all, n_l units of the hidden layers, C classes, N samples; a sample costs

    pred             2 M + 3 C sum n_l                               forward, outer; V forward, back, its gradient
    sim              2 M + 3 sum n_l^2 + 2 N sum n_l                 P likewise; X X', G X
    forward-forward  4 (M - M_L) + M + M_L                           two passes, gradients; a neutral pass, read-out

What is made of the labels alone (N C for the targets' matrix of sim, per layer) is in neither.
"""
import numpy as np
import pytest

from nplearn.layers import LeakyReLU
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import cost
from nplearn.metrics.cost import Cost, summed
from nplearn.metrics.unchanged import unchanged
from nplearn.metrics.watch import Watch
from nplearn.nets import mlp, normalised_mlp
from nplearn.rules import ForwardForward, LocalLosses

N, WIDE = 8, (30, 20, 12, 10)
WEIGHTS = [n * m for n, m in zip(WIDE, WIDE[1:], strict=False)]
M, C, HIDDEN = sum(WEIGHTS), WIDE[-1], WIDE[1:-1]
PRED = 3 * C * sum(HIDDEN)
SIM = 3 * sum(n * n for n in HIDDEN) + 2 * N * sum(HIDDEN)


def of(net, rule):
    net = net(C, hidden=HIDDEN, activation=LeakyReLU).build(WIDE[0], 1)
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((N, WIDE[0])).astype(np.float32), rng.integers(C, size=N)
    return cost(net, rule.attach(net, 1), SoftmaxCrossEntropy(), *batch)


@pytest.mark.parametrize("heads, more", [("pred", PRED), ("sim", SIM), ("predsim", PRED + SIM)])
def test_local_losses_add_to_two_passes_what_their_heads_cost(heads, more):
    found = of(mlp, LocalLosses(heads))
    assert found.total.multiply_adds == N * (2 * M + more)
    phases = found.by("phase")
    assert phases["forward"].multiply_adds == N * M and phases["learning"].multiply_adds == 0
    at_heads = sum(counts.multiply_adds for path, counts in found.by("layer").items() if ".head." in path)
    pairs = 0 if heads == "pred" else 2 * N * sum(HIDDEN)
    assert at_heads == N * (more - pairs)


def test_no_input_product_is_made_with_a_forward_weight():
    found = of(mlp, LocalLosses("pred")).by("layer", "operation")
    assert not any(operation == "adjoint" and ".head." not in path for path, operation in found)


def test_forward_forward_costs_two_passes_with_gradients_and_the_read_outs_own():
    found = of(normalised_mlp, ForwardForward())
    assert found.total.multiply_adds == N * (4 * (M - WEIGHTS[-1]) + M + WEIGHTS[-1])
    assert not any(operation == "adjoint" for operation in found.by("operation"))
    assert found.total.draws == N                       # a wrong label each


@pytest.mark.parametrize("predict, wanted", [("goodness", C * (M - WEIGHTS[-1])), ("readout", M)])
def test_a_prediction_costs_a_pass_of_the_hidden_layers_for_each_label_or_one_pass(predict, wanted):
    net = normalised_mlp(C, hidden=HIDDEN).build(WIDE[0], 1)
    rule, watch = ForwardForward(predict=predict).attach(net, 1), Watch()
    with unchanged(net, rule), watch.over(net, rule):
        rule.forward(watch.see(net.columns(np.ones((N, WIDE[0]), np.float32))))
    assert Cost(summed(watch.notes)).total.multiply_adds == N * wanted

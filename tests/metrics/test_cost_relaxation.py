"""What relaxations cost: multiply-adds of the closed forms, in a net of dense layers.

M = sum |W_l|, M' that of the layers above the first; per sample. L is 4.
"""
import numpy as np
import pytest

from nplearn.layers import Clip, Dense, Sequential, Tanh
from nplearn.losses import SoftmaxCrossEntropy, SquaredError
from nplearn.metrics.cost import cost
from nplearn.rules import (
    Backprop,
    EquilibriumPropagation,
    FeedbackAlignment,
    FixedPrediction,
    KolenPollack,
    PredictiveCoding,
    ZeroDivergence,
)

WIDTHS, N = (30, 20, 12, 8, 5), 8
WEIGHTS = [n * m for n, m in zip(WIDTHS, WIDTHS[1:], strict=False)]
M, ABOVE = sum(WEIGHTS), sum(WEIGHTS[1:])


def counted(rule, activation=Tanh, top=False, loss=None):
    """The Cost of one step."""
    layers = [make() for n in WIDTHS[1:] for make in (lambda n=n: Dense(n), activation)]
    net = Sequential(*layers[:None if top else -1]).build(WIDTHS[0], 1)
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(N, WIDTHS[0])).astype(np.float32), rng.integers(WIDTHS[-1], size=N)
    return cost(net, rule.attach(net, 1), loss or SoftmaxCrossEntropy(), *batch)


def adds(found, **which):
    """Multiply-adds for one sample, of a phase or an operation."""
    return sum(counts.multiply_adds for part, counts in found.parts.items()
               if which.items() <= dict(zip(("phase", "layer", "operation"), part, strict=True)).items()) / N


THROUGH = [Backprop, FeedbackAlignment, KolenPollack]


@pytest.mark.parametrize("through", THROUGH)
def test_zil_costs_what_backprop_does(through):
    assert adds(counted(ZeroDivergence(through))) == 2 * M + ABOVE == adds(counted(through()))


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize("T", [1, 20])
def test_strict_predictive_coding_takes_two_products_a_step_above_the_first_layer(T, through):
    found = counted(PredictiveCoding(through, steps=T))
    assert adds(found) == 2 * M + 2 * T * ABOVE
    assert adds(found, operation="outer") == adds(found, phase="forward") == M
    assert adds(found, operation="adjoint") == T * ABOVE


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize("T", [1, 20])
def test_fixed_predictions_take_one_product_a_step(T, through):
    found = counted(FixedPrediction(through, steps=T))
    assert adds(found) == 2 * M + T * ABOVE
    assert adds(found, phase="learning") == 0


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize(("options", "phases"), [({}, 2), ({"symmetric": False}, 1),
                                                 ({"symmetric": False, "random_sign": True}, 1)])
def test_equilibrium_propagation_takes_two_products_a_sweep(options, phases, through):
    """Besides what is published: the forward pass of the net, for probes, and the drive of the first, empty states."""
    T1, T2 = 7, 3
    rule = EquilibriumPropagation(through, free_steps=T1, nudged_steps=T2, **options)
    found = counted(rule, Clip, True, SquaredError())
    published = 2 * (T1 + phases * T2) * ABOVE + WEIGHTS[0] + 2 * M
    assert adds(found) == published + M + ABOVE
    assert adds(found, phase="credit") == 2 * phases * T2 * ABOVE + 2 * M
    assert adds(found, operation="outer") == 2 * M


def test_a_read_out_is_no_part_of_the_free_sweeps():
    T1, T2, last = 7, 3, WEIGHTS[-1]
    found = counted(EquilibriumPropagation(free_steps=T1, nudged_steps=T2), Clip)
    assert adds(found, operation="adjoint") == (T1 + 2 * T2) * (ABOVE - last) + 2 * T2 * last
    assert adds(found, operation="outer") == 2 * M

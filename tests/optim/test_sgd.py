"""Oracle: a loop over single entries, in Python floats."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.errors import SettingError
from nplearn.optim import SGD, Constant, MultiStep
from nplearn.params import Arena, Param


def slow(w, gradients, rates, mu, lam, nesterov, decoupled):
    """One entry's trajectory."""
    v = 0.0
    for g, lr in zip(gradients, rates, strict=True):
        if decoupled:
            w = (1 - lr * lam) * w
        else:
            g = g + lam * w
        v = mu * v + g
        w = w - lr * (g + mu * v if nesterov else v)
    return w


@given(st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([0, 0.5, 0.9]), st.sampled_from([0, 0.03]),
       st.booleans(), st.booleans())
def test_follows_the_loop_over_entries(n, seed, mu, lam, nesterov, decoupled):
    rng = np.random.default_rng(seed)
    weights, gradients, rates = rng.standard_normal(n), rng.standard_normal((6, n)), [0.1] * 3 + [0.02] * 3
    nesterov = nesterov and mu > 0
    param = Param(weights.copy())
    optimiser = SGD(Arena([param]), MultiStep(0.1, {3: 0.2}, "steps"), mu, nesterov, lam, decoupled)
    for g in gradients:
        param.grad[...] = g
        optimiser.step()
    entries = zip(weights, gradients.T.tolist(), strict=True)
    expected = [slow(w, g, rates, mu, lam, nesterov, decoupled) for w, g in entries]
    np.testing.assert_allclose(param.value, expected, rtol=0, atol=1e-13 * (1 + np.abs(weights).max()))


def test_a_change_of_the_learning_rate_acts_on_all_of_the_velocity():
    """By hand: v = 1, then 1.5; W = 0 - 1 * 1 - 0.1 * 1.5."""
    param = Param(np.zeros(1))
    optimiser = SGD(Arena([param]), MultiStep(1.0, {1: 0.1}, "steps"), momentum=0.5)
    for _ in range(2):
        param.grad[...] = 1
        optimiser.step()
    assert param.value[0] == pytest.approx(-1.15, rel=1e-15)


def test_momentum_under_a_schedule():
    """By hand: v = 1, 1.5 (mu 0.5), then 1 (mu 0)."""
    param = Param(np.zeros(1))
    optimiser = SGD(Arena([param]), 1.0, momentum=MultiStep(0.5, {2: 0}, "steps"))
    for expected in (-1, -2.5, -3.5):
        param.grad[...] = 1
        optimiser.step()
        assert param.value[0] == expected


@pytest.mark.parametrize("momentum, slots", [(0, 0), (Constant(0), 0), (0.9, 1), (MultiStep(0.0, {1: 2}), 1)])
def test_without_momentum_nothing_is_kept(momentum, slots):
    arena = Arena([Param(np.ones((3, 5), np.float32))])
    assert SGD(arena, 0.1, momentum).nbytes == slots * arena.nbytes


def test_nesterov_needs_momentum():
    with pytest.raises(SettingError, match="SGD nesterov"):
        SGD(Arena([Param(np.ones(2))]), 0.1, nesterov=True)

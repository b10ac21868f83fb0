"""Oracle: a loop over single entries, in Python floats."""
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.errors import SettingError
from nplearn.optim import MultiStep, RMSprop
from nplearn.params import Arena, Param


def slow(w, gradients, rates, alpha, eps, mu, centred, eps_inside, lam):
    """One entry's trajectory."""
    s = m = v = 0.0
    for g, lr in zip(gradients, rates, strict=True):
        g = g + lam * w
        s = alpha * s + (1 - alpha) * g * g
        m = alpha * m + (1 - alpha) * g
        c = s - m * m if centred else s
        v = mu * v + g / (sqrt(c + eps) if eps_inside else sqrt(c) + eps)
        w = w - lr * v
    return w


@given(st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([0, 0.9]), st.booleans(), st.booleans(),
       st.sampled_from([0, 0.1]))
def test_follows_the_loop_over_entries(n, seed, mu, centred, eps_inside, lam):
    rng = np.random.default_rng(seed)
    weights, gradients, rates = rng.standard_normal(n), rng.standard_normal((6, n)), [0.1] * 3 + [0.02] * 3
    param = Param(weights.copy())
    optimiser = RMSprop(Arena([param]), MultiStep(0.1, {3: 0.2}, "steps"), 0.9, 0.01, mu, centred, eps_inside, lam)
    for g in gradients:
        param.grad[...] = g
        optimiser.step()
    entries = zip(weights, gradients.T.tolist(), strict=True)
    expected = [slow(w, g, rates, 0.9, 0.01, mu, centred, eps_inside, lam) for w, g in entries]
    np.testing.assert_allclose(param.value, expected, rtol=0, atol=1e-12 * (1 + np.abs(weights).max()))


def test_centred_survives_a_constant_gradient():
    """The variance is 0 up to rounding, which may fall below it; a square root must not see that."""
    param = Param(np.zeros(64))
    optimiser = RMSprop(Arena([param]), lr=1e-12, alpha=0.5, centred=True)
    for _ in range(200):
        param.grad[...] = np.linspace(0.1, 3, 64)
        with np.errstate(all="raise"):
            optimiser.step()
    assert np.isfinite(param.value).all()


@pytest.mark.parametrize("centred, mu, slots", [(False, 0, 1), (True, 0, 2), (False, 0.9, 2), (True, 0.9, 3)])
def test_keeps_only_what_its_form_needs(centred, mu, slots):
    arena = Arena([Param(np.ones((3, 5)))])
    assert RMSprop(arena, momentum=mu, centred=centred).nbytes == slots * arena.nbytes


@pytest.mark.parametrize("bad", [{"alpha": 1.0}, {"alpha": -0.1}, {"eps": 0}, {"eps": "small"}])
def test_settings_outside_the_formulas_are_refused(bad):
    with pytest.raises(SettingError, match=f"RMSprop {next(iter(bad))}"):
        RMSprop(Arena([Param(np.ones(2))]), **bad)

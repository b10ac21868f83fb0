"""Oracle: a loop over single entries, in Python floats; the size of Adam's first step in closed form."""
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.errors import SettingError
from nplearn.optim import Adam, AdamW, Constant, MultiStep
from nplearn.params import Arena, Param


def slow(w, gradients, rates, beta1, beta2, eps, lam, decoupled):
    """One entry's trajectory."""
    m = s = 0.0
    for n, (g, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
        if decoupled:
            w = (1 - lr * lam) * w
        else:
            g = g + lam * w
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1 ** n)) / (sqrt(s / (1 - beta2 ** n)) + eps)
    return w


@pytest.mark.parametrize("kind", [Adam, AdamW])
@given(n=st.integers(1, 40), seed=st.integers(0, 2**32), lam=st.sampled_from([0, 0.1]),
       eps=st.sampled_from([1e-8, 0.1]))
def test_follows_the_loop_over_entries(kind, n, seed, lam, eps):
    rng = np.random.default_rng(seed)
    weights, gradients, rates = rng.standard_normal(n), rng.standard_normal((6, n)), [0.1] * 3 + [0.02] * 3
    param = Param(weights.copy())
    optimiser = kind(Arena([param]), MultiStep(0.1, {3: 0.2}, "steps"), 0.8, 0.95, eps, lam)
    for g in gradients:
        param.grad[...] = g
        optimiser.step()
    entries = zip(weights, gradients.T.tolist(), strict=True)
    expected = [slow(w, g, rates, 0.8, 0.95, eps, lam, kind is AdamW) for w, g in entries]
    np.testing.assert_allclose(param.value, expected, rtol=0, atol=1e-13 * (1 + np.abs(weights).max()))


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_first_step_has_the_size_of_the_learning_rate_whatever_the_gradient(kind, scale):
    param = Param(np.zeros(5))
    param.grad[...] = scale * np.array([-2, -1, 1, 2, 3])
    kind(Arena([param]), lr=0.01, eps=1e-14, decay=0).step()
    np.testing.assert_allclose(param.value, [0.01, 0.01, -0.01, -0.01, -0.01], rtol=1e-10)    # eps / |g| is 1e-11


def test_a_twin_corrects_its_bias_by_its_own_number_of_updates():
    """A twin that joins late still makes a first step of the learning rate's size."""
    optimiser = Adam(Arena([Param(np.zeros(2))]), lr=0.01, eps=1e-14)
    for _ in range(5):
        optimiser.step()
    param = Param(np.zeros(1))
    twin = optimiser.like(Arena([param]))
    param.grad[...] = 7
    twin.step()
    assert param.value[0] == pytest.approx(-0.01, rel=1e-10)


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("bad", [{"beta1": 1.0}, {"beta1": -0.1}, {"beta2": 1}, {"eps": 0}, {"beta1": Constant(0.9)}])
def test_settings_outside_the_formulas_are_refused(kind, bad):
    with pytest.raises(SettingError, match=f"{kind.__name__} {next(iter(bad))}"):
        kind(Arena([Param(np.ones(2))]), **bad)

"""Oracles: a loop over single entries, in Python floats; the no-sign-change law; SGD where the sign is not taken."""
from math import copysign

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.errors import SettingError
from nplearn.optim import SGD, BatchManhattan
from nplearn.params import Arena, Param

FLOATS = st.floats(-2, 2, width=32, allow_subnormal=False)     # importing nplearn flushes subnormals to zero


def sign(x):
    return (x > 0) - (x < 0)


def slow(w, gradients, lr, mu, lam, keep_sign):
    """One entry's trajectory."""
    v = 0.0
    for g in gradients:
        v = mu * v + (sign(g) + lam * w)
        moved = w - lr * v
        if keep_sign and sign(moved) * sign(w) <= 0:
            moved = copysign(1e-10, 1 if w >= 0 else -1)
        w = moved
    return w


def named(*params):
    for p, name in zip(params, "abcdef", strict=False):
        p.path = f"layer.{name}"
    return Arena(params)


@given(st.lists(FLOATS, min_size=1, max_size=40), st.integers(0, 2**32), st.sampled_from([0, 0.9]),
       st.sampled_from([0, 0.1]), st.booleans())
def test_follows_the_loop_over_entries(weights, seed, mu, lam, keep_sign):
    gradients = np.random.default_rng(seed).integers(-2, 3, (6, len(weights))) * 0.3       # zeros among them
    param = Param(np.array(weights))
    optimiser = BatchManhattan(named(param), 0.25, mu, lam, keep_sign)
    for g in gradients:
        param.grad[...] = g
        optimiser.step()
    expected = [slow(w, g, 0.25, mu, lam, keep_sign) for w, g in zip(weights, gradients.T.tolist(), strict=True)]
    np.testing.assert_allclose(param.value, expected, rtol=0, atol=1e-13)


def test_the_sign_is_taken_before_decay_and_momentum():
    """By hand: g = 1 + 0.5 * 4 = 3, W = 4 - 3 = 1; then g = -1 + 0.5, v = 0.5 * 3 - 0.5 = 1, W = 0."""
    param = Param(np.array([4.0]))
    optimiser = BatchManhattan(named(param), 1.0, momentum=0.5, decay=0.5)
    for g, expected in ((100, 1), (-0.001, 0)):
        param.grad[...] = g
        optimiser.step()
        assert param.value[0] == expected


@given(st.floats(1e-3, 1e3), st.integers(0, 2**32))
def test_the_size_of_the_gradient_does_not_matter(scale, seed):
    gradient = np.random.default_rng(seed).standard_normal(20)
    one, other = Param(np.ones(20)), Param(np.ones(20))
    one.grad[...], other.grad[...] = gradient, scale * gradient
    for param in (one, other):
        BatchManhattan(named(param), 0.1, decay=0.1).step()
    assert np.array_equal(one.value, other.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(weights=st.lists(FLOATS, min_size=1, max_size=50), seed=st.integers(0, 2**32), mu=st.sampled_from([0, 0.9]))
def test_keep_sign_never_changes_a_sign(dtype, weights, seed, mu):
    param = Param(np.array(weights, dtype))
    start = np.where(param.value >= 0, 1, -1)
    optimiser, rng = BatchManhattan(named(param), 0.7, mu, keep_sign=True), np.random.default_rng(seed)
    for _ in range(8):
        param.grad[...] = rng.standard_normal(len(weights))
        optimiser.step()
        assert np.array_equal(np.sign(param.value), start)


def test_without_keep_sign_signs_do_change():
    param = Param(np.full(5, 0.1))
    param.grad[...] = 1
    BatchManhattan(named(param), 0.7).step()
    assert (param.value < 0).all()


def test_keep_sign_judges_signs_and_not_a_product_that_underflows():
    param = Param(np.array([1e-30], np.float32))
    param.grad[...] = -1
    BatchManhattan(named(param), 1e-20, keep_sign=True).step()       # 1e-30 * 1e-20 is 0 in float32
    assert param.value[0] == np.float32(1e-20)


def test_keep_sign_spares_biases_and_padding():
    weight, bias, norm = Param(np.full(3, 0.1)), Param(np.full(3, 0.1), "bias"), Param(np.full(3, 0.1), "norm")
    arena = named(weight, bias, norm)
    for p in arena.params:
        p.grad[...] = 1
    BatchManhattan(arena, 1.0, keep_sign=True).step()
    assert (weight.value == 1e-10).all() and (bias.value == -0.9).all() and (norm.value == -0.9).all()
    assert np.count_nonzero(arena.value) == 9


def test_exempt_params_follow_sgd_and_the_others_do_not():
    rng = np.random.default_rng(5)
    start, gradients = rng.standard_normal((3, 7)), rng.standard_normal((5, 3, 7))
    ours, theirs = named(*map(Param, start.copy())), named(*map(Param, start.copy()))
    manhattan, sgd = BatchManhattan(ours, 0.1, 0.9, 0.01, exempt=["*.b", "layer.c*"]), SGD(theirs, 0.1, 0.9, decay=0.01)
    for g in gradients:
        for p, q, x in zip(ours.params, theirs.params, g, strict=True):
            p.grad[...] = q.grad[...] = x
        manhattan.step()
        sgd.step()
    same = [np.array_equal(p.value, q.value) for p, q in zip(ours.params, theirs.params, strict=True)]
    assert same == [False, True, True]


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(SettingError, match="BatchManhattan exempt"):
        BatchManhattan(named(Param(np.ones(2))), 0.1, exempt="head.*")


def test_a_twin_applies_the_patterns_to_its_own_params():
    leader = BatchManhattan(named(Param(np.zeros(2)), Param(np.zeros(2))), 1.0, exempt="layer.b")
    arena = named(Param(np.zeros(2)), Param(np.zeros(2)))
    for p in arena.params:
        p.grad[...] = 5
    leader.like(arena).step()
    assert [p.value[0] for p in arena.params] == [-1, -5]
    alone = Param(np.zeros(2))
    alone.grad[...] = 5
    leader.like(named(alone)).step()                                 # nothing of its own fits: no complaint
    assert alone.value[0] == -1

"""A twin steps a rule's feedback beside the weights. Oracle: Kolen and Pollack's recursion.

Two arenas W and B are fed the same gradients, whatever these are. Then W_t - B_t = c_t (W_0 - B_0), with one number c_t
for all entries, and with q = lam c, s_0 = 0, c_0 = 1:

    SGD              c <- (1 - lr lam) c
    momentum         s <- mu s + q;  c <- c - lr s
    Nesterov         s <- mu s + q;  c <- c - lr (q + mu s)
    decoupled        c <- (1 - lr lam) c          with any momentum, and for AdamW

Kolen and Pollack 1994; Akrout et al. 2019, NeurIPS, arXiv 1904.05391.
"""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.optim import SGD, Adam, AdamW, BatchManhattan, MultiStep, RMSprop
from nplearn.params import Arena, Param

SHAPES = ((4, 7), "weight"), ((3, 2, 2, 5), "weight"), ((5,), "bias")


def lr(step):
    return 0.2 * (0.5 if step >= 30 else 1) * (0.1 if step >= 70 else 1)


def decay(epoch):
    return 0.3 * (0.05 if epoch >= 1 else 1)


def schedules():
    return {"lr": MultiStep(0.2, {30: 0.5, 70: 0.1}, "steps"), "decay": MultiStep(0.3, {1: 0.05})}


def arena(rng, dtype=np.float64):
    return Arena([Param(rng.standard_normal(shape).astype(dtype), kind) for shape, kind in SHAPES])


def entries(a):
    return np.concatenate([p.value.ravel() for p in a.params])


def pair(make, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    leader = make(arena(rng, dtype))
    return leader, leader.like(arena(rng, dtype))


def feed(leader, twin, rng):
    for p, q in zip(leader.arena.params, twin.arena.params, strict=True):
        p.grad[...] = q.grad[...] = rng.standard_normal(p.grad.shape) + 0.3 * p.value     # depends on W, as it would


def differences(leader, twin, steps, seed=1, epoch_at=50):
    """W_t - B_t for t = 0..steps; the epoch turns between the leader's step and its twin's, the worst moment for it."""
    rng, kept = np.random.default_rng(seed), [entries(leader.arena) - entries(twin.arena)]
    for t in range(steps):
        feed(leader, twin, rng)
        leader.step()
        leader.epoch = int(t + 1 >= epoch_at)
        twin.step()
        kept.append(entries(leader.arena) - entries(twin.arena))
    return np.array(kept)


def recursion(form, mu, steps, epoch_at=50):
    c, s, kept = 1.0, 0.0, [1.0]
    for t in range(steps):
        rate, lam = lr(t), decay(int(t >= epoch_at))
        q = lam * c
        if form == "decoupled":
            c *= 1 - rate * lam
        else:
            s = mu * s + q
            c -= rate * (q + mu * s if form == "nesterov" else s)
        kept.append(c)
    return np.array(kept)


@pytest.mark.parametrize("form, mu, make", [
    ("momentum", 0, lambda a: SGD(a, **schedules())),
    ("momentum", 0.9, lambda a: SGD(a, momentum=0.9, **schedules())),
    ("momentum", 0.5, lambda a: SGD(a, momentum=0.5, **schedules())),
    ("nesterov", 0.9, lambda a: SGD(a, momentum=0.9, nesterov=True, **schedules())),
    ("decoupled", 0, lambda a: SGD(a, decoupled=True, **schedules())),
    ("decoupled", 0.9, lambda a: SGD(a, momentum=0.9, decoupled=True, **schedules())),
    ("decoupled", 0.9, lambda a: SGD(a, momentum=0.9, nesterov=True, decoupled=True, **schedules())),
    ("decoupled", 0, lambda a: AdamW(a, **schedules())),
    ("momentum", 0.9, lambda a: BatchManhattan(a, momentum=0.9, **schedules()))])
def test_the_difference_shrinks_by_the_recursion(form, mu, make):
    D = differences(*pair(make), steps=100)
    expected = recursion(form, mu, 100)[:, None] * D[0]
    np.testing.assert_allclose(D, expected, rtol=0, atol=1e-12 * np.abs(D[0]).max())
    assert not np.allclose(D[-1], D[0], rtol=0.5)                     # and it did shrink


NORMAL = {"allow_subnormal": False}                     # importing nplearn flushes subnormals to zero


@given(st.floats(0.001, 0.3), st.floats(0, 0.3, **NORMAL), st.floats(0, 0.95, **NORMAL), st.integers(0, 2**32))
def test_the_recursion_holds_for_any_settings(rate, lam, mu, seed):
    leader, twin = pair(lambda a: SGD(a, rate, mu, decay=lam), seed)
    D = differences(leader, twin, steps=12, seed=seed)
    c, s = 1.0, 0.0
    for _ in range(12):
        s = mu * s + lam * c
        c -= rate * s
    size = max(np.abs(entries(leader.arena)).max(), np.abs(D[0]).max())
    np.testing.assert_allclose(D[-1], c * D[0], rtol=0, atol=1e-12 * size)


def closed_form(t, mu, x):
    """c_t for constant settings, x = lr lam; the roots may be complex."""
    p = 1 + mu - x
    root = (p * p - 4 * mu + 0j) ** 0.5
    high, low = (p + root) / 2, (p - root) / 2
    return ((high ** t * (1 - x - low) - low ** t * (1 - x - high)) / (high - low)).real


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.9])                   # over- and underdamped
def test_constant_settings_follow_the_closed_form(rate):
    D = differences(*pair(lambda a: SGD(a, rate, 0.9, decay=0.3)), steps=60)
    expected = np.array([closed_form(t, 0.9, 0.3 * rate) for t in range(61)])[:, None] * D[0]
    np.testing.assert_allclose(D, expected, rtol=0, atol=1e-12 * np.abs(D[0]).max())


def test_first_epoch_of_product_feedback_alignment_on_mnist_leaves_a_known_share():
    """937 steps of lr 0.01, momentum 0.9, decay 0.03."""
    known = 0.056877197975
    assert closed_form(937, 0.9, 0.01 * 0.03) == pytest.approx(known, abs=1e-12)
    D = differences(*pair(lambda a: SGD(a, 0.01, 0.9, decay=MultiStep(0.03, {1: 0.003}))), steps=937, epoch_at=937)
    np.testing.assert_allclose(D[-1] / D[0], known, rtol=0, atol=1e-9)


def test_the_law_holds_in_float32_to_its_rounding():
    D = differences(*pair(lambda a: SGD(a, momentum=0.9, **schedules()), dtype=np.float32), steps=100)
    expected = recursion("momentum", 0.9, 100)[:, None] * D[0]
    np.testing.assert_allclose(D, expected, rtol=0, atol=1e-5 * np.abs(D[0]).max())


@pytest.mark.parametrize("make, exact", [
    (lambda a: AdamW(a, 0.01, decay=0.1), True), (lambda a: Adam(a, 0.01, decay=0.1), False),
    (lambda a: RMSprop(a, 0.01, decay=0.1), False), (lambda a: SGD(a, 0.01, 0.9, decay=0.1), True)])
def test_normalisers_that_see_the_decay_leave_no_common_factor(make, exact):
    D = differences(*pair(make), steps=200)
    ratio = D[-1] / D[0]
    spread = ratio.max() - ratio.min()
    assert spread < 1e-9 if exact else spread > 0.01
    if exact:
        assert ratio.mean() < 0.999


@pytest.mark.parametrize("make, exact", [
    (lambda a: SGD(a, momentum=0.9, **schedules()), True),
    (lambda a: SGD(a, momentum=0.9, decoupled=True, **schedules()), True), (lambda a: AdamW(a, **schedules()), False)])
def test_mixed_gradients_keep_what_product_feedback_alignment_needs(make, exact):
    """E = R - B'W obeys E_t = c_t E_0 if R is fed B' times W's gradient, under a linear optimiser."""
    rng = np.random.default_rng(3)
    W, R, B = Param(rng.standard_normal((4, 6))), Param(rng.standard_normal((9, 6))), rng.standard_normal((4, 9))
    leader = make(Arena([W]))
    twin, start = leader.like(Arena([R])), R.value - B.T @ W.value
    for t in range(100):
        W.grad[...] = rng.standard_normal(W.grad.shape)
        R.grad[...] = B.T @ W.grad
        leader.step()
        leader.epoch = int(t + 1 >= 50)
        twin.step()
    c = recursion("decoupled" if getattr(leader, "decoupled", True) else "momentum", 0.9, 100)[-1]
    error = np.abs(R.value - B.T @ W.value - c * start).max() / np.abs(start).max()
    assert error < 1e-12 if exact else error > 0.01


# ---- whose clock, whose slots

def test_a_twin_uses_the_values_of_its_leaders_last_step():
    leader, twin = pair(lambda a: SGD(a, MultiStep(1.0, {1: 0.1}, "steps"), decay=MultiStep(0.5, {1: 0.1})))
    leader.step()
    leader.epoch = 1
    assert twin.now == leader.now == {"lr": 1.0, "decay": 0.5, "momentum": 0.0}
    before = entries(twin.arena)
    twin.step()
    assert np.array_equal(entries(twin.arena), before - 0.5 * before)


def test_a_twin_that_steps_first_asks_the_schedule_at_its_leaders_clock():
    leader, twin = pair(lambda a: SGD(a, MultiStep(1.0, {1: 0.25}), decay=0.5))
    leader.epoch = 1
    before = entries(twin.arena)
    twin.step()
    twin.step()
    assert np.allclose(entries(twin.arena), before * 0.875 ** 2, rtol=1e-15)
    assert leader.steps == twin.steps == 0 and twin.now == {"lr": 0.25, "decay": 0.5, "momentum": 0.0}


def test_a_twins_steps_do_not_move_the_clock():
    leader, twin = pair(lambda a: SGD(a, 0.1))
    for _ in range(3):
        twin.step()
    leader.step()
    assert leader.steps == twin.steps == 1
    twin.epoch = 4                                      # there is one clock
    assert leader.epoch == twin.epoch == 4


def test_a_twin_has_slots_of_its_own_and_shares_the_settings():
    leader, twin = pair(lambda a: SGD(a, 0.1, 0.9, nesterov=True, decay=0.2, decay_bias=False))
    leader.arena.grad[...] = 1
    leader.step()
    assert not twin.slots["momentum"].any() and leader.slots["momentum"].any()
    assert twin.schedules is leader.schedules and twin.settings() == leader.settings()
    assert twin.mask.size == twin.arena.value.size and twin.mask is not leader.mask
    assert twin.like(arena(np.random.default_rng(2))).leader is leader


@pytest.mark.parametrize("between", [False, True], ids=["after the update", "between leader and twin"])
@pytest.mark.parametrize("make", [lambda a: SGD(a, momentum=0.9, **schedules()), lambda a: Adam(a, **schedules())])
def test_a_pair_resumes_to_the_bit_wherever_it_was_stopped(make, between):
    def run(leader, twin, steps, rng, begun=False):
        for t in range(steps):
            if not (begun and t == 0):
                feed(leader, twin, rng)
                leader.step()
            leader.epoch = int(leader.steps >= 3)
            twin.step()

    whole, twin = pair(make)
    rng = np.random.default_rng(5)
    run(whole, twin, 2, rng)
    if between:
        feed(whole, twin, rng)
        whole.step()
        whole.epoch = 1                                 # decay has dropped; the twin still owes a step with the old one
    saved = [whole.state(), twin.state(), *(x.copy() for o in (whole, twin) for x in (o.arena.value, o.arena.grad))]
    resumed, other = pair(make, seed=6)
    resumed.load(saved[0])
    other.load(saved[1])
    (resumed.arena.value[...], resumed.arena.grad[...], other.arena.value[...], other.arena.grad[...]) = saved[2:]
    for a, b in ((whole, twin), (resumed, other)):
        run(a, b, 3, np.random.default_rng(7), begun=between)
    assert np.array_equal(whole.arena.value, resumed.arena.value)
    assert np.array_equal(twin.arena.value, other.arena.value)


def test_half_life_of_the_difference():
    """About ln 2 (1 - mu) / (lr lam) steps."""
    D = differences(*pair(lambda a: SGD(a, 0.01, 0.9, decay=0.01)), steps=round(math.log(2) * 0.1 / 1e-4))
    assert (D[-1] / D[0]).mean() == pytest.approx(0.5, abs=0.01)

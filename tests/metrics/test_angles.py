"""Angles, norms and sign agreement against slow formulas, against angles known by construction, and against theory.

The exact initial angles and ratios of the feedback rules follow from their laws: for W and B = m sign(W), m independent
of W, cos = E|w| E m / sqrt(E w^2 E m^2); for independent matrices 0; for a product B R with E[B B'] = I and N = e n,
cos = 1 / sqrt(1 + (n - 0.2) / (e n)) when R = B' W (Li and Benna 2024, arXiv 2405.20594).
"""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.columns import columns
from nplearn.layers import LECUN_NORMAL, XAVIER, Dense, Sequential
from nplearn.metrics import angle, mean_sample_angle, norm, ratio, sign_agreement
from nplearn.rules import registry


def slow_norm(a):
    return math.sqrt(math.fsum(float(x) ** 2 for x in np.ravel(a)))


def slow_angle(a, b):
    inner = math.fsum(float(x) * float(y) for x, y in zip(np.ravel(a), np.ravel(b), strict=True))
    return math.degrees(math.acos(max(-1.0, min(1.0, inner / (slow_norm(a) * slow_norm(b))))))


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 5), min_size=1, max_size=4),
       st.sampled_from([np.float32, np.float64]))
def test_angle_norm_and_ratio_are_the_formulas_over_all_entries(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    assert norm(a) == pytest.approx(slow_norm(a), rel=1e-13)
    assert ratio(a, b) == pytest.approx(slow_norm(a) / slow_norm(b), rel=1e-13)
    assert angle(a, b) == pytest.approx(slow_angle(a, b), abs=2e-6)     # arccos itself loses half the digits at 0


@pytest.mark.parametrize("degrees", [1e-12, 1e-7, 3e-5, 0.01, 1, 45, 89.999999, 90, 91, 135, 179, 180 - 1e-7])
@pytest.mark.parametrize("size", [2, 1001])
def test_an_angle_made_by_rotation_is_found_to_its_last_digits(degrees, size):
    rng, turn = np.random.default_rng(size), math.radians(degrees)
    u, v = np.linalg.qr(rng.standard_normal((size, 2)))[0].T
    far = 180 - degrees
    b = math.cos(turn) * u + math.sin(turn) * v
    if far < 1:                                         # the sine of the angle that is left, not of one rounded near pi
        b = -math.cos(math.radians(far)) * u + math.sin(math.radians(far)) * v
    assert angle(3 * u, 1e-3 * b) == pytest.approx(degrees, rel=1e-9, abs=1e-13 if size == 2 else 3e-14 * size)


def test_a_small_angle_is_measured_where_arccos_gives_zero():
    a, b = np.array([1.0, 0.0]), np.array([1.0, math.radians(1e-7)])
    assert slow_angle(a, b) == 0
    assert angle(a, b) == pytest.approx(1e-7, rel=1e-6)
    thin = np.array([1, math.radians(1e-4)], np.float32)    # float32 arrays: arccos in float32 would say 0 or 0.0198
    assert angle(a.astype(np.float32), thin) == pytest.approx(1e-4, rel=1e-6)


def test_parallel_is_zero_and_opposite_180_at_any_length():
    a = np.random.default_rng(0).standard_normal((7, 3))
    assert angle(a, a) == 0 and angle(a, 1024 * a) == 0
    assert angle(a, -a) == 180 and angle(-0.25 * a, a) == 180
    assert angle(a, 3.7 * a) < 1e-13 and angle(a, -3.7 * a) > 180 - 1e-13
    assert angle(np.array([1.0, 0]), np.array([0, 5.0])) == pytest.approx(90, abs=1e-13)


def test_an_angle_with_a_zero_is_not_a_number():
    a, zero = np.ones(4), np.zeros(4)
    assert all(map(math.isnan, [angle(a, zero), angle(zero, a), angle(zero, zero), ratio(a, zero)]))
    assert ratio(zero, a) == 0 and norm(zero) == 0


def test_layout_changes_no_angle():
    a, b = np.random.default_rng(2).standard_normal((2, 6, 5))
    assert angle(np.asfortranarray(a), b[::1]) == pytest.approx(angle(a, b), rel=1e-14)
    assert angle(a[:, ::2], b[:, ::2]) == pytest.approx(slow_angle(a[:, ::2], b[:, ::2]), rel=1e-12)


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
@pytest.mark.parametrize("nb", [1, 3, 6])
def test_the_mean_over_samples_is_that_of_each_samples_own_angle(shape, nb):
    a, b = np.random.default_rng(nb).standard_normal((2, 6, *shape))
    each = [slow_angle(x, y) for x, y in zip(a, b, strict=True)]
    found, left_out = mean_sample_angle(columns(a, nb), columns(b, nb))
    assert found == pytest.approx(sum(each) / 6, rel=1e-12) and left_out == 0


def test_samples_that_are_zero_are_left_out_and_counted():
    a, b = np.random.default_rng(1).standard_normal((2, 6, 4))
    a[1], b[4] = 0, 0
    kept = [slow_angle(a[i], b[i]) for i in (0, 2, 3, 5)]
    found, left_out = mean_sample_angle(columns(a, 3), columns(b, 3))
    assert found == pytest.approx(sum(kept) / 4, rel=1e-12) and left_out == 2
    nothing, all_out = mean_sample_angle(columns(0 * a, 3), columns(b, 3))
    assert math.isnan(nothing) and all_out == 6


def test_sign_agreement_looks_where_w_is_not_zero():
    W = np.array([1.0, -2, 0, 3, -4, 5, 0])
    B = np.array([7.0, -1, 1, -1, 0, 1e-30, 0])         # agree: 0, 1, 5; a zero of B agrees with no sign
    assert sign_agreement(B, W) == pytest.approx(3 / 5)
    assert sign_agreement(W, W) == 1 and sign_agreement(-W, W) == 0
    assert math.isnan(sign_agreement(B, np.zeros(7)))


# -- X27, X28: what the laws of the rules say of their first step -----------------------------------------------------

def layer_under(rule, n, m, init=XAVIER, seed=3):
    """A weighted layer of n x m that sends, under a rule, in float64."""
    net = Sequential(below=Dense(m, init=init), fc=Dense(n, init=init)).build((2,), seed, np.float64)
    registry.make(rule).attach(net, seed)
    return net.layers[1]


@pytest.mark.parametrize(("rule", "init", "degrees"), [
    ("usf", XAVIER, 30.000), ("usf", LECUN_NORMAL, 37.071), ("brsf", XAVIER, 41.410), ("frsf", XAVIER, 41.410),
    ("frsf:scale=1", LECUN_NORMAL, 46.292), ("frsf", LECUN_NORMAL, 50.460),
    ("fa", XAVIER, 90), ("kp", XAVIER, 90), ("pfa:expand=2", XAVIER, 90), ("pfa-o", XAVIER, 90),
    ("pfa-o:lower=aligned", XAVIER, 0), ("backprop", XAVIER, 0)])
def test_weight_angles_start_where_theory_says(rule, init, degrees):
    layer = layer_under(rule, 512, 512, init)
    found = angle(layer.feedback.effective(layer), layer.weight.value)
    assert abs(found - degrees) < (0.3 if degrees else 1e-6)
    agreement = sign_agreement(layer.feedback.effective(layer), layer.weight.value)
    assert abs(agreement - (1 if degrees < 60 else 0.5)) < 0.005        # 5 standard deviations of 2^18 fair coins


def test_magnitudes_alone_say_nothing_of_w():
    layer = layer_under("frsf", 512, 512)
    assert abs(angle(layer.feedback.kept, layer.weight.value) - 90) < 0.45      # 4 standard deviations


@pytest.mark.parametrize("rule", ["usf", "brsf", "frsf", "fa", "kp", "pfa-o"])
def test_feedback_starts_as_large_as_w(rule):
    layer = layer_under(rule, 512, 512)
    assert ratio(layer.feedback.effective(layer), layer.weight.value) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(("lower", "degrees", "size"), [("random", 90, math.sqrt((512 + 784) / (5120 + 784))),
                                                        ("aligned", 17.55, math.sqrt(1.1))])
def test_the_path_of_a_product_starts_where_theory_says(lower, degrees, size):
    layer = layer_under(f"pfa:expand=10,lower={lower}", 512, 784)
    path = layer.feedback.effective(layer)
    assert abs(angle(path, layer.weight.value) - degrees) < 0.4
    assert ratio(path, layer.weight.value) == pytest.approx(size, rel=0.01)

import numpy as np
from hypothesis import given

from nplearn.columns import columns
from nplearn.kernels import norm
from nplearn.kernels.norm import affine, affine_of_two, along_channels, channel_sum, sum_and_dot
from nplearn.testing.strategies import noise, samples, seeds
from tests.helpers import close


@given(samples(), seeds())
def test_sums_per_channel_are_those_over_all_rows(shape, seed):
    x, y = noise(seed, (6, *shape)), noise(seed + 1, (6, *shape))
    axes = tuple(range(x.ndim - 1))
    close(channel_sum(columns(x, 2)), x.sum(axis=axes), x.size, scale=10)
    total, dots = sum_and_dot(columns(x, 3), columns(y, 3))
    close(total, x.sum(axis=axes), x.size, scale=10)
    close(dots, (x * y).sum(axis=axes), x.size, scale=10)


@given(samples(), seeds())
def test_affine_maps_take_their_numbers_by_channel(shape, seed):
    x, d = noise(seed, (6, *shape)), noise(seed + 1, (6, *shape))
    gain, slope, shift = (noise(seed + 2 + i, shape[-1:]) for i in range(3))
    assert np.array_equal(along_channels(gain, columns(x)) * columns(x), columns(gain * x))
    close(affine(columns(x, 2), gain, shift), columns(gain * x + shift, 2), x.size, scale=10)
    close(affine_of_two(columns(d, 2), columns(x, 2), gain, slope, shift),
          columns(gain * (d + slope * x + shift), 2), x.size, scale=10)


def test_totals_over_many_runs_are_taken_in_float64():
    x = np.full((20_000, 1, 64), 0.1, np.float32)
    assert channel_sum(x).dtype == np.float64
    assert abs(channel_sum(x)[0] / (x.size * float(np.float32(0.1))) - 1) < 1e-6       # float32 all the way: 1e-3


def test_a_variance_that_rounding_has_left_below_zero_is_zero(monkeypatch):
    monkeypatch.setattr(norm, "sum_and_dot", lambda x, y: (np.array([3.0]), np.array([2.999])))
    _, variance, *_ = norm.moments(np.ones((1, 1, 3)), 3)
    assert variance == 0

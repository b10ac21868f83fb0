import numpy as np
from hypothesis import given

from nplearn.columns import columns
from nplearn.kernels.norm import along_channels, channel_dot, channel_sum
from nplearn.testing.strategies import noise, samples, seeds
from tests.helpers import close


@given(samples(), seeds())
def test_sums_per_channel_are_those_over_all_rows(shape, seed):
    x, y = noise(seed, (6, *shape)), noise(seed + 1, (6, *shape))
    axes = tuple(range(x.ndim - 1))
    close(channel_sum(columns(x, 2)), x.sum(axis=axes), x.size, scale=10)
    close(channel_dot(columns(x, 3), columns(y, 3)), (x * y).sum(axis=axes), x.size, scale=10)
    v = noise(seed + 2, shape[-1:])
    assert np.array_equal(along_channels(v, columns(x)) * columns(x), columns(v * x))


def test_totals_over_many_runs_are_taken_in_float64():
    x = np.full((20_000, 1, 64), 0.1, np.float32)
    assert channel_sum(x).dtype == np.float64
    assert abs(channel_sum(x)[0] / (x.size * float(np.float32(0.1))) - 1) < 1e-6       # float32 all the way: 1e-3

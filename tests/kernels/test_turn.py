"""Rows that would drive each other out of the first cache are spread; whatever they hold, they hold it afterwards."""
import numpy as np
import pytest

from nplearn.kernels.turn import PAGE, WAYS, spread_rows
from nplearn.testing.strategies import noise


@pytest.mark.parametrize("n, shape, dtype", [(16, (32, 32, 3), np.float32), (24, (32, 16, 2), np.float64),
                                             (64, (1024,), np.float32), (40, (32, 32, 3), np.uint8)])
def test_rows_that_meet_in_the_cache_come_to_lie_an_odd_number_of_lines_apart(n, shape, dtype):
    rows = (100 * noise(0, (n, *shape))).astype(dtype)
    found = spread_rows(rows)
    assert not np.shares_memory(found, rows) and np.array_equal(found, rows) and found.dtype == dtype
    assert found.strides[0] % 64 == 0 and found.strides[0] // 64 % 2 == 1 and found.ctypes.data % 64 == 0
    assert found.strides[0] - rows[0].nbytes < 128      # and no further than that
    places = found.ctypes.data // 64 + found.strides[0] // 64 * np.arange(n)
    assert np.unique(places % (PAGE // 64), return_counts=True)[1].max() <= WAYS


@pytest.mark.parametrize("rows", [noise(0, (8, 1024)), noise(0, (500, 17, 5, 3)), noise(0, (4, 6))], ids=np.shape)
def test_rows_that_fit_stay_where_they_are(rows):
    assert spread_rows(rows) is rows

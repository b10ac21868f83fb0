import numpy as np
from hypothesis import given

from nplearn.columns import columns, rows
from nplearn.kernels import pool
from nplearn.layers import MaxPool2d
from nplearn.testing.strategies import noise, pools, seeds
from tests.oracles import pool as oracle


@given(pools(kinds=(MaxPool2d,)), seeds())
def test_max_goes_down_to_the_first_maximum_of_many_equal_ones(case, seed):
    layer = case.make().build(case.in_shape, dtype=np.float64)
    x = np.sign(noise(seed, (2, *case.in_shape)))       # nothing but ties
    y = pool.max_forward(columns(x, 1), layer.window)
    d = noise(seed + 1, y.shape)
    found = rows(pool.max_backward(d, columns(x, 1), y, layer.window))
    wanted = oracle.max_pool_backward(rows(d), x, layer.kernel, layer.stride, layer.padding)
    assert np.allclose(found, wanted, rtol=1e-13, atol=1e-13)


@given(pools(kinds=(MaxPool2d,)), seeds())
def test_max_tangent_is_the_transpose_where_maxima_are_equal_too(case, seed):
    layer = case.make().build(case.in_shape, dtype=np.float64)
    x = columns(np.sign(noise(seed, (2, *case.in_shape))))
    y, v = pool.max_forward(x, layer.window), noise(seed + 1, x.shape)
    d = noise(seed + 2, y.shape)
    left = np.vdot(pool.max_tangent(v, x, y, layer.window), d)
    assert np.isclose(left, np.vdot(v, pool.max_backward(d, x, y, layer.window)), rtol=1e-12, atol=1e-12)

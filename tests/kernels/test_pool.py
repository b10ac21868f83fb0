import numpy as np
import pytest
from hypothesis import given

from nplearn.columns import columns, rows
from nplearn.kernels import lanes, pool
from nplearn.kernels.window import Window
from nplearn.layers import MaxPool2d
from nplearn.testing.strategies import noise, pools, seeds
from tests.oracles import pool as oracle

PARTS = [(2, 2), (3, 2), (1, 3), (4, 1)]                # kernels whose windows partition a map of 12 x 6


@given(pools(kinds=(MaxPool2d,)), seeds())
def test_max_goes_down_to_the_first_maximum_of_many_equal_ones(case, seed):
    layer = case.make().build(case.in_shape, dtype=np.float64)
    x = np.sign(noise(seed, (2, *case.in_shape)))       # nothing but ties
    y = pool.max_forward(columns(x, 1), layer.window)
    d = noise(seed + 1, y.shape)
    wanted = oracle.max_pool_backward(rows(d), x, layer.kernel, layer.stride, layer.padding)
    for won in (pool.winners(columns(x, 1), y, layer.window), (columns(x, 1), y)):
        assert np.allclose(rows(pool.max_backward(d, won, layer.window)), wanted, rtol=1e-13, atol=1e-13)


@given(pools(kinds=(MaxPool2d,)), seeds())
def test_max_tangent_is_the_transpose_where_maxima_are_equal_too(case, seed):
    layer = case.make().build(case.in_shape, dtype=np.float64)
    x = columns(np.sign(noise(seed, (2, *case.in_shape))))
    y, v = pool.max_forward(x, layer.window), noise(seed + 1, x.shape)
    d = noise(seed + 2, y.shape)
    for won in (pool.winners(x, y, layer.window), (x, y)):
        left = np.vdot(pool.max_tangent(v, won, layer.window), d)
        assert np.isclose(left, np.vdot(v, pool.max_backward(d, won, layer.window)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kernel", PARTS)
def test_a_mask_of_winners_and_a_second_look_send_the_same_to_the_same_places(kernel, ties):
    window, x = Window(kernel, kernel, ((0, 0), (0, 0)), (1, 1)), noise(0, (2, 12, 3, 6, 5))
    x = np.sign(x) if ties else x
    y = pool.max_forward(x, window)
    won, d, v = pool.winners(x, y, window), noise(1, y.shape), noise(2, x.shape)
    assert won.dtype == bool and won.nbytes == x.size and won.sum() == y.size
    assert np.array_equal(pool.max_backward(d, won, window), pool.max_backward(d, (x, y), window))
    assert np.array_equal(pool.max_tangent(v, won, window), pool.max_tangent(v, (x, y), window))


@pytest.mark.parametrize("window", [Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
                                    Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))], ids=["parts", "overlap"])
def test_in_a_flow_no_pass_reads_what_lanes_have_still_to_write(window):
    """Each pass is given arrays that hold something else until lanes meet."""
    x = noise(0, (4, 6, 2, 8, 3))
    y = pool.max_forward(x, window)
    won, d = pool.winners(x, y, window), noise(1, y.shape)
    shape = x.shape
    passes = [(lambda v: pool.max_backward(v, won, window), d), (lambda v: pool.max_tangent(v, won, window), x),
              (lambda v: pool.max_forward(v, window), x), (lambda v: pool.mean_forward(v, window), x),
              (lambda v: pool.mean_backward(v, shape, window), d), (pool.map_mean, x),
              (lambda v: pool.map_mean_backward(v, shape), d[:, 0, :, 0])]
    for act, x in passes:
        late = np.full_like(x, np.nan)
        with lanes.flow():
            lanes.share(4, lambda t, late=late, x=x: np.copyto(late[t], x[t]))
            found = act(late)
        assert np.array_equal(found, act(x))

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers as whole

from nplearn.columns import columns
from nplearn.kernels import conv
from nplearn.kernels.window import Window
from nplearn.testing.strategies import conv2d, noise, seeds
from tests.helpers import close
from tests.oracles.conv import adjoint_by_taps


@given(conv2d(), seeds())
def test_windows_are_the_patches_that_slicing_a_padded_map_gives(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    w, groups, x = layer.window, layer.groups, columns(noise(seed, (2, *case.in_shape)))[0]
    (_, C, _, nb), (h, _, wide) = x.shape, layer.out_shape
    padded = np.pad(x, (w.pads[0], (0, 0), w.pads[1], (0, 0)))
    found = conv.windows(x, w, groups).reshape(groups, h, *w.kernel, C // groups, wide, nb)
    for g, row, i, j, column in np.ndindex(groups, h, *w.kernel, wide):
        seen = padded[row * w.stride[0] + i * w.dilation[0], :, column * w.stride[1] + j * w.dilation[1]]
        assert np.array_equal(found[g, row, i, j, :, column], seen[g * (C // groups):(g + 1) * (C // groups)])


@given(conv2d(), seeds())
def test_adjoint_takes_each_tap_back_to_where_it_looked(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    W, shape = noise(seed, layer.weight.value.shape), (2, *layer.in_shape, 3)
    d = noise(seed + 1, (2, *layer.out_shape, 3))
    close(conv.adjoint(d, W, shape, layer.window, layer.groups),
          adjoint_by_taps(d, W, shape, layer.window, layer.groups), W.size, scale=np.abs(W).max() * np.abs(d).max())


@given(whole(1, 5), whole(1, 5), whole(1, 4), whole(0, 4), whole(0, 4), whole(5, 12), seeds())
def test_adjoint_of_any_stride_and_dilation(kernel, stride, dilation, before, after, n, seed):
    """Strides and dilations with and without a common divisor, taps that see padding alone, inputs that none sees."""
    window = Window((kernel, 1), (stride, 1), ((before, after), (0, 0)), (dilation, 1))
    h = window.out(n, 1)[0]
    if h < 1:
        return
    W, d = noise(seed, (2, kernel, 1, 3)), noise(seed + 1, (1, h, 2, 1, 2))
    shape = (1, n, 3, 1, 2)
    close(conv.adjoint(d, W, shape, window), adjoint_by_taps(d, W, shape, window), W.size, scale=10)


def test_bands_change_nothing(monkeypatch):
    """A map large for the cache, done in bands of rows: the same bits forward, the same sums for the weights."""
    window = Window((3, 3), (2, 1), ((1, 1), (1, 1)), (1, 1))
    x, W = noise(0, (1, 17, 4, 6, 8)), noise(1, (5, 3, 3, 4))
    d = noise(2, (1, *window.out(17, 6)[:1], 5, 6, 8))
    whole_map = conv.apply(x, W, window), conv.outer(x, d, window), conv.adjoint(d, W, x.shape, window)
    assert len(conv.bands(x[0], window)) == 1
    monkeypatch.setattr(conv, "CACHE", 8000)
    assert len(conv.bands(x[0], window)) == 9
    for a, b in zip(whole_map, (conv.apply(x, W, window), conv.outer(x, d, window),
                                conv.adjoint(d, W, x.shape, window)), strict=True):
        close(a, b, W.size, scale=30)


@pytest.mark.parametrize("n", [5, 8, 16, 32, 33, 40])
@pytest.mark.parametrize("K", [7, 144])                 # from 100 on, with 8 to 32 columns, in tiles
def test_sums_of_products_agree_whichever_way_blas_takes_them(K, n):
    wide, d = noise(0, (2, 3, K, 960)), noise(1, (2, 3, n, 960))            # tiles of 320 and of 64
    wanted = np.einsum("ghkN,ghnN->gkn", wide, d)
    for _ in range(2):                                  # the second time in scratch that is used again
        close(conv.product_sum(wide, d.swapaxes(-1, -2)), wanted, 2880, scale=100)
        d, wanted = -d, -wanted


@given(whole(1, 5), whole(1, 3), whole(1, 3), whole(0, 5), whole(0, 5), whole(1, 9), seeds())
def test_rows_are_cut_where_the_kernel_rows_inside_the_map_change(kernel, stride, dilation, before, after, H, seed):
    window = Window((kernel, 1), (stride, 1), ((before, after), (0, 0)), (dilation, 1))
    h = window.out(H, 1)[0]
    if h < 1:
        return
    first, last = sorted(np.random.default_rng(seed).choice(h + 1, 2, replace=False))
    found = conv.rows_by_taps(window, H, first, last)
    inside = [[i for i in range(kernel) if 0 <= row * stride + i * dilation - before < H] for row in range(first, last)]
    rows = [range(last - first)[part] for part, _ in found]
    assert [row for part in rows for row in part] == [*range(last - first)]
    for part, (_, taps) in zip(rows, found, strict=True):
        assert all([*range(kernel)[taps]] == (inside[row] or [0]) for row in part)
    assert all(a != b for (_, a), (_, b) in zip(found, found[1:], strict=False))        # no run is cut in two

import numpy as np
from hypothesis import given

from nplearn.columns import columns
from nplearn.kernels import conv
from nplearn.testing.strategies import conv2d, noise, seeds
from tests.helpers import close


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
def test_both_ways_to_the_adjoint_agree(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    W, shape = noise(seed, layer.weight.value.shape), (2, *layer.in_shape, 3)
    d = noise(seed + 1, (2, *layer.out_shape, 3))
    close(conv.adjoint(d, W, shape, layer.window, layer.groups), conv.scatter(d, W, shape, layer.window, layer.groups),
          W.size, scale=np.abs(W).max() * np.abs(d).max())


def test_both_ways_are_taken():
    from nplearn.layers import Conv2d
    inside, outside = Conv2d(2, 3).build((5, 4, 2)), Conv2d(2, 2, padding=((2, 0), (0, 0))).build((5, 4, 2))
    assert conv.turned_round(inside.window).pads == ((1, 1), (1, 1))
    assert min(map(min, conv.turned_round(outside.window).pads)) < 0        # padding wider than the kernel reaches
    x, d = noise(0, (1, *outside.in_shape, 2)), noise(1, (1, *outside.out_shape, 2))
    W = noise(2, outside.weight.value.shape)
    assert np.isclose(np.vdot(outside.apply(x, W), d), np.vdot(x, outside.adjoint(d, W, x.shape)))

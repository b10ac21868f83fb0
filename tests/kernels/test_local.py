import numpy as np
from hypothesis import given

from nplearn.columns import columns
from nplearn.kernels import local
from nplearn.testing.strategies import locally_connected2d, noise, seeds


@given(locally_connected2d(), seeds())
def test_patches_are_what_slicing_a_padded_map_gives_in_the_order_row_column_channel(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    x, w = columns(noise(seed, (6, *case.in_shape)), 3), layer.window
    padded = np.pad(x, ((0, 0), w.pads[0], (0, 0), w.pads[1], (0, 0)))
    ready, (h, wide) = local.padded(x, w), w.out(*x.shape[1:4:2])
    for row in range(h):
        found = local.patches(ready, w, row, wide)
        for column in range(wide):
            top, left = row * w.stride[0], column * w.stride[1]
            patch = padded[:, top:top + w.kernel[0], :, left:left + w.kernel[1]]        # (T, kh, C, kw, nb)
            assert np.array_equal(found[:, column], patch.swapaxes(2, 3).reshape(2, -1, 3))

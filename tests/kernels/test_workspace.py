"""Scratch is aligned, kept per thread and key, and left as it was."""
import threading

import numpy as np
import pytest

from nplearn.kernels import conv, workspace
from nplearn.kernels.window import Window


def test_a_key_names_one_array_of_a_thread_and_another_thread_has_its_own():
    mine, other = workspace.zeros("a", (3, 5), np.dtype("f4")), []
    mine[1] = 7
    assert workspace.zeros("a", (3, 5), np.dtype("f4")) is mine and (mine[1] == 7).all()
    thread = threading.Thread(target=lambda: other.append(workspace.zeros("a", (3, 5), np.dtype("f4"))))
    thread.start()
    thread.join()
    assert other[0] is not mine and not other[0].any()
    for key, shape in (("a", (5, 3)), ("b", (3, 5))):
        assert workspace.zeros(key, shape, mine.dtype) is not mine


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_new_arrays_start_on_a_cache_line(dtype):
    arrays = [workspace.empty((n, 3), np.dtype(dtype)) for n in (1, 2, 7)]
    arrays += [workspace.aligned_zeros(np, n, dtype) for n in (1, 5)]
    assert not any(array.ctypes.data % 64 for array in arrays) and arrays[0].shape == (1, 3)


def test_columns_of_one_image_leave_nothing_for_the_next():
    """Two maps of one size through one workspace, the second zero but for a corner; and two windows of one size."""
    rng, window = np.random.default_rng(0), Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    full, corner = rng.normal(size=(4, 2, 5, 3)), np.zeros((4, 2, 5, 3))
    corner[0, 0, 0] = 1
    conv.windows(full, window)
    once = conv.windows(corner, window).copy()
    assert once.sum() == 4 * 3 and np.count_nonzero(once) == 12     # a corner is seen by four windows, 3 samples each
    shifted = Window((3, 3), (1, 1), ((1, 1), (2, 0)), (1, 1))
    conv.windows(full, shifted)
    assert np.array_equal(conv.windows(corner, window), once)


def test_tiles_are_views_of_the_same_columns():
    a = np.arange(2 * 3 * 128.0).reshape(2, 3, 128)
    tiled = conv.tiles(a, 64)
    assert tiled.shape == (2, 2, 3, 64) and np.shares_memory(tiled, a) and np.array_equal(tiled[1, 1], a[1, :, 64:])
    assert [conv.tile_of(n, k, m) for n, k, m in ((512, 144, 16), (512, 288, 32), (512, 576, 64), (100, 9, 4))] == \
        [128, 64, 512, 100]

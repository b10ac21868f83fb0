"""Scratch is aligned, kept per thread and key, and left as it was."""
import threading

import numpy as np
import pytest

from nplearn.kernels import conv, workspace
from nplearn.kernels.window import Window


def test_a_key_names_one_thing_of_a_thread_and_another_thread_has_its_own():
    mine, other = workspace.once("a", lambda: [1]), []
    mine.append(7)
    assert workspace.once("a", lambda: [2]) is mine == [1, 7]
    thread = threading.Thread(target=lambda: other.append(workspace.once("a", lambda: [3])))
    thread.start()
    thread.join()
    assert other == [[3]] and workspace.once("b", lambda: [4]) == [4]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_new_arrays_start_on_a_cache_line(dtype):
    arrays = [workspace.empty(np, (n, 3000), np.dtype(dtype)) for n in (2, 3, 7)]
    arrays += [workspace.zeros(np, (n,), dtype) for n in (1, 5)] + [workspace.empty_like(arrays[1])]
    assert not any(array.ctypes.data % 64 for array in arrays)
    assert [array.shape for array in arrays] == [(2, 3000), (3, 3000), (7, 3000), (1,), (5,), (3, 3000)]
    assert not arrays[3].any() and not arrays[4].any() and {array.dtype for array in arrays} == {np.dtype(dtype)}


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
    shapes = (16, 144, 512), (32, 288, 512), (64, 576, 512), (6, 400, 448), (128, 1152, 512), (4, 9, 100)
    assert [conv.tile_width(*shape) for shape in shapes] == [256, 64, 16, 224, 512, 100]

"""Scratch arrays that are made once and used again: allocation and page faults cost more than small products.

`zeros(key, shape, dtype)` gives each thread its own array for a key, aligned to 64 bytes, zero when first made and
never cleared after: who asks writes the same places each time and leaves the rest zero. It holds until the same key is
asked for again in the same thread, so it is for what one kernel makes and uses up.
"""
import math
import threading

import numpy as np

ALIGN = 64                                              # bytes: a cache line, where BLAS kernels run fastest
_own = threading.local()


def zeros(key, shape, dtype):
    """This thread's array of that key, shape and dtype."""
    arrays = vars(_own).setdefault("arrays", {})
    found = arrays.get((key, shape, dtype))
    if found is None:
        found = arrays[key, shape, dtype] = aligned_zeros(np, math.prod(shape), dtype).reshape(shape)
    return found


def empty(shape, dtype):
    """A new array that starts on a 64-byte boundary (NumPy promises 16), not filled."""
    return _aligned(np.empty, math.prod(shape), dtype).reshape(shape)


def aligned_zeros(xp, n, dtype):
    """n zeros that start on a 64-byte boundary; CuPy aligns to 512 by itself."""
    return _aligned(np.zeros, n, dtype) if xp is np else xp.zeros(n, dtype)


def _aligned(make, n, dtype):
    size = n * np.dtype(dtype).itemsize
    raw = make(size + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start:start + size].view(dtype)

"""Which arrays our own kernels take, and how a kernel is compiled, kept and started.

A kernel is CUDA C in which `T` stands for the arrays' type, compiled by NVRTC at its first use in a precision; CuPy
keeps the binary on disk. An argument is an array, which has to be contiguous (a kernel sees memory, no strides), None
for a null pointer, an int for a `long long`, a float for a `T`, or a NumPy scalar for its own type.
"""
import os

import numpy as np

from nplearn.backend import array_module

PLAIN = os.environ.get("NPLEARN_KERNELS") == "plain"
THREADS = 256                                           # of a block
TYPES = {"f": "float", "d": "double"}
_kept = {}


def serves(x, *others):
    """Whether our kernels take these arrays: on a GPU, all float32 or all float64, with entries."""
    if type(x) is np.ndarray or PLAIN:                  # asked many times a step
        return False
    xp = array_module(x)
    return (xp is not np and hasattr(xp, "RawKernel") and x.dtype.char in TYPES and x.size > 0
            and all(other.dtype == x.dtype for other in others))


def run(source, name, x, grid, threads, *arguments):
    """Start kernel `name` of `source`, in the precision of x, on `grid` blocks of `threads`, each a tuple."""
    xp, dtype = array_module(x), x.dtype
    key = xp, name, dtype.char, source
    if key not in _kept:
        _kept[key] = xp.RawKernel(code(source, dtype), name)
    _kept[key](grid, threads, tuple(passed(a, dtype) for a in arguments))


def code(source, dtype):
    """The source for one precision."""
    return f"typedef {TYPES[dtype.char]} T;\n{source}"


def passed(argument, dtype):
    """An argument as CuPy hands it to a kernel: bare Python numbers get the width that kernels expect."""
    kind = type(argument)
    if kind is int or argument is None:                 # CuPy 13 takes None for no argument at all
        return np.int64(argument or 0)
    return dtype.type(argument) if kind is float else argument


def flat(n):
    """(grid, threads) for n entries, over which a kernel strides."""
    return (min(-(-n // THREADS), 4096),), (THREADS,)


def along(lines, length):
    """(grid, threads) for `lines` runs of `length` entries: a column of blocks for each, which stride over it."""
    threads = min(THREADS, -(-length // 32) * 32)
    return (lines, min(-(-length // (8 * threads)), 65535)), (threads,)


def contiguous(*arrays):
    """The arrays as kernels need them, contiguous: themselves, or copies."""
    return [array_module(x).ascontiguousarray(x) for x in arrays]

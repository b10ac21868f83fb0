"""Products of stacks of matrices that may overlap, share entries or be turned round: cuBLAS, told where they lie.

    matmul(a, b)    a (..., M, K), b (..., K, N) -> (..., M, N), stacks broadcast as NumPy's do

CuPy's own matmul first makes contiguous copies, which for the windows of a convolution are k times their memory. cuBLAS
needs none: it takes for each operand the distance between rows (the leading dimension, at least a row), that between
matrices (0 where all share one), and whether it is transposed. One axis of the stack goes to cuBLAS as a batch, over
the others we loop; neighbouring axes become one where their strides allow. cuBLAS stores by columns: our row-major
c = a b is its c' = b' a', so the operands change places, M and N too.

float32 is computed as float32, whatever CUPY_TF32 says (CuPy reads it for its own products of two matrices).
NPLEARN_TF32=1 in the environment lets float32 products here use TF32, about three decimal digits; never in tests.
"""
import os
from functools import lru_cache

import numpy as np

from nplearn.backend import array_module
from nplearn.errors import NplearnError
from nplearn.kernels.gpu import launch

TF32 = os.environ.get("NPLEARN_TF32", "0") not in ("", "0")
DEFAULT_MATH, TF32_MATH = 0, 3                          # cublasMath_t in cublas_api.h
AS_IT_IS, TURNED = 0, 1                                 # CUBLAS_OP_N, CUBLAS_OP_T
ONE = {c: np.ones((), c) for c in "fd"}                 # cuBLAS reads alpha and beta through a pointer to the host
ZERO = {c: np.zeros((), c) for c in "fd"}
broadcast = lru_cache(np.broadcast_shapes)


def serves(x):
    """Whether products of x go to cuBLAS from here."""
    if type(x) is np.ndarray or launch.PLAIN:
        return False
    xp = array_module(x)
    return xp is not np and hasattr(xp.cuda, "cublas") and x.dtype.char in ONE


def matmul(a, b, out=None):
    """a @ b; `out` must share no memory with a or b. Operands that cuBLAS cannot read as they lie are copied."""
    xp, (m, k), n = array_module(a), a.shape[-2:], b.shape[-1]
    shape = (*broadcast(a.shape[:-2], b.shape[:-2]), m, n)
    # Looked at here, as no other kernel does: cuBLAS is given bare addresses and would write past the end.
    if b.shape[-2] != k or a.dtype != b.dtype or (out is not None and (out.shape, out.dtype) != (shape, a.dtype)):
        into = "" if out is None else f" into {out.dtype} {out.shape}"
        raise NplearnError("gemm.matmul", f"{a.dtype} {a.shape} times {b.dtype} {b.shape}{into}",
                           "matrices that fit, of one precision", "see numpy.matmul")
    out = xp.empty(shape, a.dtype) if out is None else out
    if k == 0 or out.size == 0:
        out[...] = 0
        return out
    how = plan(a.itemsize, *((x.shape, x.strides) for x in (a, b, out)))
    if how is None:
        out[...] = matmul(*map(xp.ascontiguousarray, (a, b)))
        return out
    cublas, handle, char = xp.cuda.cublas, xp.cuda.device.get_cublas_handle(), a.dtype.char
    gemm = cublas.sgemmStridedBatched if char == "f" else cublas.dgemmStridedBatched
    (turn_a, lda, step_a), (turn_b, ldb, step_b), (_, ldc, step_c), count, places = how
    before, mode = cublas.getMathMode(handle), TF32_MATH if TF32 and char == "f" else DEFAULT_MATH
    if before != mode:
        cublas.setMathMode(handle, mode)
    for at_a, at_b, at_c in places:
        gemm(handle, turn_b, turn_a, n, m, k, ONE[char].ctypes.data, b.data.ptr + at_b, ldb, step_b,
             a.data.ptr + at_a, lda, step_a, ZERO[char].ctypes.data, out.data.ptr + at_c, ldc, step_c, count)
    if before != mode:
        cublas.setMathMode(handle, before)
    return out


@lru_cache(maxsize=4096)
def plan(itemsize, *arrays):
    """How cuBLAS is to read a, b and out, each given as (shape, strides): None where it cannot read one of them.

    -> (turned, leading dimension, step from matrix to matrix) of each, in entries; how many matrices a call does; and
    for each call how many bytes behind the arrays' starts it begins
    """
    arrays = [(shape, [s // itemsize for s in strides]) for shape, strides in arrays]
    lies = [reading(shape[-2:], strides[-2:]) for shape, strides in arrays]
    if None in lies or lies[2][0] == TURNED or min(min(strides) for _, strides in arrays) < 0:
        return None
    axes, stack = [], arrays[2][0][:-2]
    for size, *steps in zip(stack, *(steps_of(shape, strides, len(stack)) for shape, strides in arrays), strict=True):
        if size == 1:
            continue
        if axes and all(outer == size * inner for outer, inner in zip(axes[-1][1:], steps, strict=True)):
            size *= axes.pop()[0]
        axes.append((size, *steps))
    batch = max(axes, key=lambda axis: axis[0], default=(1, 0, 0, 0))
    others = [axis for axis in axes if axis is not batch]
    places = [tuple(itemsize * sum(i * axis[which] for i, axis in zip(place, others, strict=True))
                    for which in (1, 2, 3)) for place in np.ndindex(*(axis[0] for axis in others))]
    return *((*lie, step) for lie, step in zip(lies, batch[1:], strict=True)), batch[0], places


def reading(shape, strides):
    """(AS_IT_IS, leading dimension) of a matrix that lies by rows, (TURNED, leading dimension) of one by columns."""
    (rows, columns), (down, across) = shape, strides
    if (across == 1 or columns == 1) and (rows == 1 or down >= columns):
        return AS_IT_IS, down if rows > 1 else columns
    if (down == 1 or rows == 1) and across >= rows:
        return TURNED, across
    return None


def steps_of(shape, strides, n):
    """The strides of the n axes of a stack, 0 for those along which one matrix serves for all."""
    steps = [step if size > 1 else 0 for size, step in zip(shape[:-2], strides[:-2], strict=True)]
    return [0] * (n - len(steps)) + steps

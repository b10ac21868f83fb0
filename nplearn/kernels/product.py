"""The product of two matrices, in tiles of rows where BLAS is faster so.

On processors with wide registers OpenBLAS has kernels for small products, up to SMALL multiply-adds, that read both
matrices where they lie. Above that it packs them first, which for few columns takes longer than the product: 784 to
100 units on 32 samples takes three quarters of the time in four tiles, 1000 to 1000 on 4 samples a third.
"""
from functools import lru_cache

import numpy as np

from nplearn.backend import array_module

SMALL = 100**3                                          # multiply-adds up to which OpenBLAS packs nothing,
AREA = 1200                                             # if the result, where B is read across its rows, is no larger
WHOLE = 8 * SMALL                                       # above, a second thread gains more than tiles do
LEAST = 20                                              # rows: thinner tiles gain nothing


def product(A, B, out=None):
    """A B, for A (m, k) and B (k, n); in `out`, contiguous, where given."""
    if SMALL < A.size * B.shape[1] <= WHOLE and type(A) is np.ndarray:
        (m, k), n = A.shape, B.shape[1]
        rows = tile(m, k, n, not B.flags.c_contiguous)
        if rows < m:
            place = out if out is None else out.reshape(-1, rows, n)
            return np.matmul(A.reshape(-1, rows, k), B, out=place).reshape(m, n)
    if len(B) == 1:                                     # of two vectors matmul would not ask BLAS
        return array_module(A).dot(A, B, out=out)
    return A @ B if out is None else array_module(A).matmul(A, B, out=out)


@lru_cache
def tile(m, k, n, across):
    """How many of m rows make a tile: a divisor of m, by shape alone; m itself where one product is as fast."""
    if not SMALL < m * k * n <= WHOLE or min(k, n) == 1:
        return m
    most = min(SMALL // (k * n), AREA // n if across else m)
    return max((rows for rows in range(LEAST, most + 1) if m % rows == 0), default=m)

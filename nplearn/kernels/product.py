"""The product of two matrices, in tiles of rows where BLAS is faster so.

On processors with wide registers OpenBLAS has kernels for small products, up to SMALL multiply-adds, that read both
matrices where they lie. Above that it packs them first, which for few columns takes longer than the product: 784 to
100 units on 32 samples takes three quarters of the time in four tiles, 1000 to 1000 on 4 samples a third.
"""
from functools import lru_cache

import numpy as np

from nplearn.backend import array_module

SMALL = 100**3                                          # multiply-adds up to which OpenBLAS 0.3 packs nothing
AREA = 1200                                             # entries that a tile's result may have where B lies by columns
WHOLE = 8 * SMALL                                       # above this a second thread of BLAS's gains more than tiles do
LEAST = 20                                              # rows of a tile: thinner ones gain nothing


def product(A, B, out=None):
    """A B, for A (m, k) and B (k, n); in `out` where given, which is then what is returned."""
    if SMALL < A.size * B.shape[1] <= WHOLE and type(A) is np.ndarray:      # array_module would take longer
        (m, k), n = A.shape, B.shape[1]
        rows = tile(m, k, n, B.flags.c_contiguous)
        if rows < m:                                    # to cut the first axis in two is a view, however `out` lies
            tiles = np.matmul(A.reshape(-1, rows, k), B, out=None if out is None else out.reshape(-1, rows, n))
            return tiles.reshape(m, n) if out is None else out
    if len(B) == 1:                                     # of two vectors matmul would not ask BLAS
        return array_module(A).dot(A, B, out=out)
    return A @ B if out is None else array_module(A).matmul(A, B, out=out)


@lru_cache
def tile(m, k, n, by_rows):
    """How many of m rows make a tile: a divisor of m; m itself where one product is as fast. By the matrices' shapes
    and whether B lies by rows, so never by what they hold."""
    if not SMALL < m * k * n <= WHOLE or min(k, n) == 1:
        return m
    most = min(SMALL // (k * n), m if by_rows else AREA // n)
    return max((rows for rows in range(LEAST, most + 1) if m % rows == 0), default=m)

import numpy as np
import pytest

from nplearn.kernels.product import LEAST, SMALL, WHOLE, product, tile
from nplearn.testing.strategies import noise

SHAPES = [(100, 784, 32), (100, 784, 8), (97, 784, 32), (100, 784, 1), (100, 1, 784), (1000, 1000, 4), (120, 400, 48)]


@pytest.mark.parametrize("m, k, n", SHAPES)
@pytest.mark.parametrize("turned", [(), "A", "B", "AB"])
def test_it_is_the_product_however_the_matrices_lie(m, k, n, turned):
    A = noise(0, (k, m)).T if "A" in turned else noise(0, (m, k))
    B = noise(1, (n, k)).T if "B" in turned else noise(1, (k, n))
    out = np.full((m, n), np.nan)
    assert product(A, B, out) is out or np.shares_memory(product(A, B, out), out)
    for C in (out, product(A, B)):
        assert C.shape == (m, n) and np.allclose(C, np.einsum("mk,kn->mn", A, B, optimize=True), atol=1e-9)


@pytest.mark.parametrize("across", [False, True])
def test_tiles_cut_products_of_middling_size_into_equal_parts(across):
    for m, k, n in SHAPES:
        rows = tile(m, k, n, across)
        assert m % rows == 0
        assert rows == m or rows >= LEAST and rows * k * n <= SMALL < m * k * n <= WHOLE
    assert tile(100, 784, 32, across) == 25
    assert tile(128, 32, 784, True) == 128              # its result is large and read across: tiles would lose

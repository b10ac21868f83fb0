import numpy as np
import pytest

from nplearn.kernels.product import LEAST, SMALL, WHOLE, product, tile
from nplearn.testing.strategies import noise

SHAPES = [(100, 784, 32), (100, 784, 8), (97, 784, 32), (100, 784, 1), (100, 1, 784), (1000, 1000, 4), (120, 400, 48)]
ROOMS = {"by rows": lambda m, n: np.full((m, n), np.nan), "by columns": lambda m, n: np.full((n, m), np.nan).T,
         "with gaps": lambda m, n: np.full((m, 2 * n), np.nan)[:, :n]}


@pytest.mark.parametrize("m, k, n", SHAPES)
@pytest.mark.parametrize("turned", [(), "A", "B", "AB"])
def test_it_is_the_product_however_the_matrices_lie(m, k, n, turned):
    A = noise(0, (k, m)).T if "A" in turned else noise(0, (m, k))
    B = noise(1, (n, k)).T if "B" in turned else noise(1, (k, n))
    for C in (product(A, B), product(A, B, np.full((m, n), np.nan))):
        assert C.shape == (m, n) and np.allclose(C, np.einsum("mk,kn->mn", A, B, optimize=True), atol=1e-9)


@pytest.mark.parametrize("m, k, n", [(100, 784, 32), (100, 784, 8), (1000, 1000, 4)])
@pytest.mark.parametrize("room", ROOMS)
def test_out_is_filled_and_returned_however_it_lies(m, k, n, room):
    A, B, out = noise(0, (m, k)), noise(1, (k, n)), ROOMS[room](m, n)
    assert product(A, B, out) is out
    assert np.allclose(out, np.einsum("mk,kn->mn", A, B, optimize=True), atol=1e-9)


@pytest.mark.parametrize("by_rows", [False, True])
def test_tiles_cut_products_of_middling_size_into_equal_parts(by_rows):
    for m, k, n in SHAPES:
        rows = tile(m, k, n, by_rows)
        assert m % rows == 0
        assert rows == m or rows >= LEAST and rows * k * n <= SMALL < m * k * n <= WHOLE
    assert tile(100, 784, 32, by_rows) == 25
    assert tile(128, 32, 784, False) == 128             # its result is large and B lies by columns: tiles would lose

"""Products in cuBLAS's terms: whatever lies where, the numbers are NumPy's, and nothing else is written.

Entries are small whole numbers, so that every sum is exact and results agree to the bit.
"""
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.errors import NplearnError
from nplearn.kernels import conv
from nplearn.kernels.gpu import gemm
from nplearn.kernels.window import Window
from tests.fake_device import FakeCupy
from tests.gpu.conftest import REAL, device

as_strided = np.lib.stride_tricks.as_strided


def whole(seed, n, dtype):
    return np.random.default_rng(seed).integers(-3, 4, n).astype(dtype)


class Lies(tuple):
    """(shape, strides, start) in entries: where an operand lies in a flat array."""

    @property
    def size(self):
        shape, strides, start = self
        return start + 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))

    def view(self, flat, strided):
        shape, strides, start = self
        return strided(flat[start:], shape, tuple(s * flat.itemsize for s in strides))


@st.composite
def operand(draw, stack, rows, columns, output=False):
    """A matrix by rows or columns, with gaps between or sharing entries, in a stack whose matrices may do likewise."""
    turned, gap, start = draw(st.booleans()), draw(st.integers(0 if output else -4, 3)), draw(st.integers(0, 5))
    lead = max(0, (rows if turned else columns) + gap)
    strides, room = ((1, lead) if turned else (lead, 1)), lead * (columns if turned else rows)
    shape = []
    for n in reversed(stack):
        n = n if output else draw(st.sampled_from([n, 1]))
        apart, any_step = room + draw(st.integers(0, 2)), draw(st.sampled_from([room, 1, lead, 2 * lead, 0]))
        step = apart if output else any_step
        shape.insert(0, n)
        strides, room = (step, *strides), max(room, n * step)
    keep = len(stack) if output else draw(st.integers(0, len(stack)))
    first = len(stack) - keep
    return Lies((tuple([*shape, rows, columns][first:]), strides[first:], start))


@st.composite
def products(draw):
    stack = draw(st.lists(st.integers(1, 4), max_size=3))
    m, k, n = (draw(st.integers(1, 5)) for _ in range(3))
    a, b = draw(operand(stack, m, k)), draw(operand(stack, k, n))
    shape = np.broadcast_shapes(a[0][:-2], b[0][:-2])
    return a, b, draw(operand(shape, m, n, output=True))


def check(xp, case, seed, dtype):
    a, b, out = case
    flat = [whole(seed + i, lies.size, dtype) for i, lies in enumerate((a, b))]
    wanted = np.full(out.size + 7, 99, dtype)
    found = xp.asarray(wanted.copy())
    out.view(wanted, as_strided)[...] = a.view(flat[0], as_strided) @ b.view(flat[1], as_strided)
    left, right = (lies.view(xp.asarray(f), xp.lib.stride_tricks.as_strided)
                   for lies, f in zip((a, b), flat, strict=True))
    place = out.view(found, xp.lib.stride_tricks.as_strided)
    assert gemm.matmul(left, right, out=place) is place
    assert np.array_equal(found.get(), wanted)
    fresh = gemm.matmul(left, right)
    assert fresh.flags.c_contiguous and np.array_equal(fresh.get(), out.view(wanted, as_strided))


@pytest.mark.parametrize("kind", ["cublas", REAL])
@given(products(), st.integers(0, 99), st.sampled_from([np.float32, np.float64]))
def test_a_product_is_numpys_wherever_its_operands_lie(kind, case, seed, dtype):
    with pytest.MonkeyPatch.context() as patch:
        check(device(kind, patch), case, seed, dtype)


def test_the_numbers_that_a_product_of_windows_hands_over(monkeypatch):
    """Worked out by hand: W (2 x 6) on 3 overlapping windows (6 x 4) of a flat array, each one row (4) further on."""
    xp = device("cublas", monkeypatch)
    W, flat = xp.asarray(whole(0, 12, np.float32)).reshape(2, 6), xp.asarray(whole(1, 32, np.float32))
    windows = xp.lib.stride_tricks.as_strided(flat, (3, 6, 4), (16, 16, 4))
    out = gemm.matmul(W, windows)
    call, = xp.cuda.cublas.calls
    one, zero = gemm.ONE["f"].ctypes.data, gemm.ZERO["f"].ctypes.data
    #                 N  N  m  n  k       A = windows        ld step  B = W           ld step     C             ld step
    assert call == (1, 0, 0, 4, 2, 6, one, windows.data.ptr, 4, 4, W.data.ptr, 6, 0, zero, out.data.ptr, 4, 8, 3)
    turned = gemm.matmul(windows, out.swapaxes(1, 2))                       # (3, 6, 4) times (3, 4, 2)
    call = xp.cuda.cublas.calls[-1]
    assert call == (1, 1, 0, 2, 6, 4, one, out.data.ptr, 4, 8, windows.data.ptr, 4, 4, zero, turned.data.ptr, 2, 12, 3)


def test_float32_stays_float32_unless_tf32_is_asked_for(monkeypatch):
    xp = device("cublas", monkeypatch)
    cublas, one = xp.cuda.cublas, xp.asarray(np.ones((2, 2), np.float32))
    gemm.matmul(one, one)
    cublas.mode = gemm.TF32_MATH                        # somebody else's choice for this handle
    gemm.matmul(one, one)
    assert cublas.modes == [0, 0] and cublas.mode == gemm.TF32_MATH
    cublas.mode = 0
    monkeypatch.setattr(gemm, "TF32", True)
    gemm.matmul(one, one)
    gemm.matmul(one.astype("float64"), one.astype("float64"))
    assert cublas.modes == [0, 0, 3, 0] and cublas.mode == 0


def test_what_does_not_fit_is_refused(monkeypatch):
    xp = device("cublas", monkeypatch)
    a, b = xp.asarray(np.ones((2, 3))), xp.asarray(np.ones((3, 2)))
    for wrong in (lambda: gemm.matmul(a, a), lambda: gemm.matmul(a, b.astype("float32")),
                  lambda: gemm.matmul(a, b, out=a)):
        with pytest.raises(NplearnError, match="matrices that fit"):
            wrong()


def test_nothing_to_add_up_is_zero(with_cublas):
    xp = with_cublas
    out = gemm.matmul(xp.asarray(np.ones((2, 3, 0))), xp.asarray(np.ones((0, 4))))
    assert out.shape == (2, 3, 4) and not out.get().any()
    assert gemm.matmul(xp.asarray(np.ones((0, 3, 2))), xp.asarray(np.ones((2, 4)))).shape == (0, 3, 4)


CONVOLUTIONS = {                                        # window, groups, (T, H, C, W, nb), products forward a chunk
    "3 x 3": (Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), 1, (1, 6, 4, 5, 3), 1),
    "point": (Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)), 1, (2, 6, 4, 5, 2), 1),
    "stride": (Window((3, 2), (2, 3), ((1, 0), (0, 1)), (1, 1)), 1, (1, 7, 4, 8, 2), 1),
    "dilation": (Window((2, 3), (1, 2), ((1, 1), (2, 2)), (3, 2)), 1, (1, 7, 4, 8, 2), 1),
    "groups": (Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), 2, (1, 6, 4, 5, 3), 2),
    "depthwise": (Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), 4, (1, 3, 4, 5, 1), 3),     # one for each row
    "point groups": (Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)), 2, (2, 6, 4, 5, 2), 2)}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolutions_are_those_of_the_host_to_the_bit(name, dtype, any_device):
    window, groups, shape, calls = CONVOLUTIONS[name]
    (T, H, C, W, nb), n_out, xp = shape, 6 if groups < 4 else 8, any_device
    x = whole(0, prod(shape), dtype).reshape(shape)
    kernel = whole(1, n_out * prod(window.kernel) * C // groups, dtype).reshape(n_out, *window.kernel, C // groups)
    h, w = window.out(H, W)
    d = whole(2, T * h * n_out * w * nb, dtype).reshape(T, h, n_out, w, nb)
    X, K, D = map(xp.asarray, (x, kernel, d))
    assert np.array_equal(conv.apply(X, K, window, groups).get(), conv.apply(x, kernel, window, groups))
    if isinstance(xp, FakeCupy) and hasattr(xp.cuda, "cublas"):
        assert len(xp.cuda.cublas.calls) == T * calls
    assert np.array_equal(conv.outer(X, D, window, groups).get(), conv.outer(x, d, window, groups))
    assert np.array_equal(conv.adjoint(D, K, shape, window, groups).get(),
                          conv.adjoint(d, kernel, shape, window, groups))


def test_windows_are_multiplied_where_they_lie():
    """Rows of overlapping windows are one stride apart for every kernel without dilation: nothing is copied."""
    for window, groups, shape, _ in CONVOLUTIONS.values():
        x = np.zeros(shape[1:], np.float32)
        seen = conv.windows(x, window, groups)
        G, h, K, N = seen.shape
        W, out = np.zeros((G, 1, 2, K), np.float32), np.zeros((h, G, 2, N), np.float32).swapaxes(0, 1)
        assert gemm.plan(4, *((a.shape, a.strides) for a in (W, seen, out))) is not None

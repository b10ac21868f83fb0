"""A sliding window and its map, as kernels are told of them: fourteen numbers in one order, for C and for Python.

Output (r, o) and tap (i, j) meet input (r sh + i dh - top, o sw + j dw - left), as in kernels/window.py.
"""
PARAMETERS = """long long H, long long C, long long W, long long nb, long long h, long long w, long long kh,
                 long long kw, long long sh, long long sw, long long top, long long left, long long dh, long long dw"""


def numbers(shape, window):
    """The values of `PARAMETERS` for a map of `shape` (T, H, C, W, nb)."""
    _, H, C, W, nb = shape
    (top, _), (left, _) = window.pads
    return H, C, W, nb, *window.out(H, W), *window.kernel, *window.stride, top, left, *window.dilation

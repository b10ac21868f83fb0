"""Convolution by explicit loops, and by SciPy. Maps are rows (N, H, W, C); kernels (n_out, kh, kw, C / groups)."""
import numpy as np
from scipy.signal import correlate2d


def pads_of(padding, sizes, kernel, stride, dilation):
    """((top, bottom), (left, right)), spelled out anew: "same" gives ceil(n / stride) outputs, an odd pad goes last."""
    if padding == "same":
        found = []
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
            wanted = int(np.ceil(n / s))
            reach = d * (k - 1) + 1
            lacking = max((wanted - 1) * s + reach - n, 0)
            found.append((lacking // 2, lacking - lacking // 2))
        return tuple(found)
    if padding == "valid":
        padding = 0
    vertical, horizontal = padding if isinstance(padding, tuple) else (padding, padding)
    return tuple(p if isinstance(p, tuple) else (p, p) for p in (vertical, horizontal))


def padded(x, pads, value=0.0):
    return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def conv2d(x, W, stride=(1, 1), padding="valid", dilation=(1, 1), groups=1):
    """-> (N, H', W', n_out), one output number at a time."""
    n_out, kh, kw, c = W.shape
    x = padded(x, pads_of(padding, x.shape[1:3], (kh, kw), stride, dilation))
    N, H, width, _ = x.shape
    h = (H - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    w = (width - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((N, h, w, n_out), x.dtype)
    for row in range(h):
        for column in range(w):
            for o in range(n_out):
                first = (o // (n_out // groups)) * c
                for i, j in np.ndindex(kh, kw):
                    seen = x[:, row * stride[0] + i * dilation[0], column * stride[1] + j * dilation[1]]
                    y[:, row, column, o] += seen[:, first:first + c] @ W[o, i, j]
    return y


def conv2d_scipy(x, W, padding):
    """Stride 1, one group, by `scipy.signal.correlate2d` on each pair of channels."""
    x = padded(x, pads_of(padding, x.shape[1:3], W.shape[1:3], (1, 1), (1, 1)))
    maps = [[sum(correlate2d(sample[:, :, c], kernel[:, :, c], "valid") for c in range(W.shape[3])) for kernel in W]
            for sample in x]
    return np.array(maps).transpose(0, 2, 3, 1)


def adjoint_by_taps(d, W, shape, window, groups=1):
    """Columns d (T, H', n_out, W', nb) -> dx of `shape`: what a tap takes down is added where the tap looked."""
    T, H, C, width, nb = shape
    dx, c = np.zeros(shape, d.dtype), C // groups
    per_group = len(W) // groups
    for i, j, out_h, out_w, in_h, in_w in window.taps(H, width):
        for g in range(groups):
            took = np.einsum("oc,tholn->thcln", W[g * per_group:(g + 1) * per_group, i, j],
                             d[:, out_h, g * per_group:(g + 1) * per_group, out_w])
            dx[:, in_h, g * c:(g + 1) * c, in_w] += took
    return dx

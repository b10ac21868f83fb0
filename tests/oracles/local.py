"""A locally connected layer by loops: rows (N, H, W, C), W (H', W', n_out, kh kw C) with taps in (i, j, c) order."""
import numpy as np

from tests.oracles.conv import padded, pads_of


def locally_connected(x, W, kernel, stride, padding):
    """-> (N, H', W', n_out)."""
    x = padded(x, pads_of(padding, x.shape[1:3], kernel, stride, (1, 1)))
    h, w, n_out, _ = W.shape
    y = np.zeros((len(x), h, w, n_out), x.dtype)
    for n, row, column in np.ndindex(len(x), h, w):
        top, left = row * stride[0], column * stride[1]
        patch = x[n, top:top + kernel[0], left:left + kernel[1]]            # (kh, kw, C)
        y[n, row, column] = W[row, column] @ patch.ravel()
    return y

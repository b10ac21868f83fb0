"""Pooling by loops over maps as rows (N, H, W, C)."""
import numpy as np

from tests.oracles.conv import padded, pads_of


def _patches(x, kernel, stride, padding, value):
    pads = pads_of(padding, x.shape[1:3], kernel, stride, (1, 1))
    x = padded(x, pads, value)
    h, w = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], kernel, stride, strict=True))
    for row, column in np.ndindex(h, w):
        top, left = row * stride[0], column * stride[1]
        yield (h, w), row, column, x[:, top:top + kernel[0], left:left + kernel[1]]


def _pool(x, kernel, stride, padding, value, reduce):
    y = None
    for (h, w), row, column, patch in _patches(x, kernel, stride, padding, value):
        y = np.zeros((len(x), h, w, x.shape[3]), x.dtype) if y is None else y
        y[:, row, column] = reduce(patch, axis=(1, 2))
    return y


def max_pool(x, kernel, stride, padding="valid"):
    return _pool(x, kernel, stride, padding, -np.inf, np.max)


def mean_pool(x, kernel, stride, padding="valid"):
    """The padding counts as zeros."""
    return _pool(x, kernel, stride, padding, 0.0, np.mean)


def mean_pool_backward(d, shape, kernel, stride, padding="valid"):
    """Each d, in equal parts, goes to all entries of its window; what the padding gets is cut off at the end."""
    (top, bottom), (left, right) = pads_of(padding, shape[1:3], kernel, stride, (1, 1))
    N, H, W, C = shape
    dx = np.zeros((N, top + H + bottom, left + W + right, C))
    for row, column in np.ndindex(d.shape[1:3]):
        for i, j in np.ndindex(kernel):
            dx[:, row * stride[0] + i, column * stride[1] + j] += d[:, row, column] / (kernel[0] * kernel[1])
    return dx[:, top:top + H, left:left + W]


def max_pool_backward(d, x, kernel, stride, padding="valid"):
    """Each d goes to the entry of its window that NumPy's argmax finds: the first, row by row."""
    (top, _), (left, _) = pads_of(padding, x.shape[1:3], kernel, stride, (1, 1))
    dx = np.zeros_like(x)
    for _, row, column, patch in _patches(x, kernel, stride, padding, -np.inf):
        for n, c in np.ndindex(len(x), x.shape[3]):
            i, j = np.unravel_index(np.argmax(patch[n, :, :, c]), kernel)
            dx[n, row * stride[0] + i - top, column * stride[1] + j - left, c] += d[n, row, column, c]
    return dx

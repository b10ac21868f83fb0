"""The three operators of a locally connected layer: a convolution's window, a matrix of its own at every position.

x (T, H, C, W, nb); weights W (H', W', n_out, kh kw C), taps in (i, j, c) order; patches (T, H', W', kh kw C, nb).
"""
from nplearn.backend import array_module


def patches(x, window):
    """(T, H, C, W, nb) -> (T, H', W', kh*kw*C, nb); zeros where a tap sees the padding."""
    xp, (T, H, C, W, nb) = array_module(x), x.shape
    h, w = window.out(H, W)
    out = xp.zeros((T, h, w, *window.kernel, C, nb), x.dtype)
    for i, j, out_h, out_w, in_h, in_w in window.taps(H, W):
        out[:, out_h, out_w, i, j] = x[:, in_h, :, in_w].swapaxes(2, 3)
    return out.reshape(T, h, w, -1, nb)


def apply(x, W, window):
    """-> a (T, H', n_out, W', nb)."""
    return array_module(x).ascontiguousarray((W @ patches(x, window)).swapaxes(2, 3))


def outer(x, d, window):
    """-> dW (H', W', n_out, K)."""
    return (d.swapaxes(2, 3) @ patches(x, window).swapaxes(-1, -2)).sum(axis=0)


def adjoint(d, W, shape, window):
    """-> dx of `shape` (T, H, C, W, nb)."""
    T, H, C, width, nb = shape
    g = W.swapaxes(-1, -2) @ d.swapaxes(2, 3)
    g = g.reshape(*g.shape[:3], *window.kernel, C, nb)
    dx = array_module(d).zeros(shape, d.dtype)
    for i, j, out_h, out_w, in_h, in_w in window.taps(H, width):
        dx[:, in_h, :, in_w] += g[:, out_h, out_w, i, j].swapaxes(2, 3)
    return dx

"""Max and average pooling over (T, H, C, W, nb), tap by tap: no index arrays, long inner runs."""
from nplearn.backend import array_module


def max_forward(x, window):
    """The largest of each window; padding never wins. -> (T, H', C, W', nb)."""
    xp, (T, H, C, W, nb) = array_module(x), x.shape
    h, w = window.out(H, W)
    y = xp.full((T, h, C, w, nb), -xp.inf, x.dtype)
    for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
        part = y[:, out_h, :, out_w]
        xp.maximum(part, x[:, in_h, :, in_w], out=part)
    return y


def max_backward(d, x, y, window):
    """d goes to the first tap (row by row) that reached the maximum, as in PyTorch."""
    xp, (_, H, _, W, _) = array_module(x), x.shape
    dx, left = xp.zeros_like(x), d.copy()
    for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
        part = left[:, out_h, :, out_w]
        won = part * (x[:, in_h, :, in_w] == y[:, out_h, :, out_w])
        dx[:, in_h, :, in_w] += won
        part -= won
    return dx


def max_tangent(v, x, y, window):
    """The entry of v (shaped like x) at the tap that reached the maximum: the transpose of `max_backward`."""
    xp, (_, H, _, W, _) = array_module(x), x.shape
    out, open_ = xp.zeros_like(y), xp.ones(y.shape, bool)
    for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
        part = open_[:, out_h, :, out_w]
        hit = part & (x[:, in_h, :, in_w] == y[:, out_h, :, out_w])
        out[:, out_h, :, out_w] += v[:, in_h, :, in_w] * hit
        part &= ~hit
    return out


def mean_forward(x, window):
    """The mean of each window, padding counted as zeros. -> (T, H', C, W', nb)."""
    xp, (T, H, C, W, nb) = array_module(x), x.shape
    h, w = window.out(H, W)
    y = xp.zeros((T, h, C, w, nb), x.dtype)
    for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
        y[:, out_h, :, out_w] += x[:, in_h, :, in_w]
    y /= window.kernel[0] * window.kernel[1]
    return y


def mean_backward(d, shape, window):
    """The transpose of `mean_forward`: d / (kh kw) at every tap."""
    dx = array_module(d).zeros(shape, d.dtype)
    d = d / (window.kernel[0] * window.kernel[1])
    for _, _, out_h, out_w, in_h, in_w in window.taps(shape[1], shape[3]):
        dx[:, in_h, :, in_w] += d[:, out_h, :, out_w]
    return dx

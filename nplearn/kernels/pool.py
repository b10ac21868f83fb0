"""Max and average pooling over (T, H, C, W, nb), a chunk at a time, tap by tap: no index arrays, long inner runs."""
from nplearn.backend import array_module
from nplearn.kernels import lanes


def max_forward(x, window):
    """The largest of each window; padding never wins. -> (T, H', C, W', nb)."""
    xp, (T, H, C, W, nb) = array_module(x), x.shape
    h, w = window.out(H, W)
    y = xp.full((T, h, C, w, nb), -xp.inf, x.dtype)

    def one(t):
        for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
            part = y[t, out_h, :, out_w]
            xp.maximum(part, x[t, in_h, :, in_w], out=part)
    lanes.share(T, one)
    return y


def max_backward(d, x, y, window):
    """d goes to the first tap (row by row) that reached the maximum, as in PyTorch."""
    xp, (T, H, _, W, _) = array_module(x), x.shape
    dx = xp.zeros_like(x)

    def one(t):
        left = d[t].copy()
        for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
            part = left[out_h, :, out_w]
            won = part * (x[t, in_h, :, in_w] == y[t, out_h, :, out_w])
            dx[t, in_h, :, in_w] += won
            part -= won
    lanes.share(T, one)
    return dx


def max_tangent(v, x, y, window):
    """The entry of v (shaped like x) at the tap that reached the maximum: the transpose of `max_backward`."""
    xp, (T, H, _, W, _) = array_module(x), x.shape
    out = xp.zeros_like(y)

    def one(t):
        free = xp.ones(y[t].shape, bool)
        for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
            part = free[out_h, :, out_w]
            hit = part & (x[t, in_h, :, in_w] == y[t, out_h, :, out_w])
            out[t, out_h, :, out_w] += v[t, in_h, :, in_w] * hit
            part &= ~hit
    lanes.share(T, one)
    return out


def mean_forward(x, window):
    """The mean of each window, padding counted as zeros. -> (T, H', C, W', nb)."""
    xp, (T, H, C, W, nb) = array_module(x), x.shape
    h, w = window.out(H, W)
    y = xp.zeros((T, h, C, w, nb), x.dtype)

    def one(t):
        for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
            y[t, out_h, :, out_w] += x[t, in_h, :, in_w]
        y[t] /= window.kernel[0] * window.kernel[1]
    lanes.share(T, one)
    return y


def mean_backward(d, shape, window):
    """The transpose of `mean_forward`: d / (kh kw) at every tap."""
    dx = array_module(d).zeros(shape, d.dtype)

    def one(t):
        share = d[t] / (window.kernel[0] * window.kernel[1])
        for _, _, out_h, out_w, in_h, in_w in window.taps(shape[1], shape[3]):
            dx[t, in_h, :, in_w] += share[out_h, :, out_w]
    lanes.share(len(d), one)
    return dx

"""Max and average pooling over (T, H, C, W, nb), a chunk at a time, tap by tap: no index arrays, long inner runs."""
from nplearn.backend import array_module
from nplearn.kernels import lanes, workspace
from nplearn.kernels.gpu import launch
from nplearn.kernels.gpu import pool as fused


def max_forward(x, window):
    """x (T, H, C, W, nb), the largest of each window -> (T, H', C, W', nb); padding never wins."""
    if launch.serves(x):
        return fused.max_forward(x, window)
    xp, (T, H, C, W, nb) = array_module(x), x.shape
    (h, w), (s, r), inside = window.out(H, W), window.stride, window.pads == ((0, 0), (0, 0))
    y = workspace.empty(xp, (T, h, C, w, nb), x.dtype)

    def one(t):
        y[t] = x[t, :h * s:s, :, :w * r:r] if inside else -xp.inf       # inside the first tap is seen everywhere
        for _, _, out_h, out_w, in_h, in_w in list(window.taps(H, W))[inside:]:
            part = y[t, out_h, :, out_w]
            xp.maximum(part, x[t, in_h, :, in_w], out=part)
    lanes.share(T, one)
    return y


def max_backward(d, x, y, window):
    """d and y (T, H', C, W', nb) -> dx like x: d goes to the first tap (row by row) that reached the maximum, as in
    PyTorch."""
    if launch.serves(d, x, y):
        return fused.max_backward(d, x, y, window)
    xp, (T, H, _, W, _) = array_module(x), x.shape
    dx, tiled = workspace.empty_like(x), window.tiles(H, W)

    def one(t):
        left, won = d[t], xp.empty(y.shape[1:], bool)
        if tiled:                                       # each entry of dx is seen once: written there and then
            for _, _, _, _, in_h, in_w in window.taps(H, W):
                place = dx[t, in_h, :, in_w]
                xp.multiply(left, xp.equal(x[t, in_h, :, in_w], y[t], out=won), out=place)
                left = left - place
            return
        left, dx[t] = left.copy(), 0
        for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
            rest, hit = left[out_h, :, out_w], won[out_h, :, out_w]
            taken = rest * xp.equal(x[t, in_h, :, in_w], y[t, out_h, :, out_w], out=hit)
            dx[t, in_h, :, in_w] += taken
            rest -= taken
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
    y = workspace.empty(xp, (T, h, C, w, nb), x.dtype)

    def one(t):
        y[t] = 0
        for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
            y[t, out_h, :, out_w] += x[t, in_h, :, in_w]
        y[t] /= window.kernel[0] * window.kernel[1]
    lanes.share(T, one)
    return y


def mean_backward(d, shape, window):
    """The transpose of `mean_forward`: d / (kh kw) at every tap."""
    dx = workspace.empty(array_module(d), shape, d.dtype)

    def one(t):
        dx[t], share = 0, d[t] / (window.kernel[0] * window.kernel[1])
        for _, _, out_h, out_w, in_h, in_w in window.taps(shape[1], shape[3]):
            dx[t, in_h, :, in_w] += share[out_h, :, out_w]
    lanes.share(len(d), one)
    return dx


def map_mean(x):
    """The mean over the whole map, (T, H, C, W, nb) -> (T, C, nb)."""
    T, H, C, W, nb = x.shape
    y = workspace.empty(array_module(x), (T, C, nb), x.dtype)

    def one(t):
        y[t] = x[t].sum(axis=0).sum(axis=1)             # rows first, in long runs
        y[t] /= H * W
    lanes.share(T, one)
    return y

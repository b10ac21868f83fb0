"""Max and average pooling over (T, H, C, W, nb), a chunk at a time, tap by tap: no index arrays, long inner runs."""
import numpy as np

from nplearn.backend import array_module
from nplearn.kernels import lanes, workspace
from nplearn.kernels.gpu import launch
from nplearn.kernels.gpu import pool as fused


def max_forward(x, window):
    """x (T, H, C, W, nb), the largest of each window -> (T, H', C, W', nb); padding never wins."""
    if launch.serves(x):
        return fused.max_forward(x, window)
    xp, (T, H, C, W, nb) = array_module(x), x.shape
    h, w = window.out(H, W)
    y = workspace.empty(xp, (T, h, C, w, nb), x.dtype)
    down, across = ([window.meets(axis, tap, n) for tap in range(window.kernel[axis])] for axis, n in enumerate((H, W)))

    def one(t):
        rows = scratch(xp, "largest", (h, C, W, nb), x.dtype)
        largest(x[t], down, window.pads[0], rows)
        largest(rows.swapaxes(0, 2), across, window.pads[1], y[t].swapaxes(0, 2))
    lanes.share(T, one)
    return y


def largest(x, taps, pads, out):
    """The largest of each window along the first axis, written into `out`; taps are (outputs, the inputs they see)."""
    xp = array_module(x)
    if pads != (0, 0):
        out[...] = -xp.inf
    elif len(taps) == 1:
        out[...] = x[taps[0][1]]
        return
    else:                                               # every output sees every tap
        (_, one), (_, two), *taps = taps
        xp.maximum(x[one], x[two], out=out)
    for there, seen in taps:
        xp.maximum(out[there], x[seen], out=out[there])


def max_backward(d, x, y, window):
    """d and y (T, H', C, W', nb) -> dx like x: d goes to the first tap (row by row) that reached the maximum, as in
    PyTorch."""
    if launch.serves(d, x, y):
        return fused.max_backward(d, x, y, window)
    won = winners(x, y, window)
    if won is not None:
        return to_winners(d, won)
    xp, (T, H, _, W, _), dx = array_module(x), x.shape, workspace.empty_like(x)

    def one(t):
        left, won, dx[t] = d[t].copy(), xp.empty(y.shape[1:], bool), 0
        for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
            rest, hit = left[out_h, :, out_w], won[out_h, :, out_w]
            taken = rest * xp.equal(x[t, in_h, :, in_w], y[t, out_h, :, out_w], out=hit)
            dx[t, in_h, :, in_w] += taken
            rest -= taken
    lanes.share(T, one)
    return dx


def winners(x, y, window):
    """Where windows tile x: which entry of each won, the first (row by row) that reached its maximum y, as bools
    (T, H', kh, C, W', kw, nb), which lie as x does. Else None, and on a GPU, whose kernels look at x and y again."""
    xp, (T, H, C, W, nb), (kh, kw) = array_module(x), x.shape, window.kernel
    if launch.serves(x, y) or not window.tiles(H, W):
        return None
    won = workspace.empty(xp, (T, H // kh, kh, C, W // kw, kw, nb), np.dtype(bool))

    def one(t):
        rows = H // kh, kh, C, W, nb                    # y stretched to the width of x: whole rows are compared
        xp.equal(x[t].reshape(rows), y[t].repeat(kw, axis=2)[:, None], out=won[t].reshape(rows))
        if xp is not np or np.count_nonzero(won[t]) > y[t].size:        # equal maxima; to ask a GPU would be a transfer
            keep_first(won[t])
    lanes.share(T, one)
    return won


def to_winners(d, won):
    """d (T, H', C, W', nb) -> dx like x, d at the entries that won, zero at the others."""
    T, h, kh, C, w, kw, nb = won.shape
    dx = workspace.empty(array_module(d), (T, h * kh, C, w * kw, nb), d.dtype)

    def one(t):
        place = dx[t].reshape(h, kh, C, w * kw, nb)
        place[...] = won[t].reshape(place.shape)        # a mask of numbers: bools are converted in small buffers
        place *= d[t].repeat(kw, axis=2)[:, None]
    lanes.share(T, one)
    return dx


def from_winners(v, won):
    """The entry of v (shaped like x) that won in each window, (T, H', C, W', nb): the transpose of `to_winners`."""
    return (v.reshape(won.shape) * won).sum(axis=(2, 5))


def keep_first(won):
    """Of all taps of a window that won, (h, kh, C, w, kw, nb) bools, leave the first, row by row."""
    xp, (h, kh, C, w, kw, nb) = array_module(won), won.shape
    taken = xp.zeros((h, C, w, nb), bool)
    for i, j in np.ndindex(kh, kw):
        tap = won[:, i, :, :, j]
        xp.greater(tap, taken, out=tap)                 # won, and not taken yet
        taken |= tap


def scratch(xp, role, shape, dtype):
    """An array that this thread fills and uses up before it asks for the same again."""
    return workspace.once((role, xp, shape, dtype), lambda: workspace.empty(xp, shape, dtype))


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

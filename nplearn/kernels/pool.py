"""Max and average pooling over (T, H, C, W, nb), a chunk at a time, tap by tap: no index arrays, long inner runs.

    max_forward    y (T, H', C, W', nb), the largest of each window
    winners        which entry of each window won: what the way back needs, all that a tape keeps
    max_backward   dx, d at the entries that won        max_tangent   its transpose, v at the entries that won

Where windows partition the map, as in LeNet, `winners` are bools: a byte an entry is kept instead of x and y, and the
way back reads a byte mask where it took three passes over floats. Elsewhere they are x and y themselves, and the way
back looks for the maximum again; so on a GPU, where one launch looks and writes.
"""
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

    def one(t):                                         # rows, then columns: kh + kw comparisons instead of kh kw
        rows = workspace.scratch(xp, "largest", (h, C, W, nb), x.dtype)
        largest(x[t], down, window.pads[0], rows)
        largest(rows.swapaxes(0, 2), across, window.pads[1], y[t].swapaxes(0, 2))       # W in front
    lanes.share(T, one)
    return y


def largest(x, taps, pads, out):
    """x (n, ...) -> out (n', ...), the largest of each window along the first axis.

    taps  for each tap the outputs for which it falls inside and the inputs that they see there, `Window.meets`
    """
    xp = array_module(x)
    if pads != (0, 0):
        out[...] = -xp.inf
        rest = taps
    elif len(taps) == 1:
        out[...] = x[taps[0][1]]
        return
    else:                                               # every output sees every tap
        (_, first), (_, second), *rest = taps
        xp.maximum(x[first], x[second], out=out)
    for there, seen in rest:
        xp.maximum(out[there], x[seen], out=out[there])


def winners(x, y, window):
    """Of x and y = max_forward(x): bools (T, H', kh, C, W', kw, nb), which lie as x does, true at the first entry (row
    by row) of each window that reached its maximum; or (x, y) where windows overlap or leave entries out."""
    xp, (T, H, C, W, nb), (kh, kw) = array_module(x), x.shape, window.kernel
    if launch.serves(x, y) or not window.partitions(H, W):
        return x, y
    won = workspace.empty(xp, (T, H // kh, kh, C, W // kw, kw, nb), np.dtype(bool))

    def one(t):
        rows = H // kh, kh, C, W, nb                    # y stretched to the width of x: whole rows are compared
        xp.equal(x[t].reshape(rows), y[t].repeat(kw, axis=2)[:, None], out=won[t].reshape(rows))
        # More winners than windows: equal maxima. (A window with a NaN has none and may hide a tie elsewhere.) To count
        # on a GPU would be a transfer.
        if xp is not np or np.count_nonzero(won[t]) > y[t].size:
            keep_first(won[t])
    lanes.share(T, one)
    return won


def keep_first(won):
    """Of all taps of a window that won, (h, kh, C, w, kw, nb) bools, leave the first, row by row."""
    xp, (h, kh, C, w, kw, nb) = array_module(won), won.shape
    taken = xp.zeros((h, C, w, nb), bool)
    for i, j in np.ndindex(kh, kw):
        tap = won[:, i, :, :, j]
        xp.greater(tap, taken, out=tap)                 # won, and not taken yet
        taken |= tap


def max_backward(d, won, window):
    """d (T, H', C, W', nb) -> dx (T, H, C, W, nb): to the first tap (row by row) that reached the maximum, as in
    PyTorch. won: what `winners` gave."""
    if not isinstance(won, tuple):
        return to_winners(d, won)
    x, y = won
    if launch.serves(d, x, y):
        return fused.max_backward(d, x, y, window)
    xp, (T, H, _, W, _), dx = array_module(x), x.shape, workspace.empty_like(x)

    def one(t):
        unclaimed, hit_room = d[t].copy(), xp.empty(y.shape[1:], bool)
        dx[t] = 0
        for _, _, out_h, out_w, in_h, in_w in window.taps(H, W):
            rest, hit = unclaimed[out_h, :, out_w], hit_room[out_h, :, out_w]
            taken = rest * xp.equal(x[t, in_h, :, in_w], y[t, out_h, :, out_w], out=hit)
            dx[t, in_h, :, in_w] += taken
            rest -= taken
    lanes.share(T, one)
    return dx


def to_winners(d, won):
    """d (T, H', C, W', nb) -> dx like x, d at the entries that won, 0 d at the others."""
    T, h, kh, C, w, kw, nb = won.shape
    dx = workspace.empty(array_module(d), (T, h * kh, C, w * kw, nb), d.dtype)

    def one(t):
        place = dx[t].reshape(h, kh, C, w * kw, nb)
        place[...] = won[t].reshape(place.shape)        # floats *= bools would convert buffer by buffer: slower
        place *= d[t].repeat(kw, axis=2)[:, None]
    lanes.share(T, one)
    return dx


def max_tangent(v, won, window):
    """v (T, H, C, W, nb) -> (T, H', C, W', nb), its entry at the tap that reached the maximum: the transpose of
    `max_backward`."""
    if not isinstance(won, tuple):
        return from_winners(v, won)
    x, y = won
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


def from_winners(v, won):
    """v (T, H, C, W, nb) -> (T, H', C, W', nb), its entry that won in each window: the transpose of `to_winners`."""
    T, h, _, C, w, _, nb = won.shape
    out = workspace.empty(array_module(v), (T, h, C, w, nb), v.dtype)

    def one(t):
        out[t] = (v[t].reshape(won[t].shape) * won[t]).sum(axis=(1, 4))
    lanes.share(T, one)
    return out


def mean_forward(x, window):
    """x (T, H, C, W, nb) -> (T, H', C, W', nb), the mean of each window, padding counted as zeros."""
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
    """d (T, H', C, W', nb) -> dx of `shape` (T, H, C, W, nb), d / (kh kw) at every tap: the transpose of
    `mean_forward`."""
    dx = workspace.empty(array_module(d), shape, d.dtype)

    def one(t):
        part = d[t] / (window.kernel[0] * window.kernel[1])
        dx[t] = 0
        for _, _, out_h, out_w, in_h, in_w in window.taps(shape[1], shape[3]):
            dx[t, in_h, :, in_w] += part[out_h, :, out_w]
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


def map_mean_backward(d, shape):
    """d (T, C, nb) -> dx of `shape` (T, H, C, W, nb), d / (H W) everywhere: the transpose of `map_mean`."""
    dx = workspace.empty(array_module(d), shape, d.dtype)

    def one(t):
        dx[t] = (d[t] / (shape[1] * shape[3]))[:, None]
    lanes.share(len(d), one)
    return dx

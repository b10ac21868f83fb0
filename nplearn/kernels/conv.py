"""The three operators of a convolution, one chunk at a time, by im2col.

A chunk x is (H, C, W, nb). Its columns are kw shifted copies, zero rows above and below, (G, rows, kw, C/G, W', nb):
kernel columns cost a copy each, kernel rows cost nothing, because with rows stored (j, c) the rows of kh consecutive h
are already adjacent, and the column matrix of output row h is a view that overlaps its neighbour's:

    windows (G, H', kh kw C/G, W' nb)         apply    a[h]  = W @ windows[h]
    W (n_out, kh, kw, C/G), taps (i, j, c)    outer    dW    = sum_h windows[h] @ d[h].T
    groups G cut both channel axes            adjoint  dx    = the same convolution of d with the kernel turned round
                                                       (stride 1), else W.T @ d added back tap by tap
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.kernels import lanes, workspace


def windows(x, window, groups=1):
    """x (H, C, W, nb) -> (G, H', kh*kw*C/G, W'*nb); a view of the shifted copies where dilation allows."""
    xp = array_module(x)
    (H, C, W, nb), (kh, kw) = x.shape, window.kernel
    (top, bottom), out = window.pads[0], window.out(H, W)
    x = x.reshape(H, groups, C // groups, W, nb).swapaxes(0, 1)
    shape = (groups, top + H + bottom, kw, C // groups, out[1], nb)
    copies = workspace.zeros((window, H, W), shape, x.dtype) if xp is np else xp.zeros(shape, x.dtype)
    for j in range(kw):
        out_w, in_w = window.meets(1, j, W)
        copies[:, top:top + H, j, :, out_w] = x[:, :, :, in_w]
    group, row, tap, channel, _, _ = copies.strides
    view = xp.lib.stride_tricks.as_strided(
        copies, (groups, out[0], kh, kw * (C // groups), out[1] * nb),
        (group, row * window.stride[0], row * window.dilation[0], channel, x.itemsize))
    return view.reshape(groups, out[0], -1, out[1] * nb)


def apply(x, W, window, groups=1):
    """x (T, H, C, W, nb), kernel W (n_out, kh, kw, C/G) -> a (T, H', n_out, W', nb)."""
    xp, (T, H, _, width, nb), n_out = array_module(x), x.shape, len(W)
    h, w = window.out(H, width)
    shape = (T, h, groups, n_out // groups, w * nb)
    out = workspace.empty(shape, x.dtype) if xp is np else xp.empty(shape, x.dtype)
    matrix = W.reshape(groups, 1, 1, n_out // groups, -1)
    tile = tile_of(w * nb, W[:1].size, n_out // groups)

    def one(t):
        xp.matmul(matrix, tiles(windows(x[t], window, groups), tile), out=tiles(out[t].swapaxes(0, 1), tile))
    lanes.share(T, one)
    return out.reshape(T, h, n_out, w, nb)


def tile_of(n, k, m):
    """How many of n columns one product takes: OpenBLAS multiplies m x k x tile unpacked, and faster, if small."""
    return next((tile for tile in (64, 128) if n % tile == 0 and (m > 16) == (tile == 64) and m * k * tile <= 10**6), n)


def tiles(matrices, tile):
    """(..., K, N) -> (..., N / tile, K, tile), a view."""
    return matrices.reshape(*matrices.shape[:-1], -1, tile).swapaxes(-3, -2)


def outer(x, d, window, groups=1):
    """x (T, H, C, W, nb), d (T, H', n_out, W', nb) -> dW (n_out, kh, kw, C/G), chunks added in their order."""
    T, h, n_out, w, nb = d.shape
    parts = [None] * T

    def one(t):
        rows = d[t].reshape(h, groups, n_out // groups, w * nb).swapaxes(0, 1)
        parts[t] = (windows(x[t], window, groups) @ rows.swapaxes(-1, -2)).sum(axis=1)  # wide operand first
    lanes.share(T, one)
    total = sum(parts[1:], parts[0])
    return total.swapaxes(1, 2).reshape(n_out, *window.kernel, x.shape[2] // groups)


def adjoint(d, W, shape, window, groups=1):
    """d (T, H', n_out, W', nb), kernel W -> dx of `shape` (T, H, C, W, nb)."""
    turned = turned_round(window)
    if window.stride == (1, 1) and min(min(p) for p in turned.pads) >= 0:
        n_out, kh, kw, c = W.shape
        kernel = W.reshape(groups, n_out // groups, kh, kw, c)[:, :, ::-1, ::-1].transpose(0, 4, 2, 3, 1)
        return apply(d, kernel.reshape(groups * c, kh, kw, -1), turned, groups)
    return scatter(d, W, shape, window, groups)


def turned_round(window):
    """The window of the convolution that is the adjoint of a stride-1 convolution; pads below 0 where it is none."""
    pads = tuple(tuple(d * (k - 1) - p for p in pair)
                 for k, d, pair in zip(window.kernel, window.dilation, window.pads, strict=True))
    return window._replace(pads=pads)


def scatter(d, W, shape, window, groups=1):
    """`adjoint` for any stride and padding: each tap's product is added where the tap looked."""
    xp, (T, H, C, width, nb), (_, h, n_out, w, _) = array_module(d), shape, d.shape
    dx = xp.zeros((T, H, groups, C // groups, width, nb), d.dtype)
    matrix = W.reshape(groups, 1, n_out // groups, -1).swapaxes(-1, -2)

    def one(t):
        g = matrix @ d[t].reshape(h, groups, n_out // groups, w * nb).swapaxes(0, 1)
        g = g.reshape(groups, h, *window.kernel, C // groups, w, nb).transpose(1, 2, 3, 0, 4, 5, 6)
        for i, j, out_h, out_w, in_h, in_w in window.taps(H, width):
            dx[t, in_h, :, :, in_w] += g[out_h, i, j, :, :, out_w]
    lanes.share(T, one)
    return dx.reshape(shape)

"""The three operators of a convolution, one chunk at a time, by im2col.

A chunk x is (H, C, W, nb). Its columns are kw shifted copies, zero rows above and below, (G, rows, kw, C/G, W', nb):
kernel columns cost a copy each, kernel rows cost nothing, because with rows stored (j, c) the rows of kh consecutive h
are already adjacent, and the column matrix of output row h is a view that overlaps its neighbour's:

    windows (G, H', kh kw C/G, W' nb)         apply    a[h]  = W @ windows[h]
    W (n_out, kh, kw, C/G), taps (i, j, c)    outer    dW    = sum_h windows[h] @ d[h].T
    groups G cut both channel axes            adjoint  dx    = a convolution of d with the kernel turned round; at
                                                       stride s one for each of the grids that x is woven from

Of a large map a band of output rows is done at a time, so that its columns fit a core's cache.
"""
from functools import cache

import numpy as np

from nplearn.backend import array_module
from nplearn.kernels import lanes, workspace
from nplearn.kernels.gpu import columns as shifted
from nplearn.kernels.gpu import gemm, launch
from nplearn.kernels.workspace import CACHE

UNPACKED = 10**6                                        # multiply-adds up to which OpenBLAS 0.3 does not pack operands


def windows(x, window, groups=1, band=None):
    """x (H, C, W, nb) -> (G, R, kh*kw*C/G, W'*nb) for the R output rows of `band`, a slice (all of them when None).

    A view: of x itself where kernel and stride are 1, else of shifted copies, which hold until this thread asks again
    for the same shape, window and number of rows; a copy of those where rows are dilated.
    """
    xp, (H, C, W, nb), (top, _) = array_module(x), x.shape, window.pads[0]
    h = window.out(H, W)[0]
    first, last = (0, h) if band is None else (band.start, band.stop)
    if window.is_point():
        return x[first:last].reshape(last - first, groups, C // groups, W * nb).swapaxes(0, 1)
    if launch.serves(x):
        return shifted.windows(x, window, groups, first, last - first)
    places, view, copies = workspace.once(("columns", xp, x.shape, x.dtype, window, groups, last - first),
                                          lambda: room(xp, x.shape, x.dtype, window, groups, last - first))
    start = first * window.stride[0] - top              # the input row that the first row of the copies stands for
    rows = copies.shape[1]
    low, high = min(rows, max(0, -start)), max(0, min(rows, H - start))     # those rows that the input has
    high = max(low, high)
    if last - first < h:                                # of a whole map they are always the same, zero from the start
        copies[:, :low], copies[:, high:] = 0, 0
    x = x[start + low:start + high].reshape(high - low, groups, C // groups, W, nb).swapaxes(0, 1)
    if window.pads[1] == (0, 0):                        # nothing at the sides: one strided assignment for all kw
        group, row, channel, column, item = x.strides
        steps = group, row, window.dilation[1] * column, channel, window.stride[1] * column, item
        copies[:, low:high] = xp.lib.stride_tricks.as_strided(x, copies[:, low:high].shape, steps)
    else:
        for place, seen in places:
            place[:, low:high] = x[:, :, :, seen]
    return view.reshape(groups, last - first, -1, view.shape[-1])


def room(xp, shape, dtype, window, groups, n):
    """For n output rows: [(place, seen)], where each kernel column's copy goes and which input columns it sees; the
    windows (G, n, kh, kw C/G, W' nb), a view over all copies; the copies, whose padding at the sides stays zero."""
    (_, C, W, nb), (kh, kw), (s, dilation) = shape, window.kernel, (window.stride[0], window.dilation[0])
    rows, width = (n - 1) * s + (kh - 1) * dilation + 1, window.out(shape[0], W)[1]
    copies = workspace.zeros(xp, (groups, rows, kw, C // groups, width, nb), dtype)
    meets = [window.meets(1, j, W) for j in range(kw)]
    places = [(copies[:, :, j, :, out], seen) for j, (out, seen) in enumerate(meets)]
    group, row, _, channel, _, item = copies.strides
    view = xp.lib.stride_tricks.as_strided(copies, (groups, n, kh, kw * (C // groups), width * nb),
                                           (group, row * s, row * dilation, channel, item))
    return places, view, copies


def bands(x, window):
    """Slices that together are all output rows of a chunk x (H, C, W, nb): one where its columns take at most 3 CACHE
    (on a GPU always), else so many that each takes about CACHE."""
    (H, C, W, nb), stride = x.shape, window.stride[0]
    h, w = window.out(H, W)
    row = stride * window.kernel[1] * C * w * nb * x.itemsize
    n = 1 if array_module(x) is not np or h * row <= 3 * CACHE else min(h, -(-h * row // CACHE))
    cuts = [i * h // n for i in range(n + 1)]
    return [slice(a, b) for a, b in zip(cuts, cuts[1:], strict=False)]


def apply(x, W, window, groups=1):
    """x (T, H, C, W, nb), kernel W (n_out, kh, kw, C/G) -> a (T, H', n_out, W', nb)."""
    (T, H, _, width, nb), n_out = x.shape, len(W)
    h, w = window.out(H, width)
    out = workspace.empty(array_module(x), (T, h, n_out, w, nb), x.dtype)
    lanes.share(T, lambda t: convolve(x[t], W, window, groups, out[t]))
    return out


def convolve(x, W, window, groups, out):
    """One chunk of `apply`: x (H, C, W, nb), written into out (H', n_out, W', nb), which is contiguous."""
    h, n_out, w, nb = out.shape
    matrix, out = W.reshape(groups, 1, 1, n_out // groups, -1), out.reshape(h, groups, n_out // groups, w * nb)
    if gemm.serves(x):
        gemm.matmul(matrix[:, 0], windows(x, window, groups), out=out.swapaxes(0, 1))
        return
    row = matrix.shape[-1] // window.kernel[0]          # of the columns: what one kernel row sees
    for band in bands(x, window):
        columns, place = windows(x, window, groups, band), out[band].swapaxes(0, 1)
        for rows, taps in runs(window, len(x), band.start, band.stop):
            part = slice(row * taps.start, row * taps.stop)
            tile = tile_of(w * nb, part.stop - part.start, n_out // groups)
            array_module(x).matmul(matrix[..., part], tiles(columns[:, rows, part], tile),
                                   out=tiles(place[:, rows], tile))


@cache
def runs(window, H, first, last):
    """[(rows, taps)]: slices of the output rows first ... last - 1, counted from `first`, and of the kernel rows that
    fall inside a map of H rows there. Where padding is seen that leaves out products with zeros."""
    (stride, _), (top, _), (apart, _), kh = window.stride, window.pads[0], window.dilation, window.kernel[0]
    found = []
    for o in range(first, last):
        inside = [i for i in range(kh) if 0 <= o * stride + i * apart - top < H] or [0]
        found.append((inside[0], inside[-1] + 1))
    starts = [o for o, taps in enumerate(found) if o == 0 or taps != found[o - 1]]
    return [(slice(a, b), slice(*found[a])) for a, b in zip(starts, [*starts[1:], last - first], strict=True)]


@cache
def tile_of(n, k, m):
    """How many of n columns one product (m, k) @ (k, tile) takes: up to UNPACKED multiply-adds, which
    is faster here."""
    return part_of(n, UNPACKED // (m * k))


def part_of(n, most):
    """The largest multiple of 16 up to `most` that divides n; n itself where there is none."""
    return max((part for part in range(16, min(n, most) + 1, 16) if n % part == 0), default=n)


def tiles(matrices, tile):
    """(..., K, N) -> (..., N / tile, K, tile), a view, so that it serves as `out` too."""
    return matrices.reshape(*matrices.shape[:-1], -1, tile).swapaxes(-3, -2)


def outer(x, d, window, groups=1, out=None):
    """x (T, H, C, W, nb), d (T, H', n_out, W', nb) -> dW (n_out, kh, kw, C/G), in `out` where given."""
    T, h, n_out, w, nb = d.shape

    def part(t):
        rows, products = d[t].reshape(h, groups, n_out // groups, w * nb).transpose(1, 0, 3, 2), []
        for band in bands(x[t], window):
            products.append(product_sum(windows(x[t], window, groups, band), rows[:, band]))
        dW = sum(products[1:], products[0]).swapaxes(1, 2)
        return dW.reshape(n_out, *window.kernel, x.shape[2] // groups)
    return lanes.total(T, part, out)


def product_sum(wide, narrow):
    """The sum over h of wide[:, h] @ narrow[:, h], (G, h, K, N) and (G, h, N, n) -> (G, K, n).

    `narrow` is a transposed view. Where n is small and K is not, OpenBLAS is up to 1.6 times faster on a contiguous
    copy, both in tiles of N; the sizes below were measured."""
    if gemm.serves(wide):
        return gemm.matmul(wide, narrow).sum(axis=1)
    xp, (G, h, N, n) = array_module(wide), narrow.shape
    if 8 <= n <= 32 and wide.shape[2] >= 100:
        tile = part_of(N, 320 if n <= 16 else 64)
        copied = workspace.once(("narrow", xp, narrow.shape, narrow.dtype),
                                lambda: workspace.empty(xp, narrow.shape, narrow.dtype))
        copied[...] = narrow
        products = tiles(wide, tile) @ copied.reshape(G, h, N // tile, tile, n)
        return products.reshape(G, -1, *products.shape[-2:]).sum(axis=1)
    return (wide @ narrow).sum(axis=1)


def adjoint(d, W, shape, window, groups=1):
    """d (T, H', n_out, W', nb), kernel W -> dx of `shape` (T, H, C, W, nb).

    For each grid of inputs (`Window.grids`) a convolution of d with that grid's taps, turned round, channels in and out
    exchanged; a grid that no tap sees is zero."""
    (T, H, _, width, _), (n_out, kh, kw, c) = shape, W.shape
    parts, m = [], n_out // groups
    for rows, columns, (down, across), part in window.grids(H, width):
        kernel = W.reshape(groups, m, kh, kw, c)[:, :, down, across][:, :, ::-1, ::-1].transpose(0, 4, 2, 3, 1)
        parts.append((rows, columns, kernel.reshape(groups * c, *part.kernel, m), part))
    dx = workspace.empty(array_module(d), shape, d.dtype)

    def one(t):
        for rows, columns, kernel, part in parts:
            grid = dx[t, rows, :, columns]
            out = grid if len(parts) == 1 else workspace.empty_like(grid)
            if kernel.size:
                convolve(d[t], kernel, part, groups, out)
            grid[...] = out if kernel.size else 0
    lanes.share(T, one)
    return dx

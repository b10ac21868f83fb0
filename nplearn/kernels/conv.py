"""The three operators of a convolution, one chunk at a time, by im2col.

A chunk x is (H, C, width, nb). Its patches come from kw shifted copies, zero rows above and below, (G, rows, kw, C/G,
W', nb): kernel columns cost a copy each, kernel rows cost nothing, because with rows stored (j, c) the rows of kh
consecutive h are already adjacent, and the patches of output row h are a view that overlaps its neighbour's:

    windows (G, H', kh kw C/G, W' nb)         apply    a[h]  = W @ windows[h]
    W (n_out, kh, kw, C/G), taps (i, j, c)    outer    dW'   = sum_h windows[h] @ d[h]'   BLAS wants the wide one first
    groups G cut both channel axes            adjoint  dx    = a convolution of d with the kernel turned round; at
                                                       stride s one for each of the grids that x is woven from

Of a large map a band of output rows is done at a time, so that its copies fit a core's cache.
"""
from functools import lru_cache
from itertools import groupby, pairwise

import numpy as np

from nplearn.backend import array_module
from nplearn.kernels import lanes, workspace
from nplearn.kernels.gpu import columns as shifted
from nplearn.kernels.gpu import gemm, launch
from nplearn.kernels.product import SMALL
from nplearn.kernels.workspace import CACHE

LINE = 16                                               # float32 numbers of a cache line; tiles are whole lines


def windows(x, window, groups=1, band=None):
    """x (H, C, width, nb) -> (G, R, kh*kw*C/G, W'*nb) for the R output rows of `band`, a slice (all of them when None).

    A view: of x itself where the window is a point, else of shifted copies, which hold until this thread asks again
    for the same shape, window and number of rows; a copy of those where rows are dilated.
    """
    xp, (H, C, width, nb), (top, _) = array_module(x), x.shape, window.pads[0]
    h = window.out(H, width)[0]
    first, last = (0, h) if band is None else (band.start, band.stop)
    if window.is_point():
        return x[first:last].reshape(last - first, groups, C // groups, width * nb).swapaxes(0, 1)
    if launch.serves(x):
        return shifted.windows(x, window, groups, first, last - first)
    places, view, copies = workspace.once(("copies", xp, x.shape, x.dtype, window, groups, last - first),
                                          lambda: make_copies(xp, x.shape, x.dtype, window, groups, last - first))
    start = first * window.stride[0] - top              # the input row that the first row of the copies stands for
    rows = copies.shape[1]
    low, high = min(rows, max(0, -start)), max(0, min(rows, H - start))     # those rows that the input has
    high = max(low, high)                               # none where the whole band lies in the padding
    if last - first < h:                                # of a whole map the rows of padding are the same each time
        copies[:, :low], copies[:, high:] = 0, 0
    x = x[start + low:start + high].reshape(high - low, groups, C // groups, width, nb).swapaxes(0, 1)
    if window.pads[1] == (0, 0):                        # nothing at the sides: one strided assignment for all kw
        group, row, channel, column, item = x.strides
        steps = group, row, window.dilation[1] * column, channel, window.stride[1] * column, item
        copies[:, low:high] = xp.lib.stride_tricks.as_strided(x, copies[:, low:high].shape, steps)
    else:
        for place, seen in places:
            place[:, low:high] = x[:, :, :, seen]
    return view.reshape(groups, last - first, -1, view.shape[-1])


def make_copies(xp, shape, dtype, window, groups, n):
    """Room for what n output rows see of an x of `shape` (H, C, width, nb): (places, view, copies).

    places  for each kernel column (place, seen): the part of `copies` for it, the slice of input columns that it sees
    view    (G, n, kh, kw C/G, W' nb) over all copies, whose kw and C/G are adjacent and so one axis
    copies  (G, rows, kw, C/G, W', nb); their padding at the sides is never written and stays zero
    """
    (H, C, width, nb), (kh, kw), (s, dilation) = shape, window.kernel, (window.stride[0], window.dilation[0])
    rows, w = (n - 1) * s + (kh - 1) * dilation + 1, window.out(H, width)[1]
    copies = workspace.zeros(xp, (groups, rows, kw, C // groups, w, nb), dtype)
    meets = [window.meets(1, j, width) for j in range(kw)]
    places = [(copies[:, :, j, :, out], seen) for j, (out, seen) in enumerate(meets)]
    group, row, _, channel, _, item = copies.strides
    view = xp.lib.stride_tricks.as_strided(copies, (groups, n, kh, kw * (C // groups), w * nb),
                                           (group, row * s, row * dilation, channel, item))
    return places, view, copies


def bands(x, window):
    """Slices that together are all output rows of a chunk x (H, C, width, nb): one where its copies take at most 3
    CACHE (on a GPU always), else so many that each takes about CACHE."""
    # `columns.cut` aims at 1.5 CACHE for a chunk and may come out at twice that; a ResNet's step is slower in bands.
    (H, C, width, nb), stride = x.shape, window.stride[0]
    h, w = window.out(H, width)
    row_bytes = stride * window.kernel[1] * C * w * nb * x.itemsize         # of an output row's copies
    n = 1 if array_module(x) is not np or h * row_bytes <= 3 * CACHE else min(h, -(-h * row_bytes // CACHE))
    return [slice(a, b) for a, b in pairwise(lanes.cuts(h, n))]


def apply(x, W, window, groups=1):
    """x (T, H, C, width, nb), kernel W (n_out, kh, kw, C/G) -> a (T, H', n_out, W', nb)."""
    (T, H, _, width, nb), n_out = x.shape, len(W)
    h, w = window.out(H, width)
    out = workspace.empty(array_module(x), (T, h, n_out, w, nb), x.dtype)
    lanes.share(T, lambda t: convolve(x[t], W, window, groups, out[t]))
    return out


def convolve(x, W, window, groups, out):
    """One chunk of `apply`: x (H, C, width, nb), written into out (H', n_out, W', nb), which is contiguous."""
    h, n_out, w, nb = out.shape
    matrix = W.reshape(groups, 1, 1, n_out // groups, -1)                   # (G, 1, 1, n_out/G, K)
    out = out.reshape(h, groups, n_out // groups, w * nb).swapaxes(0, 1)    # (G, H', n_out/G, N)
    if gemm.serves(x):                                  # one launch: products with zeros cost less than another
        gemm.matmul(matrix[:, 0], windows(x, window, groups), out=out)
        return
    per_kernel_row = matrix.shape[-1] // window.kernel[0]
    for band in bands(x, window):
        patches, place = windows(x, window, groups, band), out[:, band]     # (G, R, K, N), (G, R, n_out/G, N)
        for rows, taps in rows_by_taps(window, len(x), band.start, band.stop):
            part = slice(per_kernel_row * taps.start, per_kernel_row * taps.stop)
            tile = tile_width(n_out // groups, part.stop - part.start, w * nb)
            array_module(x).matmul(matrix[..., part], tiles(patches[:, rows, part], tile),
                                   out=tiles(place[:, rows], tile))


@lru_cache(maxsize=4096)
def rows_by_taps(window, H, first, last):
    """Output rows first ... last - 1 of a map of H rows, in runs that see the same kernel rows inside the map: [(rows,
    taps)], slices of rows, counted from `first`, and of kernel rows. So products with padding's zeros are left out."""
    (stride, _), (top, _), (dilation, _), kh = window.stride, window.pads[0], window.dilation, window.kernel[0]

    def taps(row):
        start = (first + row) * stride - top
        inside = [i for i in range(kh) if 0 <= start + i * dilation < H] or [0]        # one tap of zeros still writes 0
        return slice(inside[0], inside[-1] + 1)
    runs = [[*run] for _, run in groupby(range(last - first), lambda row: (taps(row).start, taps(row).stop))]
    return [(slice(run[0], run[-1] + 1), taps(run[0])) for run in runs]


@lru_cache(maxsize=4096)
def tile_width(m, k, n):
    """How many of n columns one product (m, k) @ (k, tile) takes: up to SMALL multiply-adds, which is faster here."""
    return part_of(n, SMALL // (m * k))


def part_of(n, most):
    """The largest multiple of LINE up to `most` that divides n; n itself where there is none."""
    return max((part for part in range(LINE, min(n, most) + 1, LINE) if n % part == 0), default=n)


def tiles(matrices, tile):
    """(..., K, N) -> (..., N / tile, K, tile), a view, so that it serves as `out` too."""
    return matrices.reshape(*matrices.shape[:-1], -1, tile).swapaxes(-3, -2)


def outer(x, d, window, groups=1, out=None):
    """x (T, H, C, width, nb), d (T, H', n_out, W', nb) -> dW (n_out, kh, kw, C/G), in `out` where given."""
    T, h, n_out, w, nb = d.shape

    def part(t):
        rows, products = d[t].reshape(h, groups, n_out // groups, w * nb).transpose(1, 0, 3, 2), []
        for band in bands(x[t], window):
            products.append(product_sum(windows(x[t], window, groups, band), rows[:, band]))
        dW = sum(products[1:], products[0]).swapaxes(1, 2)
        return dW.reshape(n_out, *window.kernel, x.shape[2] // groups)
    return lanes.total(T, part, out)


def product_sum(wide, narrow):
    """The sum over h of wide[:, h] @ narrow[:, h]: windows (G, h, K, N) and errors (G, h, N, n) -> (G, K, n).

    `narrow` is a transposed view. Where n is 8 to 32 and K 100 or more OpenBLAS 0.3 is up to 1.6 times faster on a
    contiguous copy in tiles of N. Measured on one core with AVX-512, in float32, on the layers of ResNet-20 and LeNet
    (n 6 to 64, K 75 to 576): n 16 does best in tiles of 256 or 320, n 32 of 64; fewer or more columns gain nothing.
    """
    if gemm.serves(wide):
        return gemm.matmul(wide, narrow).sum(axis=1)
    xp, (G, h, N, n) = array_module(wide), narrow.shape
    if 8 <= n <= 32 and wide.shape[2] >= 100:
        tile = part_of(N, 320 if n <= 16 else 64)
        copied = workspace.scratch(xp, "narrow", narrow.shape, narrow.dtype)
        copied[...] = narrow
        products = tiles(wide, tile) @ copied.reshape(G, h, N // tile, tile, n)
        return products.reshape(G, -1, *products.shape[-2:]).sum(axis=1)
    return (wide @ narrow).sum(axis=1)


def adjoint(d, W, shape, window, groups=1):
    """d (T, H', n_out, W', nb), kernel W -> dx of `shape` (T, H, C, width, nb).

    For each grid of inputs (`Window.grids`) a convolution of d with that grid's taps, turned round, channels in and out
    exchanged; a grid that no tap sees is zero."""
    (T, H, _, width, _), (n_out, kh, kw, c) = shape, W.shape
    parts, m = [], n_out // groups
    for rows, columns, (down, across), part in window.grids(H, width):
        taps = W.reshape(groups, m, kh, kw, c)[:, :, down, across][:, :, ::-1, ::-1]    # (G, m, kh', kw', c)
        kernel = taps.transpose(0, 4, 2, 3, 1).reshape(groups * c, *part.kernel, m)
        parts.append((rows, columns, kernel, part))
    dx = workspace.empty(array_module(d), shape, d.dtype)

    def one(t):
        for rows, columns, kernel, part in parts:
            grid = dx[t, rows, :, columns]
            out = grid if len(parts) == 1 else workspace.empty_like(grid)
            if kernel.size:
                convolve(d[t], kernel, part, groups, out)
            else:
                out[...] = 0
            if out is not grid:
                grid[...] = out
    lanes.share(T, one)
    return dx

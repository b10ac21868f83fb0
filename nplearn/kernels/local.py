"""The three operators of a locally connected layer: a convolution's window, a matrix of its own at every position.

x (T, H, C, W, nb); weights W (H', W', n_out, K), taps in (i, j, c) order, K = kh kw C; patches of an output row
(T, W', K, nb). Weights are the traffic here, so lanes share out rows of outputs, not chunks; such work must not gather
with that of other layers, so a layer made of it does not say `flows`:

    apply    a[h, w]  = W[h, w] patch[h, w]
    outer    dW[h, w] = d[h, w] patch[h, w]', over all samples
    adjoint  patch    = W[h, w]' d[h, w], added back where it was seen: rows of outputs in pieces, whose number no lane
             decides, each into a slab of its own; slabs that meet are added in their order
"""
from nplearn.backend import array_module
from nplearn.kernels import lanes, workspace
from nplearn.kernels.gpu import launch
from nplearn.kernels.gpu import local as fused

PIECES = 8                                              # of the map in `adjoint`: sums depend on it, so it is fixed


def padded(x, window):
    """(T, H, C, W, nb) -> (T, top + H + bottom, left + W + right, C, nb), zeros around: a patch's row is one run."""
    (T, H, C, W, nb), (top, bottom), (left, right) = x.shape, *window.pads
    out = workspace.empty(array_module(x), (T, top + H + bottom, left + W + right, C, nb), x.dtype)

    def one(h):
        out[:, h] = 0
        if top <= h < top + H:
            out[:, h, left:left + W] = x[:, h - top].swapaxes(1, 2)
    lanes.share(out.shape[1], one)
    return out


def patches(x, window, h, w):
    """What the w outputs of row h see of a padded x: (T, w, K, nb), in scratch of the thread's own."""
    xp, (T, _, _, C, nb), (kh, kw) = array_module(x), x.shape, window.kernel
    (down, across), (row_apart, column_apart) = window.stride, window.dilation
    sample, row, column, channel, item = x.strides
    seen = xp.lib.stride_tricks.as_strided(
        x[:, h * down:], (T, w, kh, kw, C, nb),
        (sample, across * column, row_apart * row, column_apart * column, channel, item))
    room = workspace.scratch(xp, "patches", seen.shape, x.dtype)
    room[...] = seen
    return room.reshape(T, w, kh * kw * C, nb)


def apply(x, W, window):
    """x (T, H, C, W, nb), W (H', W', n_out, K) -> a (T, H', n_out, W', nb)."""
    if launch.serves(x, W):
        return fused.apply(x, W, window)
    (h, w, n_out), xp = W.shape[:3], array_module(x)
    a, x = workspace.empty(xp, (len(x), h, n_out, w, x.shape[-1]), x.dtype), padded(x, window)

    def one(row):
        xp.matmul(W[row], patches(x, window, row, w), out=a[:, row].swapaxes(1, 2))
    lanes.share(h, one)
    return a


def outer(x, d, window, out=None):
    """x (T, H, C, W, nb), d (T, H', n_out, W', nb) -> dW (H', W', n_out, K), in `out` where given."""
    if launch.serves(x, d):
        return fused.outer(x, d, window, out)
    (T, h, n_out, w, _), xp = d.shape, array_module(x)
    K, x = window.kernel[0] * window.kernel[1] * x.shape[2], padded(x, window)
    dW = workspace.empty(xp, (h, w, n_out, K), d.dtype) if out is None else out

    def one(row):
        rows, seen = d[:, row].swapaxes(1, 2), patches(x, window, row, w).swapaxes(-1, -2)
        xp.matmul(rows[0], seen[0], out=dW[row])
        for t in range(1, T):
            dW[row] += rows[t] @ seen[t]
    lanes.share(h, one)
    return dW


def adjoint(d, W, shape, window):
    """d (T, H', n_out, W', nb), W (H', W', n_out, K) -> dx of `shape` (T, H, C, W, nb)."""
    if launch.serves(d, W):
        return fused.adjoint(d, W, shape, window)
    (T, H, C, width, nb), (h, w), (kh, kw), xp = shape, W.shape[:2], window.kernel, array_module(d)
    (down, across), (row_apart, column_apart), (top, _), (left, right) = window.stride, window.dilation, *window.pads
    reach = (kh - 1) * row_apart + 1                    # rows that an output row sees
    n = min(h, PIECES)
    cuts = lanes.cuts(h, n)
    slabs = [None] * n

    def one(i):
        rows = (cuts[i + 1] - cuts[i] - 1) * down + reach
        slabs[i] = slab = xp.zeros((T, rows, left + width + right, C, nb), d.dtype)
        for row in range(cuts[i], cuts[i + 1]):
            g = (W[row].swapaxes(-1, -2) @ d[:, row].swapaxes(1, 2)).reshape(T, w, kh, kw, C, nb)
            first = (row - cuts[i]) * down
            for column in range(w):
                start = column * across
                slab[:, first:first + reach:row_apart,
                     start:start + (kw - 1) * column_apart + 1:column_apart] += g[:, column]
    lanes.share(n, one)
    dx = workspace.empty(xp, shape, d.dtype)

    def weave(row):
        dx[:, row] = 0
        for i, slab in enumerate(slabs):
            at = row + top - cuts[i] * down
            if 0 <= at < slab.shape[1]:
                dx[:, row] += slab[:, at, left:left + width].swapaxes(1, 2)
    lanes.share(H, weave)
    return dx

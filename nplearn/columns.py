"""Samples are columns: how a batch is laid out inside a net, and the few helpers that know it.

Outside a net people keep their habits, samples are rows: (N, features) or (N, H, W, C). Inside, the batch is cut into
T chunks of nb samples and the sample index comes last:

    rows (N, F)         <->  columns (T, F, nb)              N = T nb; sample n is chunk n // nb, column n % nb
    rows (N, H, W, C)   <->  columns (T, H, C, W, nb)
    rows (N,)           <->  columns (T, nb)                 class labels, values per sample

so that code reads as papers do (`a = W @ x`, `W.T @ d`, `d @ x.T`), a chunk fits a core's cache, and im2col is a few
shifted copies and one overlapping view. `columns` and `rows` are the only two functions that turn one into the other.
Rules and metrics never index an activation: what they need of its axes stands here.
"""
from functools import lru_cache

import numpy as np

from nplearn.backend import array_module, like
from nplearn.kernels import lanes
from nplearn.kernels.product import product
from nplearn.kernels.turn import spread_rows
from nplearn.kernels.workspace import CACHE, empty, empty_like, once


def columns(rows, nb=None):
    """(N, ...) -> (T, ..., nb) with T = N / nb; one chunk when nb is None. A fresh contiguous array, but of features in
    one chunk a view of `rows`, which products read just as fast."""
    nb = nb or len(rows)
    if rows.ndim == 2 and nb == len(rows):
        return rows.T[None]
    cut = rows.reshape(len(rows) // nb, nb, *rows.shape[1:])
    if rows.ndim == 1:
        return cut.copy()
    order = (0, 2, 4, 3, 1) if rows.ndim == 4 else (0, *range(2, cut.ndim), 1)
    turned = cut.transpose(order)
    out = empty_like(turned)
    within_chunk = [axis - 1 for axis in order[1:]]

    def one(t):
        out[t] = spread_rows(cut[t]).transpose(within_chunk)
    lanes.share(len(out), one)
    return out


def rows(columns):
    """(T, ..., nb) -> (N, ...): the inverse of `columns`."""
    order = (0, 4, 1, 3, 2) if columns.ndim == 5 else (0, columns.ndim - 1, *range(1, columns.ndim - 1))
    turned = columns.transpose(order)
    return turned.reshape(-1, *turned.shape[2:])


def inside(shape):
    """A sample's shape inside a net: (F,) stays, (H, W, C) becomes (H, C, W)."""
    return (shape[0], shape[2], shape[1]) if len(shape) == 3 else tuple(shape)


def outside(shape):
    """A sample's shape in rows: the inverse of `inside`, which is its own."""
    return inside(shape)


def cut(n, column_bytes):
    """nb, how many of a batch's `n` samples make a chunk: a divisor of n, never taken from the machine.

    column_bytes  the net's largest im2col workspace for one sample; 0 for nets without convolutions, which take T = 1

    About 1.5 times `CACHE` worth of columns make a chunk. Bits depend on nb, so it is a function of net and n alone.
    """
    if column_bytes == 0:
        return n
    if column_bytes > CACHE / 2:
        preferred, least, most = 4, 1, 8
    else:
        preferred, least, most = min(64, max(16, 16 * round(1.5 * CACHE / column_bytes / 16))), 8, 64
    fits = [nb for nb in range(least, most + 1) if n % nb == 0]
    return min(fits, key=lambda nb: (abs(nb - preferred), nb)) if fits else n


def count(x):
    """N, the number of samples of columns (T, ..., nb)."""
    return x.shape[0] * x.shape[-1]


def nonzero(x):
    """x, and 1 where it is 0: what may be divided by."""
    return x + (x == 0)


def batch_shape(shape, x):
    """The shape of an activation whose samples have `shape`, for the batch that `x` is cut as."""
    return (x.shape[0], *shape, x.shape[-1])


def beside(values, x):
    """A number per sample, (T, nb), shaped to broadcast against the activation x (T, ..., nb)."""
    return values.reshape(values.shape[0], *(1,) * (x.ndim - 2), values.shape[-1])


def sample_std(x):
    """(T, nb): the standard deviation over the entries of each sample of an activation."""
    return x.reshape(len(x), -1, x.shape[-1]).std(axis=1)


def side_by_side(x):
    """(entries of a sample, N): the samples of an activation as the columns of one matrix."""
    if len(x) == 1:
        return x[0].reshape(-1, x.shape[-1])
    return array_module(x).moveaxis(x, 0, -2).reshape(-1, count(x))


def sample_norm(x):
    """(T, nb): the Euclidean norm of each sample of an activation."""
    return array_module(x).sqrt((x * x).reshape(len(x), -1, x.shape[-1]).sum(axis=1))


def sample_sum(x):
    """(T, nb): the sum over the entries of each sample of an activation."""
    return x.reshape(len(x), -1, x.shape[-1]).sum(axis=1)


def as_features(values):
    """p numbers per sample, each (T, nb), as the features (T, p, nb) of one activation."""
    return array_module(values[0]).stack(values, axis=1)


def replace_first(x, v, copies=1):
    """x with the first entries of each sample, as stored, replaced by v (T, p, nb) or (p, 1), `copies` times."""
    flat, p = x.reshape(len(x), -1, x.shape[-1]).copy(), v.shape[-2]
    for start in range(0, copies * p, p):
        flat[:, start:start + p] = v
    return flat.reshape(x.shape)


def one_hot(labels, n, dtype):
    """Class labels (T, nb) -> (T, n, nb), one at the label."""
    xp = array_module(labels)
    identity = once(("one-hot", xp, n, dtype), lambda: xp.eye(n, dtype=dtype))
    return identity.take(labels, axis=1).swapaxes(0, 1)


def join(a, b):
    """Two activations of the same batch, (T, p, nb) and (T, q, nb), as one of p + q features."""
    return array_module(a).concatenate([a, b], axis=1)


def permute(x, order):
    """The same activations dealt to other samples: sample n of the result is sample order[n] of x."""
    last = array_module(x).moveaxis(x, -1, 1)
    dealt = last.reshape(-1, *last.shape[2:])[like(order, x)].reshape(last.shape)
    return array_module(x).ascontiguousarray(array_module(x).moveaxis(dealt, 1, -1))


def draw_rows(draw, x):
    """`draw(shape)` of one number per entry of x, made in the order of rows: how the batch is cut changes no draw."""
    return like(columns(draw((count(x), *outside(x.shape[1:-1]))), x.shape[-1]), x)


def normal_like(x, rng):
    """N(0, 1) for each entry of x, in its precision; drawn as `draw_rows` does."""
    return draw_rows(rng.standard_normal, x).astype(x.dtype, copy=False)


def over_channels(B, d):
    """B (p, q) times the channel axis of d: (T, q, nb) -> (T, p, nb), (T, H, q, W, nb) -> (T, H, p, W, nb)."""
    if len(d) == 1 and d.ndim == 3:
        return product(B, d[0])[None]                   # of two matrices, which CuPy does not copy
    xp = array_module(d)
    if d.ndim == 3:
        out, flat = empty(xp, (len(d), len(B), d.shape[-1]), d.dtype), lambda x: x
    else:
        T, H, _, W, nb = d.shape
        out, flat = empty(xp, (T, H, len(B), W, nb), d.dtype), lambda x: x.reshape(H, -1, W * nb)
    lanes.share(len(d), lambda t: xp.matmul(B, flat(d[t]), out=flat(out[t])))
    return out


def everywhere(v, shape):
    """v (T, n, nb) seen at every position of a map: -> (T, H, n, W, nb) for shape (H, C, W); v itself for (F,)."""
    if len(shape) == 1:
        return v
    T, n, nb = v.shape
    wide = v.reshape(T, 1, n, 1, nb)
    return array_module(v).broadcast_to(wide, (T, shape[0], n, shape[2], nb))


def over_components(v, x):
    """K numbers per sample, v (T, K, nb), each at every entry of its component in an activation like x, whose first
    axis holds K components one behind the other."""
    T, K, nb = v.shape
    wide = v.reshape(T, K, *(1,) * (x.ndim - 2), nb)
    return array_module(v).broadcast_to(wide, (T, K, x.shape[1] // K, *x.shape[2:])).reshape(x.shape)


def nothing_like(x):
    """A zero of x's shape that takes no memory: what goes down where nothing is sent."""
    xp = array_module(x)
    if xp is np:                                        # np.broadcast_to takes five times as long
        return _nothing(x.shape, x.dtype)
    return xp.broadcast_to(xp.zeros((), x.dtype), x.shape)


@lru_cache
def _nothing(shape, dtype):
    return np.ndarray(shape, dtype, bytes(dtype.itemsize), strides=(0,) * len(shape))

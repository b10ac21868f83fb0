"""Per channel over a whole batch: sums, and the two affine maps that batch normalisation is made of.

Sums are exact enough for both: runs of a row are added in the array's precision, their totals in float64, chunk by
chunk, so that they do not depend on lanes.
"""
from nplearn.backend import array_module
from nplearn.kernels import lanes
from nplearn.kernels.gpu import launch
from nplearn.kernels.gpu import norm as fused


def channel_sums(x, y):
    """(sum of x, sum of x * y) over samples and positions, each (C,) float64, in one pass."""
    if launch.serves(x, y):
        return fused.channel_sums(x, y)
    xp, ones = array_module(x), run_of_ones(x)

    def part(t):
        a, b = rows(x[t]), rows(y[t])
        dots = xp.vecdot(a, b) if hasattr(xp, "vecdot") else (a * b).sum(axis=-1)       # CuPy has none
        return xp.stack([a @ ones, dots]).sum(axis=1, dtype="float64")
    return tuple(lanes.total(len(x), part))


def channel_sum(x, out=None):
    """Sum of x over samples and positions, (C,) float64; in `out` where given."""
    ones = run_of_ones(x)
    return lanes.total(len(x), lambda t: (rows(x[t]) @ ones).sum(axis=0, dtype="float64"), out)


def rows(x):
    """A chunk (C, nb) -> (1, C, nb), (H, C, W, nb) -> (H, C, W nb): a channel's entries in contiguous runs."""
    return x[None] if x.ndim == 2 else x.reshape(*x.shape[:2], -1)


def run_of_ones(x):
    """What a product with sums such a run: BLAS adds faster than NumPy."""
    return array_module(x).ones(x.shape[-1] * (x.shape[-2] if x.ndim == 5 else 1), x.dtype)


def affine(x, gain, shift):
    """gain x + shift, two numbers (C,) a channel."""
    if launch.serves(x):
        return fused.affine(x, gain, shift)
    xp, gain, shift = array_module(x), along_channels(gain, x), along_channels(shift, x)

    def one(x, out):
        xp.multiply(x, gain, out=out)
        out += shift
    return lanes.chunkwise(one, x)


def affine_of_two(d, x, gain, slope, shift):
    """gain (d + slope x + shift), three numbers (C,) a channel."""
    xp = array_module(d)
    gain, slope, shift = (along_channels(v, d) for v in (gain, slope, shift))

    def one(d, x, out):
        xp.multiply(x, slope, out=out)
        out += shift
        out += d
        out *= gain
    return lanes.chunkwise(one, d, x)


def along_channels(v, x):
    """v (C,) as a column of x's dtype that broadcasts against x or a chunk of it."""
    return v.astype(x.dtype).reshape(-1, *(1,) * ((x.ndim + 1) // 2 - 1))

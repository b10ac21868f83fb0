"""Per channel over a whole batch: sums, and the passes of batch normalisation.

    z = (x - mu) / sqrt(v + eps) is never made: y and dx are one number per channel times x (and d) plus another, and
    v = mean(x x) - mu^2. Where |mu| exceeds FAR deviations that loses digits, so x is centred first. On a GPU the plain
    body always centres, as to ask would be a transfer; our float32 kernels there never do, as they add in float64.

Sums are exact enough for that: runs of a row are added in the array's precision, their totals in float64, chunk by
chunk, so that they do not depend on lanes. What a pass keeps for the way back is (x, centre, inverse): z is
(x - centre) inverse, with two numbers (C,) a channel.
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.kernels import lanes
from nplearn.kernels.gpu import launch
from nplearn.kernels.gpu import norm as fused

FAR = 5                                                 # deviations that a mean may be off zero, for float32


def sum_and_dot(x, y):
    """(sum of x, sum of x y) of (T, C, nb) or (T, H, C, W, nb) over samples and positions, each (C,) float64."""
    if launch.serves(x, y):
        return fused.sum_and_dot(x, y)
    xp, ones = array_module(x), run_of_ones(x)

    def part(t):
        a, b = rows(x[t]), rows(y[t])
        dots = xp.vecdot(a, b) if hasattr(xp, "vecdot") else (a * b).sum(axis=-1)       # CuPy has none
        return xp.stack([a @ ones, dots]).sum(axis=1, dtype="float64")                  # (2, H, C) -> (2, C)
    return tuple(lanes.total(len(x), part))


def channel_sum(x, out=None):
    """Sum of x over samples and positions, (C,), added in float64; rounded into `out` where given."""
    if launch.serves(x):                                # the dot is for nothing: it costs no pass; `total` minds `out`
        return lanes.total(1, lambda t: fused.sum_and_dot(x, x)[0], out)
    ones = run_of_ones(x)
    return lanes.total(len(x), lambda t: (rows(x[t]) @ ones).sum(axis=0, dtype="float64"), out)


def rows(x):
    """A chunk (C, nb) -> (1, C, nb), (H, C, W, nb) -> (H, C, W nb): a channel's entries in contiguous runs."""
    return x[None] if x.ndim == 2 else x.reshape(*x.shape[:2], -1)


def run_of_ones(x):
    """A vector of ones. The product of a run with it is the run's sum, and BLAS adds faster than NumPy."""
    return array_module(x).ones(x.shape[-1] * (x.shape[-2] if x.ndim == 5 else 1), x.dtype)


def affine(x, gain, shift):
    """gain x + shift for an activation x, with gain and shift (C,)."""
    if launch.serves(x):
        return fused.affine(x, gain, shift)
    xp, gain, shift = array_module(x), along_channels(gain, x), along_channels(shift, x)

    def one(x, out):
        xp.multiply(x, gain, out=out)
        out += shift
    return lanes.chunkwise(one, x)


def normalise(x, scale, shift, eps, running=None):
    """(y, x, centre, inverse): scale z + shift, and what is kept; that x may be another array, the given one centred.

    running  None or (mean, variance, momentum): the two arrays follow the batch's in place, the variance with
             m / (m - 1); here, as nobody else sees mean and variance of the batch
    """
    if launch.serves(x, scale) and x.dtype == "float32":
        y, *kept = fused.normalise(x, scale, shift, eps, *(running or ()))
        return y, x, *kept
    m = x.size // len(scale)
    mean, variance, x, centre = moments(x, m)
    if running:
        running_mean, running_variance, momentum = running
        running_mean += momentum * (mean - running_mean)
        running_variance += momentum * (variance * m / max(1, m - 1) - running_variance)
    inverse = 1 / (variance + eps) ** 0.5
    gain = scale * inverse
    return affine(x, gain, shift - centre * gain), x, centre, inverse


def moments(x, m):
    """(mean, variance, x, centre) of m entries a channel: x itself and its mean, or, where that is far off, x centred
    and what is left of its mean."""
    xp, (total, squares) = array_module(x), sum_and_dot(x, x)
    mean = total / m
    variance = squares / m - mean * mean
    if xp is np and (mean * mean <= FAR ** 2 * variance).all():
        return mean, variance, x, mean
    x = affine(x, xp.ones_like(mean), -mean)
    total, squares = sum_and_dot(x, x)
    variance = xp.maximum(squares / m - (total / m) ** 2, 0)                # of equal entries rounding may leave less
    return mean + total / m, variance, x, total / m


def dots(d, x, centre, inverse):
    """(sum of d, sum of d z) for d like x, each (C,) float64: the gradients of shift and scale."""
    if launch.serves(d, x):
        return fused.dots(d, x, centre, inverse)
    sum_d, sum_dx = sum_and_dot(d, x)
    return sum_d, (sum_dx - centre * sum_d) * inverse


def jacobian(d, x, centre, inverse, scale, sum_d, sum_dz):
    """scale inverse (d - mean(d) - z mean(d z)) for d like x, all else (C,): d without what is common to batch mean and
    variance."""
    if launch.serves(d, x, scale):
        return fused.jacobian(d, x, centre, inverse, scale, sum_d, sum_dz)
    m = d.size // len(scale)
    slope = -inverse * sum_dz / m
    return affine_of_two(d, x, scale * inverse, slope, -sum_d / m - slope * centre)


def affine_of_two(d, x, gain, slope, shift):
    """gain (d + slope x + shift) for activations d and x, with gain, slope and shift (C,)."""
    xp = array_module(d)
    gain, slope, shift = (along_channels(v, d) for v in (gain, slope, shift))

    def one(d, x, out):
        xp.multiply(x, slope, out=out)
        out += shift
        out += d
        out *= gain
    return lanes.chunkwise(one, d, x)


def along_channels(v, x):
    """v (C,) in x's dtype and shaped to broadcast against x, whole or a chunk; x itself is whole, not a chunk."""
    return v.astype(x.dtype).reshape((-1, 1) if x.ndim == 3 else (-1, 1, 1))

"""Batch normalisation, over samples (dense) or samples and positions (maps).

    mu, v   mean and variance of a channel over the m entries it has in the whole batch, all chunks together
    z = (x - mu) / sqrt(v + eps)        y = scale z + shift
    dx = scale / sqrt(v + eps) (d - mean(d) - z mean(d z))        dscale = sum d z        dshift = sum d

z is never made: y and dx are one number per channel times x (and d) plus another, and v = mean(x x) - mu^2. Where mu is
far above the deviation that loses digits, so there x is centred first (on a GPU always, which asks nothing back; but
for float32 not by our own kernels there, which add and multiply in float64).

The way down is exact, through mean and variance, under every rule. In mode "train" running statistics follow:
r <- r + momentum (batch - r), the variance with m / (m - 1) as in PyTorch; without a tape they are used instead.
Source: Ioffe and Szegedy 2015, arXiv 1502.03167.
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.kernels.gpu import launch
from nplearn.kernels.gpu import norm as fused
from nplearn.kernels.norm import affine, affine_of_two, channel_sums
from nplearn.layers.base import Layer
from nplearn.params import Param

FAR = 5                                                 # deviations that a mean may be off zero, for float32


class BatchNorm(Layer):
    """One scale and shift per feature (F,) or channel (H, C, W)."""

    flows = True

    def __init__(self, eps=1e-5, momentum=0.1):
        self.eps, self.momentum = eps, momentum

    def make(self, ground):
        n = self.in_shape[1] if len(self.in_shape) == 3 else self.in_shape[0]
        self.scale, self.shift = Param(ground.put(np.ones(n)), "norm"), Param(ground.put(np.zeros(n)), "norm")
        self.mean, self.variance = ground.device.put(np.zeros(n)), ground.device.put(np.ones(n))   # float64

    def serves(self, in_shape):
        return len(in_shape) == len(self.in_shape) == 3 and in_shape[1] == self.in_shape[1]

    def params(self):
        return {"scale": self.scale, "shift": self.shift}

    def buffers(self):
        return {"mean": self.mean, "variance": self.variance}

    def forward(self, x, tape=None):
        if tape is None:
            gain = self.scale.value / (self.variance + self.eps) ** 0.5
            return affine(x, gain, self.shift.value - self.mean * gain)
        if launch.serves(x, self.scale.value) and x.dtype == "float32":
            moves = (self.momentum, self.mean, self.variance) if tape.mode == "train" else ()
            y, *kept = fused.forward(x, self.scale.value, self.shift.value, self.eps, *moves)
            tape.keep(self, (x, *kept))
            return y
        m = x.size // len(self.mean)
        mean, variance, x, centre = self.moments(x, m)
        if tape.mode == "train":
            self.mean += self.momentum * (mean - self.mean)
            self.variance += self.momentum * (variance * m / max(1, m - 1) - self.variance)
        inverse = 1 / (variance + self.eps) ** 0.5
        tape.keep(self, (x, centre, inverse))
        gain = self.scale.value * inverse
        return affine(x, gain, self.shift.value - centre * gain)

    def moments(self, x, m):
        """Mean and variance of the batch; x itself and its mean, or x centred and a mean of about 0."""
        total, squares = channel_sums(x, x)
        mean = total / m
        variance = squares / m - mean * mean
        if array_module(x) is np and (mean * mean <= FAR ** 2 * variance).all():
            return mean, variance, x, mean
        x = affine(x, array_module(x).ones_like(mean), -mean)
        total, squares = channel_sums(x, x)
        return mean + total / m, squares / m - (total / m) ** 2, x, total / m

    def backward(self, d, tape):
        x, centre, inverse = tape.take(self)
        sum_d, sum_dz = self.sums(d, x, centre, inverse)
        if tape.collects:
            tape.add(self.scale, sum_dz)
            tape.add(self.shift, sum_d)
        return self.through(d, x, centre, inverse, sum_d, sum_dz)

    def tangent(self, v, tape):
        x, centre, inverse = tape.take(self)
        return self.through(v, x, centre, inverse, *self.sums(v, x, centre, inverse))

    def sums(self, d, x, centre, inverse):
        """Sum of d and of d z, per channel."""
        if launch.serves(d, x):
            return fused.sums(d, x, centre, inverse)
        sum_d, sum_dx = channel_sums(d, x)
        return sum_d, (sum_dx - centre * sum_d) * inverse

    def through(self, d, x, centre, inverse, sum_d, sum_dz):
        """The Jacobian, which is symmetric: what is common to batch mean and variance is taken out of d."""
        if launch.serves(d, x, self.scale.value):
            return fused.through(d, x, self.scale.value, centre, inverse, sum_d, sum_dz)
        m = d.size // len(self.mean)
        slope = -inverse * sum_dz / m
        return affine_of_two(d, x, self.scale.value * inverse, slope, -sum_d / m - slope * centre)

"""Batch normalisation, over samples (dense) or samples and positions (maps).

    mu, v   mean and variance of a channel over the m entries it has in the whole batch, all chunks together
    z = (x - mu) / sqrt(v + eps)        y = scale z + shift
    dx = scale / sqrt(v + eps) (d - mean(d) - z mean(d z))        dscale = sum d z        dshift = sum d

The way down is exact, through mean and variance, under every rule. In mode "train" running statistics follow:
r <- r + momentum (batch - r), the variance with m / (m - 1) as in PyTorch; without a tape they are used instead.
Source: Ioffe and Szegedy 2015, arXiv 1502.03167.
"""
import numpy as np

from nplearn.kernels.lanes import chunkwise
from nplearn.kernels.norm import along_channels, channel_dot, channel_sum
from nplearn.layers.base import Layer
from nplearn.params import Param


class BatchNorm(Layer):
    """One scale and shift per feature (F,) or channel (H, C, W)."""

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
            return x * along_channels(gain, x) + along_channels(self.shift.value - self.mean * gain, x)
        m = x.size // len(self.mean)
        mean = channel_sum(x) / m
        z = chunkwise(lambda x: x - along_channels(mean, x), x)
        variance = channel_dot(z, z) / m
        inverse = 1 / (variance + self.eps) ** 0.5
        z = chunkwise(lambda z: z * along_channels(inverse, z), z)
        if tape.mode == "train":
            self.mean += self.momentum * (mean - self.mean)
            self.variance += self.momentum * (variance * m / max(1, m - 1) - self.variance)
        tape.keep(self, (z, inverse))
        scale, shift = along_channels(self.scale.value, x), along_channels(self.shift.value, x)
        return chunkwise(lambda z: z * scale + shift, z)

    def backward(self, d, tape):
        z, inverse = tape.take(self)
        sum_d, sum_dz = channel_sum(d), channel_dot(d, z)
        if tape.collects:
            tape.add(self.scale, sum_dz)
            tape.add(self.shift, sum_d)
        return self.through(d, z, inverse, sum_d, sum_dz)

    def tangent(self, v, tape):
        z, inverse = tape.take(self)
        return self.through(v, z, inverse, channel_sum(v), channel_dot(v, z))

    def through(self, d, z, inverse, sum_d, sum_dz):
        """The Jacobian, which is symmetric: what is common to batch mean and variance is taken out of d."""
        m = d.size // len(self.mean)
        mean_d, mean_dz = along_channels(sum_d / m, d), along_channels(sum_dz / m, d)
        gain = along_channels(self.scale.value * inverse, d)
        return chunkwise(lambda d, z: (d - mean_d - z * mean_dz) * gain, d, z)

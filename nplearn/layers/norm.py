"""Batch normalisation, over samples (dense) or samples and positions (maps).

    mu, v   mean and variance of a channel over the m entries it has in the whole batch, all chunks together
    z = (x - mu) / sqrt(v + eps)        y = scale z + shift
    dx = scale / sqrt(v + eps) (d - mean(d) - z mean(d z))        dscale = sum d z        dshift = sum d

The way down is exact, through mean and variance, under every rule. In mode "train" running statistics follow:
r <- r + momentum (batch - r), the variance with m / (m - 1) as in PyTorch; without a tape they are used instead.
Source: Ioffe and Szegedy 2015, arXiv 1502.03167.
"""
import numpy as np

from nplearn.kernels.norm import affine, dots, jacobian, normalise
from nplearn.layers.base import Layer
from nplearn.params import Param


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
        running = (self.mean, self.variance, self.momentum) if tape.mode == "train" else None
        y, *kept = normalise(x, self.scale.value, self.shift.value, self.eps, running)
        tape.keep(self, kept)
        return y

    def backward(self, d, tape):
        kept = tape.take(self)
        sum_d, sum_dz = dots(d, *kept)
        if tape.collects:
            tape.add(self.scale, sum_dz)
            tape.add(self.shift, sum_d)
        return jacobian(d, *kept, self.scale.value, sum_d, sum_dz)

    def tangent(self, v, tape):                         # the Jacobian is symmetric
        kept = tape.take(self)
        return jacobian(v, *kept, self.scale.value, *dots(v, *kept))

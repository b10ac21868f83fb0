"""The parameter-free shortcut of CIFAR residual nets (option A): every s-th row and column, and channels of zeros.

    x (T, H, C, W, nb) -> (T, ceil(H / s), n, ceil(W / s), nb)      y[:, i, c, j] = x[:, s i, c, s j] for c < C, else 0

New channels are added in equal numbers below and above, as in the CIFAR code of He et al.'s followers: C channels stand
from (n - C) // 2 on. An error enters and leaves through a Port, so a rule may cut it.
Source: He et al. 2016, CVPR, arXiv 1512.03385, section 3.3.
"""
from nplearn.backend import array_module
from nplearn.errors import BuildError
from nplearn.kernels.lanes import share
from nplearn.kernels.workspace import empty
from nplearn.layers.base import Layer, whole
from nplearn.layers.windowed import need_map


class Subsample(Layer):
    """`Subsample(n, stride)`: n channels out, at least as many as come in."""

    flows = True

    def __init__(self, n, stride):
        self.n, self.stride = whole("Subsample", "n", n), whole("Subsample", "stride", stride)

    def infer(self, in_shape):
        H, C, W = need_map(self, in_shape)
        if self.n < C:
            raise BuildError(self.path or "Subsample", f"{C} channels", f"at most {self.n}", "give it more channels")
        return -(-H // self.stride), self.n, -(-W // self.stride)

    def make(self, ground):
        first = (self.n - self.in_shape[1]) // 2
        self.channels = slice(first, first + self.in_shape[1])

    def forward(self, x, tape=None):
        y = empty(array_module(x), (x.shape[0], *self.out_shape, x.shape[-1]), x.dtype)

        def one(t):
            y[t] = 0
            y[t, :, self.channels] = x[t, ::self.stride, :, ::self.stride]
        share(len(y), one)
        return y

    def backward(self, d, tape):
        dx = empty(array_module(d), (d.shape[0], *self.in_shape, d.shape[-1]), d.dtype)

        def one(t):
            dx[t] = 0
            dx[t, ::self.stride, :, ::self.stride] = d[t, :, self.channels]
        share(len(dx), one)
        return dx

    def tangent(self, v, tape):
        return self.forward(v)

"""Layers that only rename axes: the columns of a sample stay columns.

Flatten reads a map in the order it is stored, (H, C, W); a dense weight behind it has its columns in that order.
"""
from math import prod

from nplearn.columns import inside, outside
from nplearn.errors import BuildError
from nplearn.layers.base import Layer


class Flatten(Layer):
    """(H, C, W) -> (H C W,)."""

    flows = settles = True

    def infer(self, in_shape):
        return (prod(in_shape),)

    def forward(self, x, tape=None):
        return x.reshape(x.shape[0], -1, x.shape[-1])

    def backward(self, d, tape):
        return d.reshape(d.shape[0], *self.in_shape, d.shape[-1])

    def tangent(self, v, tape):
        return v.reshape(v.shape[0], -1, v.shape[-1])


class Reshape(Layer):
    """To samples of `shape`, (features,) or (H, W, C) as in rows; the entries keep their stored order."""

    flows = settles = True

    def __init__(self, shape):
        self.shape = inside(tuple(shape))

    def infer(self, in_shape):
        if prod(in_shape) != prod(self.shape):
            raise BuildError(self.path or "Reshape", f"{outside(in_shape)}, {prod(in_shape)} numbers",
                             f"{prod(self.shape)} numbers for {self.shape}", "change the shape")
        return self.shape

    def forward(self, x, tape=None):
        return x.reshape(x.shape[0], *self.shape, x.shape[-1])

    def backward(self, d, tape):
        return d.reshape(d.shape[0], *self.in_shape, d.shape[-1])

    def tangent(self, v, tape):
        return v.reshape(v.shape[0], *self.shape, v.shape[-1])

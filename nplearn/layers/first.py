"""The first features of a vector: the others go no further, and get no error.

    x (T, n_in, nb) -> y (T, n, nb)         y = x[:, :n]        backward: d, and zeros for the others

An output of n classes on a wider last layer, and nets whose layers read only some of the units below (towers).
"""
from nplearn.backend import array_module
from nplearn.columns import batch_shape, outside
from nplearn.errors import BuildError
from nplearn.layers.base import Layer, whole


class First(Layer):
    """`First(n)`: the first n features."""

    def __init__(self, n):
        self.n = whole("First", "n", n)

    def infer(self, in_shape):
        if len(in_shape) != 1 or in_shape[0] < self.n:
            raise BuildError(self.path or "First", f"input of shape {outside(in_shape)}", f"at least {self.n} features",
                             "make the layer below it wider")
        return (self.n,)

    def forward(self, x, tape=None):
        return x[:, :self.n]

    def backward(self, d, tape):
        dx = array_module(d).zeros(batch_shape(self.in_shape, d), d.dtype)
        dx[:, :self.n] = d
        return dx

    def tangent(self, v, tape):
        return v[:, :self.n]

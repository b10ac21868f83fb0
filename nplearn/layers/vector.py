"""Layers of vector units: each unit is a vector of K components, whose weights are shared by all components.

A sample of n units is (K n,), the units of the first component before those of the second; of maps, (K H, C, W), the
components' maps one below the other. So a chunk of K n is K chunks of n to the layer inside, and nothing is copied:

    Componentwise   a_i = sum_j W_ij h_j + b_i       W (n_out, n_in), kept at 0 or more; a, h and b vectors of K
    Gate            h_i = a_i 1[t_i . a_i >= 0]      a whole vector or nothing; t (K, n) of signs, drawn once
    Stacked         maps (H, K C, W) -> (K H, C, W)  behind a convolution of plain maps, whose output it deals out

The first layer of such a net is a plain one with K n outputs, its weights of either sign: the input has no components.
Units come in pairs, ON and OFF: with the laws ON_OFF_FIRST and ON_OFF, t_OFF = -t_ON and biases of zero an OFF unit is
-ON at the start, and a net of weights at 0 or more then does what one of either sign and half the width does.
Source: Clark, Abbott and Chung 2021, NeurIPS 34, arXiv 2106.04089; code davidclark1/VectorizedNets.
"""
from math import sqrt
from typing import NamedTuple

import numpy as np

from nplearn.backend import array_module, stream
from nplearn.columns import outside
from nplearn.errors import BuildError
from nplearn.layers.base import Layer, Weighted, whole
from nplearn.params import Param


class OnOff(NamedTuple):
    """Weights of pairs, ON and OFF in turn along outputs and inputs, from a Gaussian w of half the size.

    first   rows w, -w                        std 1 / sqrt(fan_in): the input is not paired
    else    [[w+, w-], [w-, w+]]              w of std sqrt(4 / fan_in), w+ and w- its parts above and below 0
    """

    name: str
    first: bool

    def draw(self, rng, shape, fan_in, fan_out):
        n, m = shape[0], shape[-1]
        pairs = (-(-n // 2), *shape[1:-1], m if self.first else -(-m // 2))
        w, W = rng.normal(0, 1 / sqrt(fan_in) if self.first else sqrt(4 / fan_in), pairs), np.empty(shape)
        if self.first:
            W[::2], W[1::2] = w, -w[:n // 2]
            return W
        for i in (0, 1):
            for j in (0, 1):
                W[i::2, ..., j::2] = np.maximum(w if i == j else -w, 0)[:(n + 1 - i) // 2, ..., :(m + 1 - j) // 2]
        return W

    def std(self, fan_in, fan_out):
        return 1 / sqrt(fan_in) if self.first else sqrt(4 / fan_in * (1 / 2 - 1 / (2 * np.pi)))


ON_OFF_FIRST, ON_OFF = OnOff("on-off-first", True), OnOff("on-off", False)


class Componentwise(Weighted):
    """`Componentwise(Dense(n), K)`: the layer inside, not built, on each of K components, with one weight.

    bias  K numbers for each unit, of features; maps have none, and the layer inside never has one of its own
    """

    def __init__(self, layer, components, bias=True, nonnegative=True):
        super().__init__(bias, layer.init)
        self.inner, self.components = layer, whole("Componentwise", "components", components)
        self.nonnegative, layer.has_bias = nonnegative, False
        self.n, self.groups, self.out_axis, self.laned = layer.n, layer.groups, layer.out_axis, layer.laned

    def infer(self, in_shape):
        self.inner.path = self.path
        return joined(self.inner.infer(component(self, in_shape)), self.components)

    def make(self, ground):
        inner, K = self.inner, self.components
        if self.has_bias and self.spatial:
            raise BuildError(self.path, "a bias on maps", "none", "give bias=False")
        inner.in_shape, inner.out_shape = component(self, self.in_shape), component(self, self.out_shape)
        inner.make(ground)
        self.weight, self.column_bytes, self.uses = inner.weight, inner.column_bytes, K * inner.uses
        self.bias = Param(ground.put(np.zeros(self.bias_shape())), "bias") if self.has_bias else None
        if self.nonnegative:
            self.weight.project = lambda W: array_module(W).maximum(W, 0, out=W)

    def weight_shape(self, n_out):
        return self.inner.weight_shape(n_out)

    def bias_shape(self):
        return self.components * self.n, 1

    def fans(self, n_out):
        return self.inner.fans(n_out)

    def apart(self, x):
        """The components as chunks."""
        K = self.components
        return x.reshape(len(x) * K, x.shape[1] // K, *x.shape[2:])

    def together(self, x):
        K = self.components
        return x.reshape(len(x) // K, K * x.shape[1], *x.shape[2:])

    def apply(self, x, W):
        return self.together(self.inner.apply(self.apart(x), W))

    def adjoint(self, d, W, shape):
        K = self.components
        return self.together(self.inner.adjoint(self.apart(d), W, (shape[0] * K, shape[1] // K, *shape[2:])))

    def outer(self, x, d):
        return self.inner.outer(self.apart(x), self.apart(d))

    def mix(self, d, B):
        return self.together(self.inner.mix(self.apart(d), B))

    def widen(self, W, B):
        return self.inner.widen(W, B)


class Gate(Layer):
    """`Gate(K)`: a unit's whole vector where t . a >= 0, else zero. On maps a channel's t is the same everywhere."""

    gates_vectors = True

    def __init__(self, components):
        self.components = whole("Gate", "components", components)

    def make(self, ground):
        shape = component(self, self.in_shape)
        n = shape[1] if len(shape) == 3 else shape[0]
        t = stream(ground.seed, "gate", self.path).choice([-1.0, 1.0], (self.components, n))
        t[:, 1::2] = -t[:, :n - 1:2]
        self.t = ground.put(t.reshape(self.components, *((1, n, 1) if len(shape) == 3 else (n,)), 1))

    def buffers(self):
        return {"t": self.t}                            # not moved, but a checkpoint must hold it

    def forward(self, x, tape=None):
        a = self.vectors(x)
        on = (self.t * a).sum(axis=1, keepdims=True) >= 0
        if tape is not None:
            tape.keep(self, on)
        return (a * on).reshape(x.shape)

    def backward(self, d, tape):
        return (self.vectors(d) * tape.take(self)).reshape(d.shape)

    def tangent(self, v, tape):
        return self.backward(v, tape)

    def vectors(self, x):
        return x.reshape(len(x), self.components, x.shape[1] // self.components, *x.shape[2:])


class Stacked(Layer):
    """`Stacked(K)`: the channels of a map, dealt out to the maps of K components, in order."""

    def __init__(self, components):
        self.components = whole("Stacked", "components", components)

    def infer(self, in_shape):
        K = self.components
        if len(in_shape) != 3 or in_shape[1] % K:
            raise BuildError(self.path or "Stacked", f"input of shape {outside(in_shape)}",
                             f"a map whose channels are {K} equal parts", "put it behind a convolution of so many")
        return K * in_shape[0], in_shape[1] // K, in_shape[2]

    def forward(self, x, tape=None):
        T, H, n, W, nb = x.shape
        K = self.components
        return x.reshape(T, H, K, n // K, W, nb).swapaxes(1, 2).reshape(T, K * H, n // K, W, nb)

    def backward(self, d, tape):
        T, H, n, W, nb = d.shape
        K = self.components
        return d.reshape(T, K, H // K, n, W, nb).swapaxes(1, 2).reshape(T, H // K, K * n, W, nb)

    def tangent(self, v, tape):
        return self.forward(v)


def component(layer, shape):
    """A sample's shape for one component; BuildError where there are not so many."""
    if shape[0] % layer.components:
        raise BuildError(layer.path or type(layer).__name__, f"input of shape {outside(shape)}",
                         f"{layer.components} components of the same size", "give the layer below as many components")
    return shape[0] // layer.components, *shape[1:]


def joined(shape, components):
    return components * shape[0], *shape[1:]

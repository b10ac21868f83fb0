"""What a layer is, and what a weighted layer adds: three operators and a feedback.

Samples are columns: activations are (T, features, nb) or (T, H, C, W, nb), T chunks of nb samples. A sample's shape
inside a net is therefore (features,) or (H, C, W).

A weighted layer is bilinear in its input and its weight. For any W of its weight's kind

    apply(x, W) -> a        adjoint(d, W, x.shape) -> dx        outer(x, d) -> dW
    <apply(x, W), d> = <x, adjoint(d, W, x.shape)> = <W, outer(x, d)>

An unweighted layer has `backward` and its transpose `tangent`:  <tangent(v), d> = <v, backward(d)>.
"""
from functools import cache
from inspect import signature
from typing import NamedTuple

import numpy as np

from nplearn.backend import Device, array_module, like, stream, to_host
from nplearn.columns import columns, cut, inside, nothing_like, outside, over_channels, rows
from nplearn.errors import BuildError, SettingError, unwritten
from nplearn.feedback import Transport
from nplearn.kernels import lanes
from nplearn.layers.initial import XAVIER, ZERO
from nplearn.layers.members import everything, leaves
from nplearn.params import Arena, Param


class Ground(NamedTuple):
    """What a net is built on: where draws come from, in which precision and on which device."""

    seed: object
    dtype: np.dtype
    device: Device

    def put(self, host):
        return self.device.put(np.ascontiguousarray(host, self.dtype))


class Layer(lanes.MayFlow):
    """A step of a net. Between passes it holds parameters (and running statistics) and nothing else.

    After `build` it knows its `path` in the net and the shapes of a sample, `in_shape` and `out_shape`.
    """

    path, in_shape, out_shape = "", None, None
    other_shapes = ()                                   # in_shape at further places, where it is another
    laned = False                                       # whether its kernels share their work out over lanes
    column_bytes = 0                                    # the largest im2col workspace below, per sample
    served_by = None                                    # the rule that fitted a net's feedback last
    sends = False                                       # whether a Param lies below: an error at the input is wanted
    components = None                                   # K, where units are vectors
    settles = False                                     # whether states may: f(2x) = 2 f(x), no draws, samples apart
    forgets_length = gates_vectors = False              # as Normalise; as Gate: all of a vector or nothing

    # -- what a layer writes ----------------------------------------------------------------------------------------

    def infer(self, in_shape):
        """The shape of a sample at the output; BuildError where the input cannot fit."""
        return in_shape

    def make(self, ground):
        """Create parameters, once `in_shape`, `out_shape` and `path` are known."""

    def serves(self, in_shape):
        """Whether a layer built for one shape may stand at a second place with another one."""
        return False

    def forward(self, x, tape=None):
        """Output for x. With a tape, keep what the way back needs; without one, inference: running statistics."""
        raise unwritten(self, "forward(self, x, tape=None)", self.path)

    def backward(self, d, tape):
        """The error at the input from the error d at the output of the pass on `tape`; fills gradients."""
        raise unwritten(self, "backward(self, d, tape)", self.path)

    def tangent(self, v, tape):
        """The change at the output from a change v at the input (read with `tape.walk(up=True)`)."""
        raise BuildError(self.path or type(self).__name__, "no tangent", "a layer with a tangent",
                         "use a rule that does not push changes forward")

    def children(self):
        """{name: layer} of the layers inside, in forward order."""
        return {}

    def params(self):
        """{name: Param} of its own."""
        return {}

    def buffers(self):
        """{name: array} that training moves in place and a checkpoint must hold, but no optimiser steps."""
        return {}

    # -- what a net does --------------------------------------------------------------------------------------------

    def build(self, in_shape, seed=0, dtype=np.float32, device="cpu"):
        """Make this layer a net for inputs of `in_shape`, (features,) or (H, W, C) as in rows; returns the net.

        Weights are drawn from `stream(seed, path)`: a layer's start depends on no other layer.
        """
        if str(dtype) not in ("float32", "float64") and dtype not in (np.float32, np.float64):
            raise SettingError("dtype", f"{dtype!r}", "float32 or float64", "choose one of these")
        ground = Ground(seed, np.dtype(dtype), device if isinstance(device, Device) else Device(device))
        for layer in everything(self):
            layer.in_shape, layer.other_shapes, layer.sends = None, (), False
            if hasattr(layer, "feedback"):
                layer.feedback = layer.exact            # that of another build would not fit
        self.served_by = None
        self.place("", inside(tuple(in_shape) if isinstance(in_shape, (tuple, list)) else (in_shape,)), ground)
        self.reach(False)
        self.dtype, self.device, self.seed = ground.dtype, ground.device, seed
        self.column_bytes = max((layer.column_bytes for layer in leaves(self)), default=0)
        for layer in leaves(self):
            for name, param in layer.params().items():
                param.path = f"{layer.path}.{name}".strip(".")
        found = [p for layer in leaves(self) for p in layer.params().values()]
        self.arena = Arena(found) if found else None
        return self

    def place(self, path, in_shape, ground):
        """Give the layer its place in a net; at a second place it keeps its first path and its weights."""
        if self.in_shape is None:
            self.path = path                            # first, so that an error can say where
        shape = tuple(self.infer(in_shape))
        if self.in_shape is None:
            self.in_shape, self.out_shape = in_shape, shape
            self.make(ground)
        elif tuple(in_shape) != tuple(self.in_shape):
            if not self.serves(in_shape):
                raise BuildError(self.path, f"the same layer again, as {path}, on {outside(in_shape)}",
                                 f"{outside(self.in_shape)} there too", "use a layer of its own at the second place")
            self.other_shapes += (tuple(in_shape),)
        return shape

    def reach(self, below):
        """Told whether a Param lies below, says whether one lies below what comes next."""
        self.sends = self.sends or below
        return below or bool(self.params())

    def check(self, inputs):
        """`inputs`, as rows, are a batch for this net: or BuildError."""
        if self.in_shape is None:
            raise BuildError(type(self).__name__, "a net that is not built", "net.build(in_shape) first", "build it")
        if inputs.shape[1:] != outside(self.in_shape) or len(inputs) == 0:
            raise BuildError("input", f"a batch of shape {inputs.shape}", f"(N, *{outside(self.in_shape)}) with N > 0",
                             "build the net for this input, or reshape the batch")

    def columns(self, inputs):
        """A batch of rows as this net takes it: on its device, in its precision, cut and turned into columns."""
        self.check(inputs)
        return columns(self.device.put(inputs).astype(self.dtype, copy=False), self.chunk(len(inputs)))

    def chunk(self, n):
        """nb, how many of n samples make a chunk in this net; all of them on a GPU."""
        return cut(n, self.column_bytes if self.device.xp is np else 0)

    def predict(self, inputs, batch=256):
        """Rows in, rows out, nothing kept: (N, features) or (N, H, W, C) -> (N, classes) or maps, on the host."""
        self.check(inputs)
        parts = [rows(self.forward(self.columns(np.asarray(inputs[start:start + batch]))))
                 for start in range(0, len(inputs), batch)]
        return to_host(self.device.xp.concatenate(parts))


class Weighted(Layer):
    """A layer that is linear in its weight: three operators, a bias, and the feedback that takes its delta down.

    out_axis  which axis of W holds the output channels          groups  into how many blocks channels are cut
    uses      how often a sample uses each weight (the positions of a convolution)
    """

    exact, settles = Transport(), True
    out_axis, groups, uses = 0, 1, 1

    def __init__(self, bias=True, init=XAVIER):
        self.init, self.feedback = init, self.exact
        self.weight, self.bias, self.has_bias = None, None, bias

    # the three operators, and what decides the weight's law; a layer writes these, and `n`, its output channels

    def infer(self, in_shape):
        raise unwritten(self, "infer(self, in_shape)", self.path)

    def apply(self, x, W):
        raise unwritten(self, "apply(self, x, W)", self.path)

    def adjoint(self, d, W, shape):
        raise unwritten(self, "adjoint(self, d, W, shape)", self.path)

    def outer(self, x, d):                              # may take out=None: where dW is wanted, which saves a copy
        raise unwritten(self, "outer(self, x, d)", self.path)

    def weight_shape(self, n_out):
        """Shape of a weight with n_out output channels."""
        raise unwritten(self, "weight_shape(self, n_out)", self.path)

    def bias_shape(self):
        raise unwritten(self, "bias_shape(self)", self.path)

    def fans(self, n_out):
        """(fan_in, fan_out) of a weight with n_out output channels."""
        raise unwritten(self, "fans(self, n_out)", self.path)

    # what all of them share

    @property
    def n_out(self):
        """How many output channels the layer has."""
        return self.weight.value.shape[self.out_axis]

    def make(self, ground):
        rng = stream(ground.seed, "weight", self.path)
        self.weight = Param(ground.put(self.init.draw(rng, self.weight_shape(self.n), *self.fans(self.n))))
        self.bias = Param(ground.put(np.zeros(self.bias_shape())), "bias") if self.has_bias else None

    def params(self):
        return {"weight": self.weight, **({"bias": self.bias} if self.bias else {})} if self.weight else {}

    def forward(self, x, tape=None):
        if tape is not None:
            tape.keep(self, x)
        a = self.apply(x, self.weight.value)
        if self.bias:
            lanes.add(a, self.bias.value)
        return a

    def backward(self, d, tape):
        x = tape.take(self)
        tape.record(self, d)
        feedback = tape.feedback(self)
        if tape.collects:
            self.collect(x, d, tape)
            lanes.call(feedback.collect, self, d, x, tape)
        return lanes.call(feedback.carry, self, d, x, tape) if self.sends else nothing_like(x)

    def collect(self, x, d, tape):
        """Gradients of weight and bias from input x and delta d."""
        tape.add(self.weight, self.outer(x, d, **into(tape, self.weight, self.outer)))
        if self.bias:
            tape.add(self.bias, self.over_bias(d, **into(tape, self.bias, self.over_bias)))

    def over_bias(self, d, out=None):
        """d summed over samples and over the axes that one bias serves; in `out` where given."""
        shape = (1,) * (d.ndim - 1 - self.bias.value.ndim) + self.bias.value.shape
        shared = tuple(axis for axis, n in enumerate(shape) if n == 1)
        return lanes.total(len(d), lambda t: d[t].sum(axis=shared).reshape(self.bias.value.shape), out)

    def tangent(self, v, tape):
        tape.take(self)
        return self.apply(v, self.weight.value)

    # what rules ask

    def draw(self, rng, n_out=None):
        """Another matrix of the weight's kind, with n_out output channels, by the weight's own law; on its device.

        A weight that starts at zero has no law to draw from: Xavier's stands in.
        """
        n = n_out or self.n_out
        host = self.law.draw(rng, self.weight_shape(n), *self.fans(n)).astype(self.weight.value.dtype)
        return like(host, self.weight.value)

    def std(self):
        """Standard deviation of the law that the weight was drawn from."""
        return self.law.std(*self.fans(self.n_out))

    @property
    def law(self):
        return XAVIER if self.init is ZERO else self.init

    @property
    def spatial(self):
        """Whether the layer sees maps, (H, C, W)."""
        return len(self.in_shape) == 3

    def mix(self, d, B):
        """B' d over the channel axis: d with n channels, B (n, N) -> N channels."""
        return over_channels(B.T, d)

    def widen(self, W, B):
        """B' W on the output axis: W with n output channels, B (n, N) -> N output channels."""
        xp, axis = array_module(W), self.out_axis
        return xp.moveaxis(xp.tensordot(B, W, axes=(0, axis)), 0, axis)


def into(tape, param, act):
    """{"out": where the Param's gradient is wanted} for a function that takes it."""
    return {"out": tape.room(param)} if takes_out(getattr(act, "__func__", act)) else {}


@cache
def takes_out(act):
    return "out" in signature(act).parameters


def whole(where, name, x, least=1):
    """x if it is a whole number of at least `least`, as an int; else a SettingError."""
    if isinstance(x, bool) or not isinstance(x, (int, np.integer)) or x < least:
        raise SettingError(where, f"{name} {x!r}", f"a whole number of at least {least}", "change it")
    return int(x)

"""Layers made of layers: a chain, a residual block, and the Port where an error may enter or stop."""
import numpy as np

from nplearn.backend import array_module
from nplearn.errors import BuildError
from nplearn.feedback import Through
from nplearn.kernels.lanes import call, chunkwise, flow
from nplearn.layers.base import Layer
from nplearn.layers.members import everything, told


class Sequential(Layer):
    """A chain. Layers given by position are named by their number, those given by name keep it.

        Sequential(Flatten(), fc1=Dense(512), relu1=ReLU(), fc2=Dense(10))
    """

    flows = True

    def __init__(self, *layers, **named):
        for layer in (*layers, *named.values()):
            if not isinstance(layer, Layer):
                raise BuildError("Sequential", f"{type(layer).__name__} among its layers", "layers",
                                 "write Sequential(first, second, ...)")
        self.names = [str(i) for i in range(len(layers))] + list(named)
        self.layers = [*layers, *named.values()]

    def __repr__(self):
        return told(self)

    def children(self):
        return dict(zip(self.names, self.layers, strict=True))

    def place(self, path, in_shape, ground):
        self.path, shape = path, in_shape
        for name, layer in zip(self.names, self.layers, strict=True):
            shape = layer.place(f"{path}.{name}".strip("."), shape, ground)
        if self.in_shape is None:
            self.in_shape, self.out_shape = in_shape, shape
        return shape

    def reach(self, below):
        for layer in self.layers:
            below = layer.reach(below)
        return below

    def forward(self, x, tape=None):
        inputs = x
        try:
            with flow(isinstance(x, np.ndarray)):
                for layer in self.layers:
                    x = call(layer.forward, x, tape)
        except (ValueError, IndexError) as error:       # arrays that do not fit
            blame(self.layers, inputs[:1], error)
            raise
        return x

    def backward(self, d, tape):
        tape.arrive(self)
        with flow(isinstance(d, np.ndarray)):
            for layer in reversed(self.layers):
                d = call(layer.backward, d, tape)
        return d

    def tangent(self, v, tape):
        tape.arrive(self)
        for layer in self.layers:
            v = layer.tangent(v, tape)
        return v


class Residual(Layer):
    """branch(x) + shortcut(x); the shortcut is the identity, through a Port, unless another is given."""

    flows = True

    def __init__(self, *branch, shortcut=None, **named):
        self.branch, self.shortcut = Sequential(*branch, **named), shortcut or Port()

    def children(self):
        return {"branch": self.branch, "shortcut": self.shortcut}

    def place(self, path, in_shape, ground):
        self.path = path
        across = self.shortcut.place(f"{path}.shortcut".strip("."), in_shape, ground)
        shape = self.branch.place(f"{path}.branch".strip("."), in_shape, ground)
        if across != shape:
            raise BuildError(path or "Residual", f"the branch puts out {shape}", f"{across}, as the shortcut does",
                             "give a shortcut that changes the shape as the branch does")
        if self.in_shape is None:
            self.in_shape, self.out_shape = in_shape, shape
        return shape

    def reach(self, below):
        across, branch = self.shortcut.reach(below), self.branch.reach(below)
        return across or branch

    def forward(self, x, tape=None):
        with flow(isinstance(x, np.ndarray)):
            across = call(self.shortcut.forward, x, tape)
            return chunkwise(array_module(x).add, across, call(self.branch.forward, x, tape))

    def backward(self, d, tape):
        tape.arrive(self)
        with flow(isinstance(d, np.ndarray)):
            branch = call(self.branch.backward, d, tape)        # forward took the shortcut first: the way back, last
            return chunkwise(array_module(d).add, branch, call(self.shortcut.backward, d, tape))

    def tangent(self, v, tape):
        tape.arrive(self)
        return self.shortcut.tangent(v, tape) + self.branch.tangent(v, tape)


class Port(Layer):
    """The identity, holding a feedback: where a rule may let an error enter (a broadcast) or stop (a cut)."""

    flows, exact = True, Through()

    def __init__(self):
        self.feedback = self.exact

    def serves(self, in_shape):
        return True

    def forward(self, x, tape=None):
        if tape is not None:
            tape.keep(self, x)
        return x

    def backward(self, d, tape):
        x, feedback = tape.take(self), tape.feedback(self)
        if tape.collects:
            call(feedback.collect, self, d, x, tape)
        return call(feedback.carry, self, d, x, tape)

    def tangent(self, v, tape):
        tape.take(self)
        return v


def blame(layers, x, error):
    """A BuildError from `error` if one of a chain's layers makes of x another shape than its `infer` says."""
    for layer in layers:
        if isinstance(layer, Sequential):
            blame(layer.layers, x, error)
        try:
            y = layer.forward(x)
        except (ValueError, IndexError):
            return
        said, found = layer.infer(x.shape[1:-1]), y.shape[1:-1]
        if tuple(said) != found and not layer.children():
            raise BuildError(layer.path, f"an output of shape {found}", f"{said}, as its infer says",
                             f"write infer(self, in_shape) in {type(layer).__name__}, or change forward") from error
        x = y


def residuals(net):
    """The residual blocks of a net, in forward order."""
    return [layer for layer in everything(net) if isinstance(layer, Residual)]

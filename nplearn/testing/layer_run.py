"""One drawn case of the layer contract: a layer in a net, how its batch is cut, a precision, and random arrays.

Biases and running statistics are moved off their start, so that no zero hides a fault; inputs lie apart from each other
and from zero, away from every kink and tie. Rounding is judged as a multiple of the machine's epsilon times the scale.
"""
import numpy as np

from nplearn.columns import rows
from nplearn.layers import Layer, Sequential, Weighted, everything, leaves
from nplearn.params import Param
from nplearn.tape import Tape


class Source(Layer):
    """The identity, holding a Param: what stands on it sends its error down, and a walk hands it out."""

    def make(self, ground):
        self.level = Param(ground.put(np.zeros(1)), "bias")

    def params(self):
        return {"level": self.level}

    def forward(self, x, tape=None):
        return x

    def backward(self, d, tape):
        return d

    def tangent(self, v, tape):
        return v


class Twice(Layer):
    """A layer used on x and on its samples turned round, in one pass: y = f(x) + 2 f(turned x)."""

    def __init__(self, layer):
        self.layer = layer

    def children(self):
        return {"layer": self.layer}

    def place(self, path, in_shape, ground):
        self.layer.place(path, in_shape, ground)
        self.in_shape, self.out_shape = in_shape, self.layer.place(path + "-again", in_shape, ground)
        return self.out_shape

    def reach(self, below):
        return self.layer.reach(below)

    def forward(self, x, tape=None):
        return self.layer.forward(x, tape) + 2 * self.layer.forward(x[..., ::-1], tape)

    def backward(self, d, tape):
        second = self.layer.backward(2 * d, tape)       # the last visit first
        return self.layer.backward(d, tape) + second[..., ::-1]

    def tangent(self, v, tape):
        return self.layer.tangent(v, tape) + 2 * self.layer.tangent(v[..., ::-1], tape)


class Run:
    """One case: a layer with its settings, how its batch is cut, a precision, and a seed for every array."""

    def __init__(self, case, cut, dtype, seed, report):
        self.case, self.cut, self.dtype, self.seed, self.report = case, cut, np.dtype(dtype), seed, report
        self.rng = np.random.default_rng(seed)
        self.net, self.layer = self.build(self.dtype)
        self.name = type(self.layer).__name__
        self.weighted = isinstance(self.layer, Weighted)
        self.couples = any(layer.buffers() for layer in leaves(self.net))    # batch statistics: samples meet on a tape
        self.x = self.spread((cut[0], *self.layer.in_shape, cut[1]), self.dtype)
        _, y = self.forward()
        self.d = self.noise(y.shape)

    def __repr__(self):
        return f"{self.case}, batch cut {self.cut[0]} x {self.cut[1]}, {self.dtype}, seed {self.seed}"

    def build(self, dtype, twice=False, seed=None):
        """A net of the layer on a Source; parameters and running statistics are moved off their start."""
        layer = self.case.make()
        net = Sequential(source=Source(), layer=Twice(layer) if twice else layer)
        net.build(self.case.in_shape, self.seed if seed is None else seed, dtype)
        rng = np.random.default_rng(self.seed + 1)
        for part in leaves(layer):
            for param in part.params().values():
                param.value += 0.4 * rng.standard_normal(param.value.shape)
            for array in part.buffers().values():
                array += rng.uniform(0.1, 1, array.shape)
        return net, layer

    def noise(self, shape, dtype=None):
        return self.rng.standard_normal(shape).astype(dtype or self.dtype)

    def spread(self, shape, dtype):
        """Numbers of either sign, none near 0 and no two near each other: far from every kink and tie."""
        n = int(np.prod(shape))
        return ((self.rng.permutation(n) + 0.5 - n // 2) * (4 / n)).reshape(shape).astype(dtype)

    def forward(self, net=None, x=None, mode="probe", seed=3):
        """(tape, output) of a fresh pass over columns x."""
        net, x = net or self.net, self.x if x is None else x
        tape = Tape(net, mode=mode).begin(rows(x), seed=seed)
        tape.input = x                                  # cut as drawn, not as the net would choose
        return tape, net.forward(x, tape)

    def gradients(self, net=None):
        """{path: copy} of every parameter's gradient, but the Source's."""
        return {p.path: p.grad.copy() for p in (net or self.net).arena.params if p.path != "source.level"}


# -- comparing ---------------------------------------------------------------------------------------------------------

def dot(a, b):
    return float(np.vdot(a.astype(np.float64), b.astype(np.float64)))


def norm(a):
    return dot(a, a) ** 0.5


def size(*arrays):
    return sum(a.size for a in arrays)


def room(dtype, n):
    """How far rounding may take a sum of n terms, relative to its scale."""
    return 8 * np.finfo(dtype).eps * max(n, 16) ** 0.5


def near(a, b, dtype, n=None, scale=0.0):
    """Whether arrays of one shape agree to rounding of sums of n terms, relative to the largest entry or `scale`."""
    if a.shape != b.shape:
        return False
    if not a.size:
        return True
    a, b = a.astype(np.float64), b.astype(np.float64)
    return bool(np.abs(a - b).max() <= room(dtype, n or a.size) * max(np.abs(a).max(), np.abs(b).max(), scale))


def same(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def all_same(a, b):
    return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)


def scales(run):
    """The least scales of (outputs, errors, gradients): all are sums that may cancel, so their terms set the scale.

    Where batch statistics are used, errors are differences of numbers up to 1 / sqrt(eps) times the scale parameter as
    large, about 1000. That makes float32 lenient there; in float64 nothing hides below it.
    """
    weights = max(1.0, norm(run.net.arena.value)) * (1000 if run.couples else 1)
    x, d = norm(run.x), norm(run.d)
    return weights * x, weights * d, weights * d * max(1.0, x)


def state(net):
    """{(path, name): what the layer holds there}, to the bit, without gradients."""
    def held(value):
        if isinstance(value, Param):
            return value.value.tobytes()
        if isinstance(value, np.ndarray):
            return value.tobytes()
        return repr(value) if isinstance(value, (tuple, str, int, float)) else id(value)
    return {(layer.path, name): held(value) for layer in everything(net) for name, value in vars(layer).items()}

"""Elementwise nonlinearities y = f(x), each with its slope written in terms of y.

    forward y = f(x)        backward d f'(x)        tangent v f'(x)            any shape
"""
from nplearn.backend import array_module
from nplearn.errors import unwritten
from nplearn.kernels.gpu import activation, launch
from nplearn.kernels.lanes import chunkwise
from nplearn.layers.base import Layer, takes_out


class Activation(Layer):
    """f(x), which may take out=None as NumPy's functions do, and slope(y): f' at the x whose f(x) is y.

    slope_in_c  slope(y) for kernels on a GPU, an expression in C of y and of settings in braces; not inherited
    """

    def f(self, x):
        raise unwritten(self, "f(self, x)", self.path)

    def slope(self, y):
        raise unwritten(self, "slope(self, y)", self.path)

    def serves(self, in_shape):
        return True

    def forward(self, x, tape=None):
        y = chunkwise(self.into, x)
        if tape is not None:
            tape.keep(self, y)
        return y

    def into(self, x, out):
        y = self.f(x, out=out) if takes_out(type(self).f) else self.f(x)
        if y is not out:
            out[...] = y

    def backward(self, d, tape):
        return self.times_slope(d, tape.take(self))

    def tangent(self, v, tape):
        return self.times_slope(v, tape.take(self))

    def times_slope(self, d, y):
        if vars(type(self)).get("slope_in_c") and launch.serves(d, y):
            return activation.times_slope(self, d, y)
        multiply = array_module(d).multiply
        return chunkwise(lambda d, y, out: multiply(d, self.slope(y), out=out), d, y)


class ReLU(Activation):
    """max(x, 0); slope 0 at 0."""

    flows = True
    slope_in_c = "y > 0"

    def f(self, x, out=None):
        return array_module(x).maximum(x, 0, out=out)

    def slope(self, y):
        return y > 0


class LeakyReLU(Activation):
    """x above 0, `leak` x below; slope `leak` at 0."""

    flows = True
    slope_in_c = "y > 0 ? 1 : {leak:.17g}"

    def __init__(self, leak=0.01):
        self.leak = leak

    def f(self, x):
        return array_module(x).where(x > 0, x, x * self.leak)

    def slope(self, y):
        return array_module(y).where(y > 0, y.dtype.type(1), y.dtype.type(self.leak))


class ELU(Activation):
    """x above 0, alpha (exp(x) - 1) below."""

    flows = True
    slope_in_c = "y > 0 ? 1 : y + (T){alpha:.17g}"

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def f(self, x):
        xp = array_module(x)
        return xp.where(x > 0, x, self.alpha * xp.expm1(xp.minimum(x, 0)))

    def slope(self, y):
        return array_module(y).where(y > 0, y.dtype.type(1), y + y.dtype.type(self.alpha))


class Tanh(Activation):
    flows = True
    slope_in_c = "1 - y * y"

    def f(self, x, out=None):
        return array_module(x).tanh(x, out=out)

    def slope(self, y):
        return 1 - y * y


class Clip(Activation):
    """scale x between `low` and `high`: clip(x, 0, 1), the hard sigmoid, unless told; slope 0 from the bounds on."""

    flows = True
    slope_in_c = "y > (T){low:.17g} && y < (T){high:.17g} ? (T){scale:.17g} : (T)0"

    def __init__(self, scale=1.0, low=0.0, high=1.0):
        self.scale, self.low, self.high = scale, low, high

    def f(self, x, out=None):
        xp = array_module(x)
        out = xp.multiply(x, x.dtype.type(self.scale), out=out)
        return xp.clip(out, x.dtype.type(self.low), x.dtype.type(self.high), out=out)

    def slope(self, y):
        return ((y > self.low) & (y < self.high)) * y.dtype.type(self.scale)


class Sigmoid(Activation):
    """1 / (1 + exp(-x)), by way of tanh: no overflow on either side."""

    flows = True
    slope_in_c = "y * (1 - y)"

    def f(self, x):
        return (1 + array_module(x).tanh(x / 2)) / 2

    def slope(self, y):
        return y * (1 - y)


class SteepSigmoid(Activation):
    """1 / (1 + exp(-gain (x - centre)))."""

    flows = True
    slope_in_c = "(T){gain:.17g} * y * (1 - y)"

    def __init__(self, gain=4.0, centre=0.5):
        self.gain, self.centre = gain, centre

    def f(self, x):
        return (1 + array_module(x).tanh((x - self.centre) * (self.gain / 2))) / 2

    def slope(self, y):
        return self.gain * y * (1 - y)

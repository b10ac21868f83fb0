"""A stand-in for CuPy that computes on the host and lets nothing cross over by itself.

Its arrays meet each other, Python's numbers and NumPy's scalars. A NumPy array beside one of them, or a NumPy function
called on one, raises TypeError, as on a GPU. What it cannot say is whether CuPy has a function that NumPy has.
"""
import operator
from types import SimpleNamespace

import numpy as np

PLAIN = ("shape", "dtype", "ndim", "size", "strides", "itemsize", "nbytes", "flags")


def host(x):
    """What lies in device arrays, for the inside of a call; a NumPy array beside them is the mistake we look for."""
    if isinstance(x, ndarray):
        return x.held
    if isinstance(x, np.ndarray):
        raise TypeError(f"a NumPy array of shape {x.shape} among device arrays")
    if isinstance(x, (tuple, list)):
        return type(x)(map(host, x)) if not hasattr(x, "_fields") else x
    return x


def device(x):
    if isinstance(x, (np.ndarray, np.generic)):
        return ndarray(np.asarray(x))
    return tuple(map(device, x)) if isinstance(x, tuple) else x


def on_device(function):
    def call(*args, out=None, **options):
        options = {k: host(v) for k, v in options.items()}
        if out is not None:
            function(*map(host, args), out=out.held, **options)
            return out
        return device(function(*map(host, args), **options))
    return call


class ndarray:
    """An array on the device: `get` is the only way off it."""

    __array_ufunc__ = None                              # np.add(array, device array) is refused by NumPy itself

    def __init__(self, held):
        self.held = held

    def __array__(self, *args, **options):
        raise TypeError("an implicit conversion to a NumPy array")

    def __array_function__(self, function, *rest):
        raise TypeError(f"np.{function.__name__} on a device array")

    def get(self):
        return self.held.copy()

    def __getattr__(self, name):
        if name.startswith("__") or name == "ctypes":
            raise AttributeError(name)                  # NumPy's ways of reading foreign memory among them
        value = getattr(self.held, name)
        if name in PLAIN:
            return value
        return on_device(value) if callable(value) else device(value)

    def __getitem__(self, index):
        return device(self.held[host(index)])

    def __setitem__(self, index, value):
        self.held[host(index)] = host(value)

    def __len__(self):
        return len(self.held)

    def __float__(self):
        return float(self.held)

    def __bool__(self):
        return bool(self.held)


def _operators():
    for name in "add sub mul truediv floordiv pow matmul mod and or xor".split():
        both = getattr(operator, f"__{name}__")
        setattr(ndarray, f"__{name}__", lambda a, b, both=both: device(both(a.held, host(b))))
        setattr(ndarray, f"__r{name}__", lambda a, b, both=both: device(both(host(b), a.held)))

        def inplace(a, b, name=name):
            getattr(a.held, f"__i{name}__")(host(b))
            return a
        setattr(ndarray, f"__i{name}__", inplace)
    for name in "lt le eq ne gt ge".split():
        both = getattr(operator, f"__{name}__")
        setattr(ndarray, f"__{name}__", lambda a, b, both=both: device(both(a.held, host(b))))
    for name in "neg abs invert".split():
        one = getattr(operator, f"__{name}__")
        setattr(ndarray, f"__{name}__", lambda a, one=one: device(one(a.held)))
    ndarray.__hash__ = object.__hash__


_operators()


class FakeCupy:
    """The module: every function of NumPy's, for device arrays only."""

    ndarray = ndarray
    inf = np.inf

    def __init__(self):
        use = SimpleNamespace(use=lambda: None)
        self.cuda = SimpleNamespace(Device=lambda index: use, runtime=SimpleNamespace(getDeviceCount=lambda: 1))
        self.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=on_device(np.lib.stride_tricks.as_strided)))

    def asarray(self, x):
        return x if isinstance(x, ndarray) else ndarray(np.array(x))

    def __getattr__(self, name):
        return on_device(getattr(np, name))

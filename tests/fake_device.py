"""A stand-in for CuPy that computes on the host and lets nothing cross over by itself.

Its arrays meet each other, Python's numbers and NumPy's scalars. A NumPy array beside one of them, or a NumPy function
called on one, raises TypeError, as on a GPU. What goes from one side to the other by `asarray`, `get`, `float`, `int`
or `bool` is counted in `crossings`. It has NumPy's functions without those that CuPy lacks (`LACKS`); options of a
function that only one of them has it cannot tell.

    FakeCupy()                            neither products nor kernels of its own: everywhere the plain bodies run
    FakeCupy(cublas=True)                 strided batches of products, on bare memory, as cuBLAS defines them
    FakeCupy(cublas=True, kernels=K)      and RawKernels made by K (tests/gpu/host_kernels.py has one)
"""
import ctypes
import operator
from collections import Counter
from types import SimpleNamespace
from weakref import WeakValueDictionary

import numpy as np

PLAIN = ("shape", "dtype", "ndim", "size", "strides", "itemsize", "nbytes", "flags")
LACKS = """block einsum_path frompyfunc geomspace insert isnat matvec nanpercentile nanquantile ndenumerate nditer
           polyder polydiv polyint spacing unstack vecdot vecmat""".split()              # of NumPy 2.4's, by CuPy 14.2
crossings = Counter()                                   # of the border between host and device, by their kind
_allocated = WeakValueDictionary()                      # address: the array that owns the memory there


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
    """An array on the device: `get` is the only way off it, and numbers of which Python asks the value."""

    __array_ufunc__ = None                              # np.add(array, device array) is refused by NumPy itself

    def __init__(self, held):
        self.held = owner = held
        while getattr(owner, "base", None) is not None:
            owner = owner.base
        if isinstance(owner, np.ndarray):
            _allocated[owner.ctypes.data] = owner

    def __array__(self, *args, **options):
        raise TypeError("an implicit conversion to a NumPy array")

    def __array_function__(self, function, *rest):
        raise TypeError(f"np.{function.__name__} on a device array")

    @property
    def data(self):
        return SimpleNamespace(ptr=self.held.ctypes.data)

    def get(self):
        crossings["get"] += 1
        return self.held.copy()

    def __getattr__(self, name):
        if name.startswith("__") or name in ("ctypes", "item", "tolist"):
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
        crossings["float"] += 1
        return float(self.held)

    def __int__(self):
        crossings["int"] += 1
        return int(self.held)

    def __bool__(self):
        crossings["bool"] += 1
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

    ndarray, inf, __version__ = ndarray, np.inf, "a stand-in"

    def __init__(self, cublas=False, kernels=None):
        use = SimpleNamespace(use=lambda: None)
        runtime = SimpleNamespace(getDeviceCount=lambda: 1, getDeviceProperties=lambda index: {"name": b"a stand-in"},
                                  runtimeGetVersion=lambda: 0)
        self.cuda = SimpleNamespace(Device=lambda index: use, runtime=runtime,
                                    device=SimpleNamespace(get_cublas_handle=lambda: 1))
        self.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=on_device(np.lib.stride_tricks.as_strided)))
        self.linalg = SimpleNamespace(**{name: on_device(getattr(np.linalg, name))
                                         for name in ("solve", "pinv", "inv", "cholesky")})
        if cublas:
            self.cuda.cublas = FakeCublas()
        if kernels:
            self.RawKernel = kernels

    def asarray(self, x):
        if not isinstance(x, ndarray):
            crossings["put"] += 1
            x = ndarray(np.array(x))
        return x

    def ascontiguousarray(self, x):
        return x if x.held.flags.c_contiguous else device(np.ascontiguousarray(x.held))

    def __getattr__(self, name):
        if name in LACKS:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        return on_device(getattr(np, name))


class FakeCublas:
    """cuBLAS's strided batches, column by column in bare memory; refuses what cuBLAS refuses, and to leave an array.

        C_i <- alpha op(A_i) op(B_i) + beta C_i        X_i starts at X + i stride; entry (r, c) at r + c ld
        op N: A is m x k, B k x n; op T: A is k x m, B n x k; C is m x n
    """

    def __init__(self):
        self.mode, self.calls, self.modes = 0, [], []

    def getMathMode(self, handle):
        return self.mode

    def setMathMode(self, handle, mode):
        self.mode = mode

    def sgemmStridedBatched(self, *arguments):
        self.gemm(np.float32, *arguments)

    def dgemmStridedBatched(self, *arguments):
        self.gemm(np.float64, *arguments)

    def gemm(self, dtype, *arguments):
        assert len(arguments) == 18 and all(type(a) is int for a in arguments), arguments
        _, turn_a, turn_b, m, n, k, alpha, A, lda, step_a, B, ldb, step_b, beta, C, ldc, step_c, count = arguments
        assert turn_a in (0, 1) and turn_b in (0, 1) and min(m, n, k, count) >= 0
        self.calls.append(arguments)
        self.modes.append(self.mode)
        alpha, beta = (float(memory(p, 1, dtype, allocated=False)[0]) for p in (alpha, beta))
        if 0 in (m, n, count):
            return
        a = matrices(A, (k, m) if turn_a else (m, k), lda, step_a, count, dtype)
        b = matrices(B, (n, k) if turn_b else (k, n), ldb, step_b, count, dtype)
        c = matrices(C, (m, n), ldc, step_c, count, dtype)
        assert count == 1 or abs(step_c) >= (n - 1) * ldc + m or abs(step_c) * (count - 1) + m <= ldc, "C overlaps"
        a, b = a.swapaxes(1, 2) if turn_a else a, b.swapaxes(1, 2) if turn_b else b
        c[...] = alpha * (a @ b) + (beta * c if beta else 0)


def matrices(start, shape, ld, step, count, dtype):
    """`count` matrices stored by columns, as one array (count, rows, columns) over the memory itself."""
    (rows, columns), size = shape, np.dtype(dtype).itemsize
    if ld < max(1, rows) or ld >= 2**31:
        raise ValueError(f"CUBLAS_STATUS_INVALID_VALUE: leading dimension {ld} for {rows} rows")
    assert step >= 0, "a negative stride"
    if 0 in shape:
        return np.zeros((count, *shape), dtype)
    flat = memory(start, (count - 1) * step + (columns - 1) * ld + rows, dtype)
    return np.lib.stride_tricks.as_strided(flat, (count, rows, columns), (step * size, size, ld * size))


def memory(address, n, dtype, allocated=True):
    """n numbers at an address, all of which must lie in one array of the device."""
    kind = np.ctypeslib.as_ctypes_type(dtype)
    end = address + n * ctypes.sizeof(kind)
    assert not allocated or any(start <= address and end <= start + owner.nbytes
                                for start, owner in list(_allocated.items())), "memory outside of every array"
    return np.ctypeslib.as_array((kind * n).from_address(address))

"""Which arrays compute (NumPy or CuPy), and where random draws come from.

Arrays decide: a function that needs the module asks `array_module(x)` once. There is no global switch. Draws that
define a run come from `stream`, on the host, so that a CPU and a GPU run start from the same bytes.
"""
import hashlib
import sys
from operator import index

import numpy as np

from nplearn.errors import SettingError


def array_module(x):
    """numpy, or cupy when `x` is a CuPy array. CuPy is never imported for its absence."""
    if type(x) is np.ndarray:                           # asked many times a step
        return np
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def to_host(x):
    """`x` as a NumPy array; the very same object when it is one already."""
    return x.get() if hasattr(x, "get") and array_module(x) is not np else np.asarray(x)


def like(x, reference):
    """The host array `x` on the device of `reference`."""
    xp = array_module(reference)
    return x if xp is np else xp.asarray(x)


class Device:
    """Where a net lives: `Device("cpu")`, `Device("gpu")`, `Device("gpu:1")`. `put` moves a host array there."""

    def __init__(self, name="cpu"):
        kind, _, which = str(name).partition(":")
        number = which.isascii() and which.isdigit()
        if kind not in ("cpu", "gpu") or (":" in str(name) and not (kind == "gpu" and number)):
            raise SettingError("device", f"{name!r}", "cpu, gpu or gpu:N", "choose one of these")
        self.name, self.index = str(name), int(which or 0)
        self.xp = np if kind == "cpu" else _cupy(self.index)
        if kind == "gpu":
            self.xp.cuda.Device(self.index).use()

    def put(self, array):
        return array if self.xp is np else self.xp.asarray(array)


def _cupy(index):
    install = "pip install -e '.[gpu12]' (CUDA 12) or '.[gpu13]' (CUDA 13), or use --device cpu"
    try:
        import cupy
    except ImportError as error:
        raise SettingError("device gpu", "CuPy is not installed", "CuPy and an NVIDIA GPU", install) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:                          # CuPy's own CUDARuntimeError
        raise SettingError("device gpu", f"CuPy finds no usable GPU ({error})", "an NVIDIA GPU with a driver",
                           "check nvidia-smi, or use --device cpu") from error
    if index >= count:
        raise SettingError(f"device gpu:{index}", f"{count} GPU(s) on this machine", f"an index below {count}",
                           "choose another index")
    return cupy


def memory_left():
    """Bytes of memory that the host can still give, where the system tells (Linux); else no limit."""
    try:
        with open("/proc/meminfo") as lines:
            found = next(line for line in lines if line.startswith("MemAvailable"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return float("inf")


def stream(seed, *key):
    """A random generator that is a function of `seed` and `key` alone.

    Two keys give independent streams, the same key always the same one: no draw depends on what was drawn before it.
    `seed` is an int or a tuple of ints; `key` any ints and strings.
    """
    words = repr(_plain((seed, *key))).encode()
    digest = hashlib.blake2b(words, digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def _plain(key):
    """NumPy's integers and strings as Python's, lists as tuples: what reads alike (in a log, in JSON) draws alike."""
    if isinstance(key, (tuple, list)):
        return tuple(map(_plain, key))
    return str(key) if isinstance(key, str) else index(key)


def permutation(seed, *key, n):
    """A permutation of range(n), pinned for ever: it sorts raw 64-bit draws, which no NumPy release may change."""
    return np.argsort(stream(seed, *key).bit_generator.random_raw(n), kind="stable")

"""Sums per channel over a whole batch: long runs in the array's precision, their totals in float64, chunk by chunk."""
from nplearn.backend import array_module
from nplearn.kernels import lanes


def _runs(x):
    """(T, C, nb) -> (T, 1, C, nb); (T, H, C, W, nb) -> (T, H, C, W nb): a channel's entries in contiguous runs."""
    return x[:, None] if x.ndim == 3 else x.reshape(*x.shape[:3], -1)


def channel_sum(x):
    """Sum of x over samples and positions, (C,) float64."""
    parts = [None] * len(x)

    def one(t):
        parts[t] = _runs(x[t:t + 1]).sum(axis=-1).sum(axis=(0, 1), dtype="float64")
    lanes.share(len(x), one)
    return sum(parts[1:], parts[0])


def channel_dot(x, y):
    """Sum of x * y over samples and positions, (C,) float64."""
    xp, parts = array_module(x), [None] * len(x)

    def one(t):
        a, b = _runs(x[t:t + 1]), _runs(y[t:t + 1])
        dots = xp.vecdot(a, b) if hasattr(xp, "vecdot") else (a * b).sum(axis=-1)       # CuPy has none
        parts[t] = dots.sum(axis=(0, 1), dtype="float64")
    lanes.share(len(x), one)
    return sum(parts[1:], parts[0])


def along_channels(v, x):
    """v (C,) as a column of x's dtype that broadcasts against x."""
    return v.astype(x.dtype).reshape(-1, *(1,) * ((x.ndim + 1) // 2 - 1))

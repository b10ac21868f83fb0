"""Sums per channel over a whole batch, long runs in the array's precision and their totals in float64."""
from nplearn.backend import array_module


def _runs(x):
    """(T, C, nb) -> (T, 1, C, nb); (T, H, C, W, nb) -> (T, H, C, W nb): a channel's entries in contiguous runs."""
    return x[:, None] if x.ndim == 3 else x.reshape(*x.shape[:3], -1)


def channel_sum(x):
    """Sum of x over samples and positions, (C,) float64."""
    return _runs(x).sum(axis=-1).sum(axis=(0, 1), dtype="float64")


def channel_dot(x, y):
    """Sum of x * y over samples and positions, (C,) float64."""
    xp = array_module(x)
    dots = xp.vecdot(_runs(x), _runs(y)) if hasattr(xp, "vecdot") else (_runs(x) * _runs(y)).sum(axis=-1)   # CuPy: none
    return dots.sum(axis=(0, 1), dtype="float64")


def along_channels(v, x):
    """v (C,) as a column of x's dtype that broadcasts against x."""
    return v.astype(x.dtype).reshape(-1, *(1,) * ((x.ndim + 1) // 2 - 1))

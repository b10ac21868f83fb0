"""Batch normalisation of rows by np.mean and np.var; the way down by the Jacobian, written out as a matrix."""
import numpy as np


def batch_norm(x, scale, shift, eps):
    """x (N, ..., C): -> (y, mean, variance), variance as the mean of squares."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = np.mean(x, axis=axes), np.var(x, axis=axes)
    return (x - mean) / np.sqrt(variance + eps) * scale + shift, mean, variance


def batch_norm_backward(d, x, scale, eps):
    """dx for (m, C), channel by channel: dy_i/dx_j = scale / s (delta_ij - 1/m - z_i z_j / m)."""
    dx = np.zeros_like(x)
    m = len(x)
    for c in range(x.shape[1]):
        centred = x[:, c] - x[:, c].mean()
        s = np.sqrt((centred ** 2).mean() + eps)
        z = centred / s
        jacobian = scale[c] / s * (np.eye(m) - 1 / m - np.outer(z, z) / m)
        dx[:, c] = jacobian.T @ d[:, c]
    return dx

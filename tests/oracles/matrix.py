"""A linear map as the matrix that it is, one basis vector at a time."""
import numpy as np


def matrix_of(linear, shape):
    """Columns are linear(e) for the basis vectors e of `shape`, flattened."""
    basis = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return np.stack([linear(e).ravel() for e in basis], axis=1)


def transposes_agree(layer, rng, close):
    """apply as a matrix in x and in W: adjoint and outer are their transposes, applied to a random d."""
    x = rng.standard_normal((1, *layer.in_shape, 1))
    W = rng.standard_normal(layer.weight.value.shape)
    in_x = matrix_of(lambda e: layer.apply(e, W), x.shape)
    in_W = matrix_of(lambda V: layer.apply(x, V), W.shape)
    d = rng.standard_normal(layer.apply(x, W).shape)
    close((in_x.T @ d.ravel()).reshape(x.shape), layer.adjoint(d, W, x.shape))
    close((in_W.T @ d.ravel()).reshape(W.shape), layer.outer(x, d))

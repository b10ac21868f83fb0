"""The exact inverse of a layer: V = W^{-1} and f^{-1}(h) = h / f'(a), for square weights and f like a leaky ReLU.

    Inverse          feedback that takes W^{-1} d down: the matrix in W's place is (W^{-1})'
    inverse(layer)   V, made from W as it is now, so that it cannot be stale
    invertible(stage, lowest)   refuses a stage of a chain that has none
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.errors import BuildError, TrainingError
from nplearn.feedback import Feedback


class Inverse(Feedback):
    says = "the exact inverse of W"

    def carry(self, layer, d, x, tape):
        return layer.adjoint(d, self.effective(layer), x.shape)

    def effective(self, layer):
        return inverse(layer).T


def inverse(layer):
    """W^{-1}, made in float64; TrainingError where it does not undo W. (That of a W of NaN is NaN: the loss tells.)"""
    xp, W = array_module(layer.weight.value), layer.weight.value.astype("float64")
    try:
        V = xp.linalg.inv(W)
        off = float(abs(V @ W - xp.eye(len(W))).max())
    except np.linalg.LinAlgError:
        off = np.inf
    if not off <= 1e-10 and xp.isfinite(W).all():       # NaN, where CuPy says nothing of a singular W
        raise TrainingError(layer.path, f"a weight whose inverse V is off, V W - I = {off:.0e}", "at most 1e-10",
                            "start from orthogonal weights, or use more orthogonality or a smaller lr")
    return V.astype(layer.weight.value.dtype)


def invertible(stage, lowest):
    """BuildError unless the stage's nonlinearity can be inverted, and its weight too if it is not the lowest."""
    shape, f = stage.layer.weight.value.shape, stage.activation
    if not lowest and not (len(shape) == 2 and shape[0] == shape[1]):
        raise BuildError(stage.path, f"a weight of {'x'.join(map(str, shape))}", "a square matrix, with an inverse",
                         "make layers as wide as what they read, as nplearn.nets.square does")
    y = np.array([-2.0, -0.5, 0.5, 2.0])
    slope = np.asarray(f.slope(y), float) if f else np.zeros(4)
    if not slope.all() or abs(f.f(y / slope) - y).max() > 1e-12:
        raise BuildError(f.path if f else stage.path, f"a {type(f).__name__}" if f else "no nonlinearity",
                         "one that is y / f'(a) read backwards, such as LeakyReLU",
                         "use LeakyReLU(0.1), at the output too; LeakyReLU(1) where there is to be none")

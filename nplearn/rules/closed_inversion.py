"""Dynamic inversion in closed form (NDI): what the loop of each layer settles at is computed.

    K = B (W B - alpha I)^-1  =  (B W - alpha I)^-1 B          the smaller system of the two; B = V'
    d_{l-1} = f'(a_{l-1}) K d_l

For dense layers; inversion.py has alpha, start and clip. Computed once a batch, in float64, K' stands in W's place.
A system of condition above 1e12 is refused at `attach` and every epoch. With V = -W it is pseudo-backprop (alpha = 0:
the pseudoinverse of W), at the start only: V stays while W moves. Reads W and solves: a reference, not a model.
Kept: V, fixed.
Source: Podlaski and Machens 2020, NeurIPS, arXiv 2007.05112, whose figure on MNIST uses this form (alpha 0 and 0.01).
alpha 0.1 is ours.
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.errors import BuildError, TrainingError
from nplearn.rules.base import NO_TRANSPORT
from nplearn.rules.inversion import InversionRule, smaller


class ClosedInversion(InversionRule):
    idea = "what a loop around each layer would settle at is computed"
    keeps, learns_when = "V, fixed", "W every step"
    claims = InversionRule.claims - {NO_TRANSPORT}

    def __init__(self, alpha=0.1, start="transpose", clip=None):
        super().__init__(alpha, start, clip)

    def feedback(self, layer, rng):
        if layer.spatial:
            raise BuildError(layer.path, f"a {type(layer).__name__}, whose weight is not the matrix of its map",
                             "dense layers", 'use DynamicInversion() ("di"), which works with any weighted layer')
        return super().feedback(layer, rng)

    def settle(self, layer, d, V, shape):
        try:
            K = closed(layer.weight.value.astype("float64"), V.astype("float64"), self.alpha)
        except np.linalg.LinAlgError as error:
            raise TrainingError(layer.path, f"a singular system at alpha {self.alpha:g}", "one with a solution",
                                "use a larger alpha") from error
        return layer.adjoint(d, K.astype(d.dtype), shape)

    def unfit(self, W, V, alpha):
        condition = np.linalg.cond(system(W, V, alpha))
        return "" if condition <= 1e12 else f"a system of condition {condition:.1g}"


def system(W, V, alpha):
    """W B - alpha I or B W - alpha I, whichever is smaller."""
    square = smaller(W, V)
    return square - alpha * array_module(W).eye(len(square), dtype=W.dtype)


def closed(W, V, alpha):
    """K', shaped like W."""
    solve, A = array_module(W).linalg.solve, system(W, V, alpha)
    return solve(A.T, V) if len(W) <= W.shape[1] else solve(A, V.T).T

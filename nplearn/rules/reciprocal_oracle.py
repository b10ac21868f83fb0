"""Reciprocal feedback, exact: V is the Tikhonov inverse of W itself, computed. A reference, not a model.

    B = W' (W W' + lam I)^-1 = (W' W + lam I)^-1 W'     by the smaller of the two;  lam = 0: the pseudoinverse, by SVD
    e_l = s_l adjoint(d_l, V_l),  V' = B                see pseudoinverse.py for rescale, most and gate

refresh  V is computed at `attach` and after every `refresh`-th update; 0: never again. In between it is stale: its
         relative error is about 1.7 times the relative change of W
lam      a share of mean s^2 (singular values of W); with relative=False lam itself

Dense layers only: the best inverse of a convolution's own kind is what "rf" learns. Transports weights at `attach` and
at every refresh. Computed in float64.
Kept: V and |W|^2.
Source: Tikhonov's inverse is where recirculation ends (ICLR 2025 submission on pseudoinverse feedback).
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.columns import nonzero
from nplearn.errors import BuildError
from nplearn.rules.base import NO_TRANSPORT
from nplearn.rules.checks import whole
from nplearn.rules.pseudoinverse import PseudoinverseRule


class ReciprocalOracle(PseudoinverseRule):
    idea = "the error goes down through the computed inverse of W"
    keeps, learns_when = "V, computed", "W every step, V anew every `refresh` steps"
    drawn = False

    def __init__(self, lam=0.1, relative=True, refresh=1, rescale="match", most=1.0, gate="multiply"):
        super().__init__(lam, relative, rescale, most, gate)
        self.refresh = whole(self, "refresh", refresh, 0)
        self.claims -= {NO_TRANSPORT} if refresh else set()

    def feedback(self, layer, rng):
        if layer.spatial:
            raise BuildError(layer.path, f"a {type(layer).__name__}, whose weight is not the matrix of its map",
                             "dense layers", 'use Reciprocal() ("rf"), which learns an inverse of its own kind')
        given = self.inverse(layer, layer.weight.value.copy())
        self.invert(layer, given)
        return given

    def invert(self, layer, given):
        xp, W = array_module(layer.weight.value), layer.weight.value.astype("float64")
        squared = (W * W).sum()
        lam = self.lam * squared / min(W.shape) if self.relative else self.lam
        given.power.value[...] = squared
        try:
            given.matrix.value[...] = tikhonov(W, nonzero(lam)) if self.lam else xp.linalg.pinv(W, 1e-12).T
        except np.linalg.LinAlgError:                   # NumPy finds none of a W of NaN: the loss tells
            given.matrix.value[...] = np.nan

    def follow(self, optimiser):
        self.clock = optimiser                          # V is computed, not stepped

    def prepare(self, net):
        super().prepare(net)
        self.clock = None

    def learn(self, net, tape):
        if self.refresh and self.clock is None:
            raise BuildError(type(self).__name__, "no optimiser to count the updates", "one",
                             "call rule.follow(optimiser) after rule.attach(net, seed)")
        if self.refresh and self.clock.steps % self.refresh == 0:
            for layer in self.layers:
                self.invert(layer, layer.feedback)


def tikhonov(W, lam):
    """V = (W W' + lam I)^-1 W, shaped like W (m, n): the transposed inverse."""
    xp, (m, n) = array_module(W), W.shape
    if m <= n:
        return xp.linalg.solve(W @ W.T + lam * xp.eye(m, dtype=W.dtype), W)
    return xp.linalg.solve(W.T @ W + lam * xp.eye(n, dtype=W.dtype), W.T).T

"""Recirculation: inputs of a layer's own go up through W and come back through V; what does not come back teaches V.

    Y  = apply(X, W)         no bias, no nonlinearity          E = X - adjoint(Y, V)          X: R inputs, the drive
    dV = eta (outer(E, Y) / (R uses) - lam V)                  uses = outer(1, 1): how often a sample uses a weight

White drive, E[x x'] = I, leads to the Tikhonov inverse B = W' (W W' + lam I)^-1, at 1 - eta (s^2 + lam) per step for a
singular value s: stable while eta < 2 / (s^2 + lam) for the largest. On convolutions and locally connected layers it
leads to the best map of their kind, min |I - B W|^2 + lam |B|^2, with the same bound because of `uses`. Other drives
lead to C W' (W C W' + lam I)^-1 with C = E[x x'], the mean's share in it.

drive  "basis"     one unit active at a time, sqrt(inputs) high: exactly white when all of them are, so without noise;
                   fewer than all are drawn anew each time, and V keeps a noise floor, the higher the fewer
       "white"     N(0, 1), new each time, with such a floor
       "activity"  what the layer's input was in a pass
Source: Hinton and McClelland 1988, NIPS, for the idea (there W learns too); drives, bound and `uses` are ours.
"""
from math import prod

import numpy as np

from nplearn.backend import stream
from nplearn.columns import count, nonzero, outside, side_by_side
from nplearn.rules.power_iteration import power_iteration

MANY = 2 ** 20                                          # entries of a drive, unless more rows are asked for


class Drive:
    """The inputs of one layer: `drive(rng, tape)` with a generator and, for activity, a pass."""

    def __init__(self, kind, rows, layer, rule):
        self.kind, self.layer, self.n = kind, layer, prod(layer.in_shape)
        self.rows, self.columns = rows or min(self.n, max(1, MANY // self.n)), rule.columns
        self.whole = self.basis(np.arange(self.n)) if kind == "basis" and self.rows >= self.n else None
        self.draws = kind == "white" or kind == "basis" and self.whole is None
        self.start = rule.put(stream(0, "power", layer.path).standard_normal(prod(layer.out_shape)))

    def basis(self, units):
        X = np.zeros((len(units), self.n))
        X[np.arange(len(units)), units] = self.n ** 0.5
        return self.columns(X.reshape(-1, *outside(self.layer.in_shape)))

    def __call__(self, rng, tape):
        if self.kind == "activity":
            return tape.seen(self.layer)[0]
        if self.kind == "white":
            return self.columns(rng.standard_normal((self.rows, *outside(self.layer.in_shape))))
        return self.basis(rng.choice(self.n, self.rows, replace=False)) if self.whole is None else self.whole


def recirculate(layer, V, X, start, uses=1, eta=None, lam=0.1, relative=True):
    """(dV, |W|^2 as far as X is white); eta=None: 1 / (s^2 + lam) with s^2 the largest eigenvalue of Y Y' / R, by power
    iteration from `start`. Relative lam is a share of |Y|^2 / (R min(inputs, outputs)): mean s^2 where X is white."""
    R, n, m = count(X), prod(layer.in_shape), prod(layer.out_shape)
    Y = layer.apply(X, layer.weight.value)
    E = X - layer.adjoint(Y, V, X.shape)
    squared = (Y * Y).sum()
    if relative:
        lam = lam * squared / (R * min(n, m))
    if eta is None:
        eta = 1 / nonzero(largest(side_by_side(Y), start) / R + lam)
    return eta * (layer.outer(E, Y) / (R * nonzero(uses)) - lam * V), n * squared / nonzero((X * X).sum())


def largest(Y, v, times=10):
    """The largest eigenvalue of Y Y', from below."""
    v, _ = power_iteration(lambda v: Y @ (Y.T @ v), v, times)
    return ((Y.T @ v) ** 2).sum()

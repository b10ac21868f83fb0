"""The loop of single-loop inversion: up a chain through W_2 ... W_L, and back from its output to the first layer by B.

    down(r)        B r_L, where a_1 is                     up(i, r)    W_l f_{l-1}(r_{l-1}); without f unless it bends
    around(r)      W B r, a turn without f; W = W_L ... W_2
    factor(gain)   g = gain / k, k what |W B r| / |r| comes to in 20 turns of one r: it follows W, by activity alone
    slowest(...)   the largest real part among the loop's eigenvalues z without f,
                   (z + 1)^(L-1) (z + alpha) = one of g W B

B = -W' as it is when the loop is made.
"""
import numpy as np

from nplearn.backend import stream, to_host
from nplearn.columns import batch_shape, columns, over_channels, side_by_side
from nplearn.rules.recirculation import nonzero


class ChainLoop:
    """chain: its stages; K: how many numbers the net puts out; put: moves host arrays to the net."""

    def __init__(self, chain, K, put):
        for stage in chain:
            stage.turned()                              # refuses all but weighted layers, nonlinearities and reshapes
        self.layers, self.f = [stage.layer for stage in chain], [stage.activation for stage in chain]
        self.top, self.units = len(chain) - 1, put(columns(np.eye(K)))
        self.toss, d = put(columns(stream(0, "toss").standard_normal((1, K)))), self.units
        for layer in self.layers[:0:-1]:                # W' of the outputs one by one
            d = layer.adjoint(d.reshape(batch_shape(layer.out_shape, d)), layer.weight.value,
                              batch_shape(layer.in_shape, d))
        self.B = -side_by_side(d)

    def down(self, r):
        x = over_channels(self.B, r.reshape(len(r), -1, r.shape[-1]))
        return x.reshape(batch_shape(self.layers[0].out_shape, r))

    def up(self, i, r, bends=True):
        f, layer = self.f[i - 1], self.layers[i]
        r = f.forward(r) if f and bends else r
        return layer.apply(r.reshape(batch_shape(layer.in_shape, r)), layer.weight.value)

    def around(self, r):
        x = self.down(r)
        for i in range(1, self.top + 1):
            x = self.up(i, x, bends=False)
        return x.reshape(r.shape)

    def factor(self, gain):
        r = self.toss
        for _ in range(20):
            r = self.around(r / nonzero((r * r).sum() ** 0.5))
        return gain / nonzero((r * r).sum() ** 0.5)

    def slowest(self, gain, alpha):
        loop = np.poly([-1.0] * self.top + [-alpha])
        turn = to_host(side_by_side(self.factor(gain) * self.around(self.units))).astype(np.float64)
        if not np.isfinite(turn).all():                 # of NaN the loss tells
            return -np.inf
        return max(np.roots([*loop[:-1], loop[-1] - mu]).real.max() for mu in np.linalg.eigvals(turn))

"""The loop of single-loop inversion: up a chain through W_2 ... W_L, and back from its output to the first layer by B.

    down(r)        B r_L, where a_1 is                     up(i, r)    W_l f_{l-1}(r_{l-1}); without f unless it bends
    around(r)      W B r, a turn without f; W = W_L ... W_2
    factor(gain)   g = gain / k, k what |W B r| / |r| comes to in 20 turns of one r: it follows W, by activity alone
    moves(...)     every u by which, without f, a step of dt moves a mode, by dt u: for mu an eigenvalue of g W B
                   (u + 1)^(L-1) (u + alpha) = (1 + dt u)^(L-1) mu;  at dt = 0 those of continuous time
    slowest(...)   the largest real part at dt = 0         growth(...)   the largest |1 + dt u|

B = -W' as it is when the loop is made.
"""
import numpy as np

from nplearn.backend import stream, to_host
from nplearn.columns import batch_shape, columns, nonzero, over_channels, side_by_side
from nplearn.rules.power_iteration import power_iteration, unit


class ChainLoop:
    """chain: its stages; K: how many numbers the net puts out; put: moves host arrays to the net."""

    def __init__(self, chain, K, put):
        for stage in chain:
            stage.turned()                              # refuses all but weighted layers, nonlinearities and reshapes
        self.layers = [stage.layer for stage in chain]
        self.f = [stage.activation for stage in chain]
        self.top = len(chain) - 1
        self.units = put(columns(np.eye(K)))
        self.toss = unit(put(columns(stream(0, "toss").standard_normal((1, K)))))
        d = self.units
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
        _, k = power_iteration(self.around, self.toss, 20)
        return gain / nonzero(k)

    def moves(self, gain, alpha, dt=0.0):
        turn = to_host(side_by_side(self.factor(gain) * self.around(self.units))).astype(np.float64)
        if not np.isfinite(turn).all():                 # of NaN the loss tells
            return np.array([-1.0])
        loop, new = np.poly([-1.0] * self.top + [-alpha]), (np.poly1d([dt, 1.0]) ** self.top).coeffs
        found = [np.roots(np.polysub(loop, mu * new)) for mu in np.linalg.eigvals(turn)]
        return np.concatenate([*found, [-1.0]])         # the last of what B and W do not see

    def slowest(self, gain, alpha):
        return self.moves(gain, alpha).real.max()

    def growth(self, gain, alpha, dt):
        return abs(1 + dt * self.moves(gain, alpha, dt)).max()

"""Dynamic inversion (DI): a fast loop around each layer's forward map settles to the activity that cancels the error.

For a layer with weight W, fixed feedback V and delta d, from rx = ry = 0, `steps` times:

    ry <- ry + dt (-alpha ry + apply(rx, W) - d)
    rx <- rx + dt (-rx + adjoint(ry, V))          reads the new ry
    d_{l-1} = f'(a_{l-1}) rx

inversion.py says where that settles, and has alpha, start and clip. A mode of singular value s takes about
4.6 / (alpha + s^2) units of time to 1 %.

dt  None: 0.9 of the limit, at most 0.5. With V = -W and the largest s it is stable for dt^2 (s^2 - alpha) +
    2 dt (1 + alpha) < 4; s^2 is what 20 turns of one input through W and V come to, so it follows W. Or a number

Works with the operators alone, so on every weighted layer; dense layers are examined for eigenvalues of the loop,
    -(1 + alpha) / 2 +- sqrt((1 - alpha)^2 / 4 + eigenvalues of W B)          none of positive real part.
With alpha = 0 and more outputs than inputs one is 0: then ry drifts, which B does not see.
Kept: V, fixed.
Source: Podlaski and Machens 2020, NeurIPS, arXiv 2007.05112 (code: dt 0.5, 1000 steps, alpha 0 or 0.01).
alpha 0.1 with 60 steps, and dt from W, are ours.
"""
import numpy as np

from nplearn.backend import array_module, stream
from nplearn.columns import columns, outside
from nplearn.layers.base import whole
from nplearn.rules.checks import number
from nplearn.rules.inversion import InversionRule, smaller
from nplearn.rules.recirculation import nonzero


class DynamicInversion(InversionRule):
    idea = "a loop around each layer settles to the activity that cancels the error"
    keeps, learns_when = "V, fixed", "W every step, after the loops have settled"

    def __init__(self, alpha=0.1, steps=60, dt=None, start="transpose", clip=None):
        super().__init__(alpha, start, clip)
        self.steps = whole("DynamicInversion", "steps", steps)
        self.dt = dt if dt is None else number(self, "dt", dt, least=0)

    def prepare(self, net):
        self.tosses = {layer: self.put(columns(stream(0, "toss", layer.path).standard_normal(
            (1, *outside(layer.in_shape))))) for layer in self.layers}

    def settle(self, layer, d, V, shape):
        W, xp = layer.weight.value, array_module(d)
        dt = self.limit(layer, V) if self.dt is None else self.dt
        rx, ry = xp.zeros(shape, d.dtype), xp.zeros_like(d)
        for _ in range(self.steps):
            ry += dt * (layer.apply(rx, W) - self.alpha * ry - d)
            rx += dt * (layer.adjoint(ry, V, shape) - rx)
        return rx

    def limit(self, layer, V):
        x = self.tosses[layer]
        for _ in range(20):
            x = layer.adjoint(layer.apply(x / nonzero((x * x).sum() ** 0.5), layer.weight.value), V, x.shape)
        s2, one = (x * x).sum() ** 0.5, 1 + self.alpha
        return (3.6 / (one + ((1 - self.alpha) ** 2 + 4 * s2) ** 0.5)).clip(max=0.5)

    def unfit(self, W, V, alpha):
        worst = slowest(W, V, alpha)
        return f"a loop with an eigenvalue of real part {worst:.2g}" if worst > 1e-9 else ""


def slowest(W, V, alpha):
    """The largest real part among the eigenvalues of a dense layer's loop, [[-I, B], [W, -alpha I]]."""
    inside = np.linalg.eigvals(smaller(W, V)).astype(complex)
    modes = -(1 + alpha) / 2 + np.sqrt((1 - alpha) ** 2 / 4 + inside)
    m, n = W.shape
    return max(modes.real.max(), -1.0 if n > m else -np.inf, -alpha if m > n else -np.inf)

"""Dynamic inversion (DI): a fast loop around each layer's forward map settles to the activity that cancels the error.

For a layer with weight W, fixed feedback V and delta d, from rx = ry = 0, `steps` times:

    ry <- ry + dt (-alpha ry + apply(rx, W) - d)
    rx <- rx + dt (-rx + adjoint(ry, V))          reads the new ry
    d_{l-1} = f'(a_{l-1}) rx

inversion.py says where that settles, and has alpha, start and clip. A mode of singular value s takes about
4.6 / (alpha + s^2) units of time to 1 %.

dt  None: 0.9 of the limit, at most 0.5. With V = -W and the largest s it is stable for dt^2 (s^2 - alpha) +
    2 dt (1 + alpha) < 4; s^2 is what 20 turns of one input through W and V come to, so it follows W. Or a number

Works with the operators alone, so on every weighted layer; dense layers are examined. Where W B has the eigenvalue mu,
a mode moves by dt u in a step,  (u + 1) (u + alpha) = (1 + dt u) mu.  A u of positive real part at dt -> 0 is refused,
and a step with |1 + dt u| above 1, which dt None may take too where V is not -W. With alpha = 0 and more outputs than
inputs one u is 0: then ry drifts, which B does not see.
Kept: V, fixed.
Source: Podlaski and Machens 2020, NeurIPS, arXiv 2007.05112 (code: dt 0.5, 1000 steps, alpha 0 or 0.01).
alpha 0.1 with 60 steps, and dt from W, are ours.
"""
import numpy as np

from nplearn.backend import array_module, stream, to_host
from nplearn.columns import columns, outside
from nplearn.rules.checks import number, whole
from nplearn.rules.inversion import InversionRule, on_host, smaller
from nplearn.rules.power_iteration import power_iteration, unit
from nplearn.rules.steps import STEADY, largest_step


class DynamicInversion(InversionRule):
    idea = "a loop around each layer settles to the activity that cancels the error"
    keeps, learns_when = "V, fixed", "W every step, after the loops have settled"

    def __init__(self, alpha=0.1, steps=60, dt=None, start="transpose", clip=None):
        super().__init__(alpha, start, clip)
        self.steps = whole(self, "steps", steps)
        self.dt = dt if dt is None else number(self, "dt", dt, least=0)

    def prepare(self, net):
        self.tosses = {layer: unit(self.put(columns(stream(0, "toss", layer.path).standard_normal(
            (1, *outside(layer.in_shape)))))) for layer in self.layers}

    def settle(self, layer, d, V, shape):
        W, xp = layer.weight.value, array_module(d)
        dt = self.limit(layer, V) if self.dt is None else self.dt
        rx, ry = xp.zeros(shape, d.dtype), xp.zeros_like(d)
        for _ in range(self.steps):
            ry += dt * (layer.apply(rx, W) - self.alpha * ry - d)
            rx += dt * (layer.adjoint(ry, V, shape) - rx)
        return rx

    def limit(self, layer, V):
        def turn(x):
            return layer.adjoint(layer.apply(x, layer.weight.value), V, x.shape)
        return limit(turn, self.tosses[layer], self.alpha)

    def unfit(self, W, V, alpha):
        worst = slowest(W, V, alpha)
        return f"a loop with an eigenvalue of real part {worst:.2g}" if worst > 1e-9 else ""

    def examine_steps(self, layer, V, kind):
        (W, V), dt = on_host(layer, V), self.dt
        if dt is None:                                  # what `limit` gives, but of the matrices
            dt = limit(lambda x: V.T @ (W @ x), to_host(self.tosses[layer]), self.alpha)
        found = growth(W, V, self.alpha, dt)
        if found > STEADY:
            largest = largest_step(lambda dt: growth(W, V, self.alpha, dt), dt)
            raise kind(layer.path, f"steps of dt {dt:.3g}, in which the loop grows {found:.3g}-fold",
                       "a loop that settles", f"use a dt of at most {largest:.3g}")


def limit(turn, x, alpha):
    """dt for what a turn through W and V makes of x, again and again."""
    _, s2 = power_iteration(turn, x, 20)
    return (3.6 / (1 + alpha + ((1 - alpha) ** 2 + 4 * s2) ** 0.5)).clip(max=0.5)


def moves(W, V, alpha, dt=0.0):
    """Every u of a dense layer's loop; with dt = 0 the eigenvalues of [[-I, B], [W, -alpha I]]."""
    mu, mean = np.linalg.eigvals(smaller(W, V)).astype(complex), (1 + alpha) / 2
    middle, half = dt * mu / 2 - mean, np.sqrt((1 - alpha) ** 2 / 4 + mu * (1 - dt * mean) + (dt * mu / 2) ** 2)
    alone = [-1.0] if W.shape[1] > len(W) else [-alpha] if len(W) > W.shape[1] else []
    return np.concatenate([middle + half, middle - half, alone])


def slowest(W, V, alpha):
    """The largest real part among the eigenvalues."""
    return moves(W, V, alpha).real.max()


def growth(W, V, alpha, dt):
    """By how much a step takes the mode that it takes furthest."""
    return abs(1 + dt * moves(W, V, alpha, dt)).max()

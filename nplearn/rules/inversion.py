"""What rules of dynamic inversion share: a fixed matrix V in a loop around each layer's own forward map.

    ry' = -alpha ry + W rx - d          a controller at the layer's output, with leak alpha
    rx' = -rx + B ry                    at its input; B = V' for dense layers, V shaped like W
    settles at  rx = B (W B - alpha I)^-1 d = (B W - alpha I)^-1 B d       and goes down in place of W' d

alpha = 0: W rx = d, for any B whose loop is stable, where W has no more outputs than inputs; B says which such rx. With
B = -W' it is reciprocal feedback of lam = alpha. V stays while W moves, so the loop may become unstable: rules examine
the dense layers at `attach` and every epoch, refuse, and say what alpha or what step would do; alpha never moves by
itself. On maps nobody looks: the matrix would be too large.

start  "transpose": V = -W as it is at `attach` (one weight transport)   "random": by W's law, stable for large alpha
clip   None, or the most that a sample's rx (of its own loss, without 1/N) may measure: the authors' regressions, 1
Kept: V, fixed. What optimises the stability of a random V in the authors' code is left out.
Source: Podlaski and Machens 2020, NeurIPS, arXiv 2007.05112, and its code.
"""
import numpy as np

from nplearn.backend import to_host
from nplearn.columns import beside, count, sample_norm
from nplearn.errors import BuildError, TrainingError
from nplearn.feedback import Feedback
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, SAMPLES_APART, Rule
from nplearn.rules.checks import choice, number


class Loop(Feedback):
    """V, and what the rule does with it: `settle(layer, d, V, shape)` is rx."""

    says = "a loop around the layer through a fixed matrix"

    def __init__(self, V, rule):
        self.matrix, self.settle, self.clip = V, rule.settle, rule.clip
        self.linear = rule.clip is None

    def carry(self, layer, d, x, tape):
        rx = self.settle(layer, d, self.matrix, x.shape)
        if self.clip is not None:
            rx /= beside((sample_norm(rx) * (count(rx) / self.clip)).clip(1), rx)
        return rx

    def effective(self, layer):
        return -self.matrix                             # in the sign of W'

    def fixed(self):
        return {"matrix": self.matrix}


class InversionRule(Rule):
    paper = "Podlaski and Machens 2020"
    claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART})

    def __init__(self, alpha, start="transpose", clip=None):
        super().__init__()
        self.alpha = number(self, "alpha", alpha, least=0)
        self.start = choice(self, "start", start, ("transpose", "random"))
        self.drawn = start == "random"
        self.clip = clip if clip is None else number(self, "clip", clip, least=1e-9)

    def settle(self, layer, d, V, shape):
        """rx for the delta d."""

    def unfit(self, W, V, alpha):
        """What is wrong with the loop of a dense layer, in words, or ""; arrays on the host, in float64."""

    def examine_steps(self, layer, V, kind):
        """Refuse steps by which the loop of a dense layer, which settles, would not."""

    def feedback(self, layer, rng):
        V = -layer.weight.value if self.start == "transpose" else layer.draw(rng)
        self.examine(layer, V, BuildError)
        return Loop(V, self)

    def examine(self, layer, V, kind):
        pair = on_host(layer, V)
        if layer.spatial or not np.isfinite(pair[0]).all():                 # of NaN the loss tells
            return
        wrong = self.unfit(*pair, self.alpha)
        if wrong:
            enough = (a for a in 0.01 * 2.0 ** np.arange(30) if a > self.alpha and not self.unfit(*pair, a))
            advice = f"use a larger alpha: {next(enough, np.inf):.2g} would do now"
            raise kind(layer.path, f"{wrong} at alpha {self.alpha:g}", "a loop that settles",
                       advice if self.start == "transpose" else f"{advice}, or start='transpose'")
        self.examine_steps(layer, V, kind)

    def phase(self, net, batches):
        if batches.step and batches.step % batches.per_epoch == 0:
            for layer in self.layers:
                self.examine(layer, layer.feedback.matrix, TrainingError)


def on_host(layer, V):
    """W and V, in float64."""
    return [to_host(x).astype(np.float64) for x in (layer.weight.value, V)]


def smaller(W, V):
    """W B or B W, whichever has fewer rows; B = V'."""
    return W @ V.T if len(W) <= W.shape[1] else V.T @ W

"""Sign-concordant feedback: B has the signs of W, and magnitudes that know nothing of W.

    d_{l-1} = f'(a_{l-1}) adjoint(d_l, M_l sign(W_l))          sign(0) = 0, W as in the forward pass

    uSF   uniform: M = s, a constant
    frSF  fixed random: M = |draw|, made once
    brSF  batchwise random: M = |draw|, made anew for every training step, a function of the step's seed alone

Scales, as published: "init" (BioTorch) s = std of the law that W was drawn from, |draw| by that law; "sign-symmetry"
(Xiao et al.) maps s = sqrt(2 / fan_out), |N(0, s)|, dense s = 1 / sqrt(fan_in), U(0, s); or a number, which is s itself
and the bound of U(0, s) (Liao et al.: 1).

Kept: nothing (uSF, brSF); M (frSF). Nothing learns but W. The weight angle logged for brSF is that of one fixed draw.
Source: Liao, Leibo and Poggio 2016, arXiv 1510.05067; Xiao et al. 2018, arXiv 1811.03567; Sanfiz and Akrout 2021,
arXiv 2108.13446 (scales of BioTorch).
"""
import numpy as np

from nplearn.backend import array_module, stream
from nplearn.feedback import Feedback
from nplearn.rules.base import EXACT_TOP, SAMPLES_APART, Rule
from nplearn.rules.checks import choice, number


class Signed(Feedback):
    """M sign(W), where `magnitude(layer, tape)` is M; `kept` is M when it is fixed."""

    flows = True

    def __init__(self, magnitude, kept=None):
        self.magnitude, self.kept = magnitude, kept
        self.says = "the signs of W, magnitudes of its own"

    def matrix(self, layer, tape):
        M = array_module(layer.weight.value).sign(layer.weight.value)
        M *= self.magnitude(layer, tape)
        return M

    def carry(self, layer, d, x, tape):
        return layer.adjoint(d, self.matrix(layer, tape), x.shape)

    def effective(self, layer):
        return self.matrix(layer, None)

    def fixed(self):
        return {} if self.kept is None else {"magnitude": self.kept}


class SignConcordant(Rule):
    """scale  "init", "sign-symmetry" or a number (see above)"""

    paper = "Liao et al. 2016; Xiao et al. 2018"
    claims = frozenset({EXACT_TOP, SAMPLES_APART})
    learns_when = "W every step"

    def __init__(self, scale="init"):
        super().__init__()
        self.scale = (choice(self, "scale", scale, ("init", "sign-symmetry"), " or a number")
                      if isinstance(scale, str) else number(self, "scale", scale, least=0))

    def uniform(self, layer):
        """s of the layer."""
        if self.scale == "init":
            return layer.std()
        fan_in, fan_out = layer.fans(layer.n_out)
        if self.scale == "sign-symmetry":
            return (2 / fan_out) ** 0.5 if layer.spatial else fan_in ** -0.5
        return self.scale

    def random(self, layer, rng):
        """|M| of the layer, shaped like W."""
        if self.scale == "init":
            return abs(layer.draw(rng))
        shape, normal = layer.weight.value.shape, self.scale == "sign-symmetry" and layer.spatial
        return self.put(abs(rng.normal(size=shape) if normal else rng.random(shape)) * self.uniform(layer))


class UniformSignConcordant(SignConcordant):
    idea, keeps = "feedback has the signs of W and one magnitude (uSF)", "nothing"

    def feedback(self, layer, rng):
        s = np.asarray(self.uniform(layer), self.net.dtype)[()]
        return Signed(lambda layer, tape: s)


class FixedRandomSignConcordant(SignConcordant):
    idea, keeps = "feedback has the signs of W and fixed random magnitudes (frSF)", "M, fixed"

    def feedback(self, layer, rng):
        M = self.random(layer, rng)
        return Signed(lambda layer, tape: M, kept=M)


class BatchRandomSignConcordant(SignConcordant):
    idea, keeps = "feedback has the signs of W and random magnitudes, new each step (brSF)", "nothing"

    def feedback(self, layer, rng):
        return Signed(lambda layer, tape: self.random(
            layer, tape.rng(layer, "magnitude") if tape else stream(self.seed, "feedback", layer.path)))

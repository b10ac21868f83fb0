"""Reciprocal feedback, how it is used: the error goes down through an inverse V of W, and not through W'.

    e_l     = s_l adjoint(d_l, V_l)               V_l, shaped like W_l; for dense layers V' is the inverse map B
    d_{l-1} = f'(a_{l-1}) e_l                     gate "multiply"

Where B = W' (W W' + lam I)^-1, lam leads from the pseudoinverse (0) to W' / lam (large), which is backprop, scaled.

rescale  "none"      s = 1
         "match"     s = |W| / |V|, Frobenius norms of the maps: the rms gain of white errors is that of W'. W enters
                     by |W|^2 alone (`power`), which recirculation measures by activity. No average runs along from
                     step to step, and no sample's error depends on another's
         "preserve"  each sample's e gets the norm of its d        "clip"  at most `most` times that
gate     "multiply"; "none": d = e; "divide": d = e / max(f', 0.1), Newton's step. The nonlinearity below multiplies by
         f' under every rule, so here e is divided by f' or by f' max(f', 0.1) beforehand, f' taken from its output,
         which is this layer's input: needs a chain, only reshapes between, and f' above 0 (ReLU: 0 is not undone)

Kept: V_l, and one number |W_l|^2.
Source: ICLR 2025 submission on pseudoinverse feedback, abstract and reviews; gates, rescaling and lam are our choices.
"""
from itertools import pairwise

import numpy as np

from nplearn.columns import beside, columns, nonzero, outside, sample_norm
from nplearn.errors import BuildError
from nplearn.feedback import Feedback
from nplearn.layers import stages
from nplearn.params import Param
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, REDUCES, SAMPLES_APART, Rule
from nplearn.rules.checks import choice, number


class Inverse(Feedback):
    """V (`matrix`) and |W|^2 (`power`); `below` is the nonlinearity below, where a gate asks for it."""

    says = "a learned inverse of W"

    def __init__(self, V, uses, rule, below):
        self.uses, self.rescale, self.most, self.gate, self.below = uses, rule.rescale, rule.most, rule.gate, below
        self.linear = rule.rescale in ("match", "none")
        self.matrix = Param(V)
        self.power = Param(self.squared(V).reshape(1), "measured")      # till W's is known: V's as it starts

    def effective(self, layer):
        V = self.matrix.value
        return V * (self.power.value / nonzero(self.squared(V))) ** 0.5 if self.rescale == "match" else V

    def squared(self, V):                               # of the map that V makes
        return (self.uses * V * V).sum()

    def carry(self, layer, d, x, tape):
        e = layer.adjoint(d, self.effective(layer), x.shape)
        if self.rescale in ("preserve", "clip"):
            gain = sample_norm(e) / nonzero(sample_norm(d))
            e /= beside(nonzero(gain) if self.rescale == "preserve" else (gain / self.most).clip(1), e)
        if self.below is not None:
            f1 = nonzero(self.below.slope(x))           # 0 where a tanh was rounded to 1
            e /= f1 if self.gate == "none" else f1 * f1.clip(0.1)
        return e

    def params(self):
        return {"matrix": self.matrix, "power": self.power}

    def become_exact(self, layer):
        self.matrix.value[...] = layer.weight.value
        self.power.value[...] = self.squared(layer.weight.value)
        return self.gate == "multiply" and self.linear


class PseudoinverseRule(Rule):
    """lam, relative, rescale, most, gate: as above; lam is a share of mean s^2 (singular values of W), or absolute"""

    paper, learned = "ICLR 2025 submission on pseudoinverse feedback", True

    def __init__(self, lam, relative, rescale, most, gate, optimiser=None):
        super().__init__(optimiser)
        self.lam, self.most = number(self, "lam", lam, least=0), number(self, "most", most, least=1e-9)
        self.relative = choice(self, "relative", relative, (True, False))
        self.rescale = choice(self, "rescale", rescale, ("match", "none", "preserve", "clip"))
        self.gate = choice(self, "gate", gate, ("multiply", "none", "divide"))
        self.claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART})
        self.claims |= {NEEDS_CHAIN} if gate != "multiply" else {REDUCES} if rescale in ("match", "none") else set()

    def prepare(self, net):
        self.below = {}
        for low, high in pairwise(stages(net)) if self.gate != "multiply" else ():
            low.turned()                                # refuses all but nonlinearities and reshapes
            self.below[high.layer] = f = low.activation
            if f and not f.slope(f.f(np.linspace(-4, 4, 10))).all():
                raise BuildError(f.path, f"a {type(f).__name__}, whose slope is 0 somewhere", "a slope by which gate "
                                 f"{self.gate} can divide", "use LeakyReLU or Tanh, or gate='multiply'")

    def inverse(self, layer, V):
        one = [self.columns(np.ones((1, *outside(shape)))) for shape in (layer.in_shape, layer.out_shape)]
        uses = layer.outer(*one) if layer.spatial else self.net.dtype.type(1)
        V *= uses > 0                                   # what only padding meets
        return Inverse(V, uses, self, self.below.get(layer))

    def columns(self, rows):
        return columns(self.put(rows), self.net.chunk(len(rows)))

"""GAIT-prop: targets an infinitesimal, derivative-weighted step away, brought down by exact inverses V_l = W_l^{-1}.

With tau_L = h_L - N dLoss/dh_L (the target t itself under squared error), f piecewise linear and gamma small:

    target       d_l = gamma^{l-L} (h_l - tau_l) f'(a_l) / N        tau_{l-1} = V_l (f^{-1}(mix) - b_l)
                 mix = h_l + gamma f'(a_l)^2 (tau_l - h_l)
    difference   d_{l-1} = f'(a_{l-1}) V_l d_l                      the same numbers: gamma cancels
    plain        target propagation: mix = tau_l, no powers of gamma

    dW_l = outer(h_{l-1}, d_l) + lam 4 W_l offdiag(W_l' W_l)     gradient of lam |offdiag(W' W)|^2: W stays orthogonal

With orthogonal W this is backprop, with any other backprop whose W' is W^{-1}. The difference to a target is gamma^k
of the error k layers down, and rounding grows as gamma^-k: "target" takes float64 only (gamma = 1e-3 leaves 12, 9, 6, 3
digits at k = 1 .. 4); "difference" is the walk down, in any precision. Units that a next layer does not read (`First`,
extra outputs, towers) have their own activity as their target, that is no error.

form, gamma  as above       orthogonality  lam

Kept: nothing; V_l is made from W_l in every walk, so that it cannot be stale. W learns each step.
Source: Ahmad, van Gerven and Ambrogioni 2020, NeurIPS, arXiv 2006.06438, and its code (`nets/square.py` is its net),
whose Adam has .9, .99 and no bias correction, and which can also learn its inverses: neither is offered.
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.errors import BuildError
from nplearn.feedback import Cut
from nplearn.layers import stages
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, SAMPLES_APART, Rule
from nplearn.rules.checks import bare, choice, number
from nplearn.rules.exact_inverse import Inverse, inverse, invertible


class GaitProp(Rule):
    walk = "a target for the layer below, by this layer's exact inverse"
    idea = "targets a small step away go down through exact inverses; orthogonal weights make it backprop"
    paper, keeps, learns_when = "Ahmad, van Gerven and Ambrogioni 2020", "nothing", "W every step"
    claims, drawn = frozenset({SAMPLES_APART, NEEDS_CHAIN}), False
    home = {"net": "square", "loss": "squared", "optimiser": "adam", "lr": 1e-4, "decay": 0.0}

    def __init__(self, form="difference", gamma=1e-3, orthogonality=0.1):
        super().__init__()
        self.form = choice(self, "form", form, ("difference", "target", "plain"))
        self.gamma = number(self, "gamma", gamma, least=1e-12)
        self.orthogonality = number(self, "orthogonality", orthogonality, least=0)
        if not self.orthogonality:
            self.claims = self.claims | {EXACT_TOP}

    def prepare(self, net):
        self.chain = bare(stages(net))
        for stage in self.chain:
            invertible(stage, lowest=stage is self.chain[0])
        if self.form == "difference":
            return
        if net.dtype != np.float64:
            raise BuildError(type(self).__name__, f"a net in {net.dtype}, where a target's rounding error grows by "
                             f"1/gamma = {1 / self.gamma:.0e} a layer", "float64",
                             'build it so, or use form="difference"')
        for stage in self.chain[1:]:
            if stage.front != [stage.layer]:
                raise BuildError(stage.front[-1].path, "a layer between a weight and its nonlinearity",
                                 "none, since a target has to come through", 'take it away, or use form="difference"')

    def feedback(self, layer, rng):
        return Inverse() if self.form == "difference" else Cut()

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        if self.form == "difference":
            net.backward(tape.error, tape)
        else:
            self.targets(tape)
        for stage in self.chain:
            W = stage.layer.weight.value
            if self.orthogonality and W.ndim == 2:
                gram = W.T @ W
                array_module(W).fill_diagonal(gram, 0)
                tape.add(stage.layer.weight, W @ gram * (4 * self.orthogonality))

    def targets(self, tape):
        gamma = self.gamma if self.form == "target" else 1.0
        scale = 1 / tape.count
        off = self.chain[-1].tail.backward(tape.error * tape.count, tape)       # h - tau
        for stage, below in zip(reversed(self.chain), [*reversed(self.chain[:-1]), None], strict=True):
            layer, f, h = stage.layer, stage.activation, tape.seen(stage.activation)[0]
            stage.pre.backward(f.backward(off * scale, tape), tape)
            if below is not None:
                size = gamma * f.slope(h) ** 2 if self.form == "target" else 1.0
                mix = h - size * off
                a = mix / f.slope(mix)
                tau = layer.apply(a - layer.bias.value if layer.bias else a, inverse(layer))
                off = below.tail.backward(tape.seen(layer)[0] - tau, tape)
                scale /= gamma

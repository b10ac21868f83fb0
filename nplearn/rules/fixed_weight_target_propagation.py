"""Fixed-weight difference target propagation (FW-DTP): the inverses are random and never learn; the difference does it.

    t_L     = h_L - eta dloss/dh_L                          per sample, h_L the net's output (logits)
    t_{l-1} = h_{l-1} + (g_l(t_l) - g_l(h_l))               g_l(t) = f(adjoint(t, V_l)), without a bias
    delta_l = f'(a_l) (h_l - t_l) / N,   delta_L = eta dloss/da_L / N

With V replaced by e V, h_{l-1} - t_{l-1} tends to e adjoint(h_l - t_l, V_l): feedback alignment whose way down has no
gate f' (the one of delta_l comes after), so that it equals feedback alignment in linear nets. Deltas shrink with every
layer; the forward rate must be large, or the optimiser free of scale. In float32 a difference below 1e-7 is lost.

eta    step of the top target (0.04 for MNIST in the paper, 0.001 to 0.08 searched)
scale  V is U(-scale, scale) (the authors' default is 0.001; 0.1 served a small net best)
Kept: V_l, fixed, for l = 2 ... L. The paper's variant under batch normalisation of targets is not offered.
Source: Shibuya et al. 2023, AAAI, arXiv 2212.10352.
"""
from nplearn.layers.initial import Law
from nplearn.rules.base import EXACT_TOP
from nplearn.rules.checks import number
from nplearn.rules.inverses import TargetRule


class FixedWeightTargetPropagation(TargetRule):
    idea = "difference targets through random inverses that never learn"
    paper = "Shibuya et al. 2023"
    keeps, learns_when = "random inverses, fixed", "W every step"
    claims = TargetRule.claims - {EXACT_TOP}
    learned, biased = False, False

    def __init__(self, eta=0.3, scale=0.1):
        super().__init__()
        self.eta, self.scale = number(self, "eta", eta, least=0), number(self, "scale", scale, least=0)
        self.law = Law("fixed", "uniform", lambda fan_in, fan_out: scale / 3 ** 0.5)

    def params(self):
        return {}

    def fixed(self):
        return {path: param.value for path, param in super().params().items()}

    def output(self, a, below, tape):
        return a

    def error(self, tape):
        return self.eta * tape.error

    def top(self, h, down, tape):
        return {self.L: h[-1] - self.eta * tape.count * tape.error}

"""Fixed-weight difference target propagation (FW-DTP): the inverses are random and never learn; the difference does it.

    t_L     = h_L - eta dloss/dh_L                          per sample, h_L the net's output (logits)
    t_{l-1} = h_{l-1} + (g_l(t_l) - g_l(h_l))               g_l(t) = f(adjoint(t, V_l)), without a bias
    delta_l = f'(a_l) (h_l - t_l) / N,   delta_L = eta dloss/da_L / N

With V replaced by e V and f'(0) = 1, h_{l-1} - t_{l-1} tends to e adjoint(h_l - t_l, V_l): feedback alignment whose way
down has no gate f' (the one of delta_l comes after), so that it equals feedback alignment in linear nets. Deltas shrink
with every layer; the forward rate must be large, or the optimiser free of scale. In float32 a difference below 1e-7 is
lost.

eta    step of the top target (0.04 for MNIST in the paper, 0.001 to 0.08 searched; the default is ours)
scale  V is U(-scale, scale) (the authors' default is 0.001; 0.1 is ours: it served a small net best)
direct_depth  D: the uppermost D layers have t_l = h_l - eta dloss/dh_l, by the W above them; the authors' default is 1,
              the output alone. More is weight transport; D = L is backprop times eta
Kept: V_l, fixed, for l = 2 ... L-D+1. The paper's variant under batch normalisation of targets is not offered.
Source: Shibuya et al. 2023, AAAI, arXiv 2212.10352. Their nets have no biases; what they look at to say whether it can
work, trace and eigenvalues of the Jacobians' product J_f J_g per layer, is not measured here.
"""
from nplearn.errors import BuildError
from nplearn.layers.initial import Law
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT
from nplearn.rules.checks import number, whole
from nplearn.rules.inverses import TargetRule


class FixedWeightTargetPropagation(TargetRule):
    idea = "difference targets through random inverses that never learn"
    paper = "Shibuya et al. 2023"
    walk = "a target for the layer below, by a fixed random inverse of this one"
    keeps, learns_when = "random inverses, fixed", "W every step"
    claims = TargetRule.claims - {EXACT_TOP}
    learned, biased = False, False

    def __init__(self, eta=0.3, scale=0.1, direct_depth=1):
        super().__init__()
        self.eta, self.scale = number(self, "eta", eta, least=0), number(self, "scale", scale, least=0)
        self.law = Law("fixed", "uniform", lambda fan_in, fan_out: self.scale / 3 ** 0.5)
        self.direct_depth = whole(self, "direct_depth", direct_depth)
        self.direct = self.direct_depth - 1
        if self.direct:
            self.claims = self.claims - {NO_TRANSPORT}
            self.walk = f"{self.walk}; of the uppermost {self.direct} by W"

    def prepare(self, net):
        super().prepare(net)
        if self.direct_depth > self.L:
            raise BuildError(type(self).__name__, f"direct_depth {self.direct_depth}, and {self.L} weighted layers",
                             f"at most {self.L}", "lower direct_depth")

    def params(self):
        return {}

    def fixed(self):
        return {path: param.value for path, param in super().params().items()}

    def output(self, a, below, tape):
        return a

    def error(self, tape):
        return self.eta * tape.error

    def top(self, h, down, tape):
        e, exact = self.error(tape), tape.walk(exact=True, collects=False)
        t = {self.L: h[-1] - tape.count * e}
        for i in range(self.L, self.L - self.direct, -1):
            e = self.f[i].backward(e, exact)
            t[i - 1] = h[i - 1] - tape.count * e
        return t

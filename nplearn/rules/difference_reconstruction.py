"""Difference reconstruction loss (DRL): inverses learn to undo the net by differences, all the way from its output.

    z = h_{l-1} + sigma noise       q = f_L(... f_l(z))                             up to the output, logits
    q <- h_{k-1} + (g_k(q) - g_k(h_k)),  k = L ... l+1                              down the upper inverses, held
    r = h_{l-1} + (g_l(q) - g_l(h_l))
    dV_l    of the mean of  |r - z|^2 / (2 sigma^2)  plus  decay |V_l|^2 / 2,       through g_l(q) and through g_l(h_l)

    t_L = h_L - eta dloss/dh_L,  t_{l-1} = h_{l-1} + (g_l(t_l) - g_l(h_l)),  deltas as in `inverses`

For one linear layer V (as the map g) -> W' (W W' + decay I)^-1, Tikhonov's inverse; for several, trained from the top,
the inverses' product is the pseudoinverse of the whole chain above, which a product of pseudoinverses is not.

DDTP-linear sends the difference straight to each layer by one linear map K_l from the output, learned in the same way:

    t_l = h_l + (K_l t_L - K_l h_L)     r = h_l + (K_l q - K_l h_L),  z = h_l + sigma noise,  q = f_L(... f_{l+1}(z))

eta, sigma, decay as above, 0.1, 0.1 and 0 are ours. Hidden deltas carry the factor eta, by which the authors divide
           their learning rate; theirs (0.03 to 0.07) is on the gradient of a batch's mean, to be divided by its size
schedule   "both" is theirs: inverse steps with every update, an epoch of them before each, 6 (here 1) before the first
Kept: V_l for l = 2 ... L and biases (DDTP: K_l for l = 1 ... L-1), learned. Cost: the square of the depth (DRL).
Source: Meulemans et al. 2020, arXiv 2006.14331, sections 3 and 4.
"""
from functools import cache
from math import prod

from nplearn.columns import outside
from nplearn.errors import SettingError, unwritten
from nplearn.layers import Dense, Reshape, stages, weighted
from nplearn.layers.initial import XAVIER, Law
from nplearn.rules.checks import number, outputs
from nplearn.rules.inverses import TargetRule


class ReconstructionRule(TargetRule):
    paper = "Meulemans et al. 2020"
    law = Law("xavier-normal", "normal", XAVIER.std)

    def __init__(self, eta=0.1, sigma=0.1, decay=0.0, schedule="alternating", optimiser=None):
        super().__init__(sigma, schedule, optimiser)
        if sigma == 0:
            raise SettingError(type(self).__name__, "sigma 0", "above 0: the loss is divided by its square", "raise it")
        self.eta, self.decay = number(self, "eta", eta, least=0), number(self, "decay", decay, least=0)

    def output(self, a, below, tape):
        return a

    def top(self, h, down, tape):
        return {self.L: h[-1] - self.eta * tape.count * tape.error}

    def fit(self, h, back, now):
        for i, g in self.g.items():
            held, z = back(i), self.corrupted(h[i - 1], i, now)
            q = z
            for k in range(i, self.L + 1):
                q = self.up(k, q, now)
            r = h[i - 1] + (g.forward(self.down(i, q, h, back), now) - held)
            d = (r - z) / (self.sigma ** 2 * now.count)
            g.backward(d, now)                          # the visit with q, and then that with h_l
            g.backward(-d, now)
            for layer in weighted(g) if self.decay else ():
                now.add(layer.weight, self.decay * layer.weight.value)

    def down(self, i, q, h, back):
        """What g_l reads when the output is q."""
        raise unwritten(self, "down(self, i, q, h, back)")


class DifferenceReconstruction(ReconstructionRule):
    idea = "difference targets; an inverse learns to undo, by differences, the whole net above"

    def down(self, i, q, h, back):
        for k in range(self.L, i, -1):
            q = self.lower(k, q, h, back)
        return q


class DirectDifferenceReconstruction(ReconstructionRule):
    """g[l] is K_{l-1}: from the output to h_{l-1}; a bias would be lost in the difference."""

    walk = "a target for the layer below, by a learned map from the output"
    idea = "difference targets straight from the output, by a learned linear map to each layer"
    keeps, biased = "a linear map from the output to each layer, learned", False

    def prepare(self, net):
        K, self.f, self.g = outputs(net, self), [None, *stages(net)], {}
        self.L = len(self.f) - 1
        for i in range(2, self.L + 1):
            shape = self.f[i - 1].out_shape
            self.g[i] = self.grown(f"direct.{self.f[i - 1].path}", [Dense(prod(shape)), Reshape(outside(shape))], (K,))

    def back(self, h, now):
        return cache(lambda i: self.g[i].forward(h[-1], now))

    def targets(self, h, back, down, tape):
        t = self.top(h, down, tape)[self.L]
        return {i - 1: self.lower(i, t, h, back) for i in self.g}

    def down(self, i, q, h, back):
        return q

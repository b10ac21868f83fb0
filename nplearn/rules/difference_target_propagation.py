"""Difference target propagation (DTP): of an imperfect inverse only the difference it makes is used.

    t_{l-1} = h_{l-1} + (g_l(t_l) - g_l(h_l))       and the rest as in `inverses`

DTP, Lee et al.: the penultimate layer takes a step down the loss, per sample, through the last layer's own W. This is
the rule's one weight transport; the last layer needs no inverse. The inverses preserve the noise (r = z).

    t_{L-1} = h_{L-1} - alpha adjoint(delta_L, W_L)         delta_L of one sample's loss, l = L-1 ... 2 below it

SDTP, Bartunov et al.: no gradient at all. The target is the correct label distribution, for h_L = softmax(a_L); the
inverses, g_L with them, take the noise away (r = h_{l-1}).

    t_L = one-hot label                                     l = L ... 2

alpha   step of DTP; 0.2 is ours. Lee's 0.3277 is on the gradient of a batch's mean: to be divided by the batch size
init    of the inverses: "orthogonal" (Lee: all singular values 1, per position where nothing is shared) or "glorot"
sigma, schedule, optimiser, squares as in `inverses`. Kept: the inverses, learned.
Source: Lee et al. 2015, arXiv 1412.7525; Bartunov et al. 2018, arXiv 1807.04587, sections 3 and 4.
"""
from nplearn.backend import stream
from nplearn.feedback import Cut, Transport
from nplearn.layers import weighted
from nplearn.layers.initial import orthogonal_like
from nplearn.rules.base import NO_TRANSPORT
from nplearn.rules.checks import choice, number
from nplearn.rules.inverses import TargetRule


class DifferenceTargetPropagation(TargetRule):
    idea = "a layer's target moves by the difference an inverse makes of the target above and the activity above"
    paper = "Lee et al. 2015"
    claims = TargetRule.claims - {NO_TRANSPORT}
    preserves, direct = True, 1

    def __init__(self, alpha=0.2, sigma=0.1, init="orthogonal", schedule="alternating", optimiser=None,
                 squares="sum"):
        super().__init__(sigma, schedule, optimiser, squares)
        self.alpha = number(self, "alpha", alpha, least=0)
        self.init = choice(self, "init", init, ("orthogonal", "glorot"))

    def feedback(self, layer, rng):
        if layer is not self.f[-1].layer:
            return Cut()
        last = Transport()
        last.says = "(here, of the last: a step down the loss, by its own W)"
        return last

    def top(self, h, down, tape):
        return {self.L - 1: h[-2] - self.alpha * tape.count * down}

    def grown(self, path, layers, shape):
        g = super().grown(path, layers, shape)
        for layer in weighted(g) if self.init == "orthogonal" else ():
            layer.weight.value[...] = self.put(orthogonal_like(layer.layer, stream(self.seed, path, "orthogonal")))
        return g


class SimplifiedDifferenceTargetPropagation(TargetRule):
    idea = "difference targets from the correct label distribution: no gradient is sent anywhere"
    paper = "Bartunov et al. 2018"

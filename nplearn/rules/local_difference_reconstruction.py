"""Local difference reconstruction loss (L-DRL): each inverse learns to turn its layer's Jacobian round, so that
difference targets carry what backprop would.

    o = g_l(h_l)    o1 = g_l(f_l(h_{l-1} + xi))    o2 = g_l(h_l + zeta)         xi, zeta = sigma noise, fresh each step
    dV_l    of the mean of  -2 <xi, o1 - o> + |o2 - o|^2,  f_l held, all three through g_l

    t_L     = h_L - beta dloss/dh_L                         h_L the logits; softmax: a_L - beta (p - y)
    t_{l-1} = h_{l-1} + (g_l(t_l) - g_l(h_l))               delta_L = beta dloss/da_L / N, delta_l as in `inverses`

Linear layers: the mean gradient is -2 sigma^2 W' + 2 sigma^2 V (V as the map g), so V -> W'. A linear net with V = W
has beta times backprop's deltas in every layer.

beta   0.7 is theirs    sigma  of both noises, 0.1 is ours (0.08 to 0.4 theirs)
steps  K inverse steps a batch, one number for all layers; 5 is ours (20 to 55 theirs)
Kept: V_l and biases for l = 2 ... L, learned: K steps after each update of W, on a fresh pass of the batch with the
weights as they now are. The paper takes them before the targets of the same batch: here too a batch's targets meet
inverses of the weights that made its activities, but fitted on the batch before (and on none before the first).
Source: Ernoult et al. 2022, arXiv 2201.13415, section 4; their lists of K, noise and rate per layer are not offered.
"""
from nplearn.layers.initial import TORCH
from nplearn.rules.base import EXACT_TOP, Rule
from nplearn.rules.checks import number, whole
from nplearn.rules.inverses import TargetRule


class LocalDifferenceReconstruction(TargetRule):
    idea = "inverses learn transposed Jacobians from local noise; difference targets then carry backprop's deltas"
    paper = "Ernoult et al. 2022"
    learns_when = "W every step, then the inverses a few steps"
    claims = TargetRule.claims - {EXACT_TOP}
    law = TORCH

    def __init__(self, beta=0.7, steps=5, sigma=0.1, optimiser=None):
        super().__init__(sigma, optimiser=optimiser)
        self.beta, self.steps = number(self, "beta", beta, least=0), whole(self, "steps", steps)

    def output(self, a, below, tape):
        return a

    def error(self, tape):
        return self.beta * tape.error

    def top(self, h, down, tape):
        return {self.L: h[-1] - self.beta * tape.count * tape.error}

    def learn(self, net, tape):
        if self.state:
            h, now = self.afresh(tape)
            for k in range(self.steps):
                self.inner(h, k, now.again())
                Rule.learn(self, net, now)

    def inner(self, h, k, now):
        """Gradients of the inverses for the k-th draws of noise."""
        for i, g in self.g.items():
            xi = self.sigma * self.noise(h[i - 1], i, now, "below", k)
            zeta = self.sigma * self.noise(h[i], i, now, "above", k)
            o1, o2, o = (g.forward(z, now) for z in (self.up(i, h[i - 1] + xi, now), h[i] + zeta, h[i]))
            for d in 2 * (xi - (o2 - o)), 2 * (o2 - o), -2 * xi:        # of o, o2, o1: the last visit first
                g.backward(d / now.count, now)

    def phase(self, net, batches):
        pass

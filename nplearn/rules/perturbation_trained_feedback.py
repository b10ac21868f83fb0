"""Perturbation-trained feedback: feedback alignment whose matrices learn to predict what noise says of the error.

The error at the input of layer l comes through B_l; noise tells the same error, without bias. With L_n the loss of
sample n and xi_l ~ N(0, I) added, sigma in size, to the inputs of all layers that send:

    e_l     = adjoint(d_l, B_l)                     goes down: d_{l-1} = f'(a_{l-1}) e_l; dW_l = outer(x_l, d_l)
    g_n     = (L_n(sigma xi) - L_n(0)) / sigma      a second pass
    dB_l    = N outer(e_l - g xi_l / N, d_l)        of the mean over samples of |N e_l - g xi_l|^2 / 2, by N d_l

so that B_l -> W_l without W being read: exactly in a linear net, else to the best linear guess of an error from the
delta above it. (outer takes e_l in the place of an input: B_l' d_l is one.)

sigma       size of the noise
antithetic  g_n = (L_n(sigma xi) - L_n(-sigma xi)) / (2 sigma), with a third pass
Kept: B_l, learned, with its optimiser's slots (its own `optimiser` where one is given). It learns every step, after W.
Source: Lansdell, Prakash and Kording 2020, ICLR, arXiv 1906.00889.
"""
from nplearn.columns import beside, normal_like
from nplearn.feedback import Feedback, Matrix
from nplearn.layers import stages
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, REDUCES, SAMPLES_APART, Rule
from nplearn.rules.checks import choice, number


class Fitted(Feedback):
    """B, fitted to what noise says of the error at the layer's input; that, the rule keeps on the tape of its walk."""

    says = "a learned matrix B, fitted to the error that noise tells"

    def __init__(self, B):
        self.B = Matrix(B, learns=True)

    def carry(self, layer, d, x, tape):
        return tape.once(layer, d, lambda: self.B.carry(layer, d, x, tape))

    def collect(self, layer, d, x, tape):
        if self in tape.kept:                           # other walks than the rule's teach W alone
            off = self.carry(layer, d, x, tape) - tape.seen(self)[-1]
            tape.add(self.B.matrix, layer.outer(off, d) * tape.count)

    def effective(self, layer):
        return self.B.effective(layer)

    def params(self):
        return self.B.params()

    def become_exact(self, layer):
        return self.B.become_exact(layer)


class PerturbationTrainedFeedback(Rule):
    idea = "feedback learns to predict the error that noise in the units tells"
    paper = "Lansdell et al. 2020"
    keeps, learns_when = "B, learned", "W and B every step, B from a second pass"
    claims = frozenset({NO_TRANSPORT, REDUCES, EXACT_TOP, SAMPLES_APART, NEEDS_CHAIN})
    learned = True
    home = {"optimiser": "adam", "lr": 1e-3, "decay": 0.0}

    def __init__(self, sigma=1e-2, antithetic=False, optimiser=None):
        super().__init__(optimiser)
        self.sigma = number(self, "sigma", sigma, least=1e-9)
        self.antithetic = choice(self, "antithetic", antithetic, (True, False))

    def prepare(self, net):
        self.chain = stages(net)

    def feedback(self, layer, rng):
        return Fitted(layer.draw(rng))

    def noise(self, tape, layer, x):
        """xi: one number for each entry of x."""
        return normal_like(x, tape.rng(layer, "perturbation"))

    def moved(self, tape, xi, sigma):
        """L_n(sigma xi), by another pass of the batch."""
        again, x = tape.again(), tape.input
        for stage in self.chain:
            for layer in stage.layers:
                x = layer.forward(x + sigma * xi[layer] if layer in xi else x, again)
        return tape.loss(x, tape.labels)[0]

    def assign(self, net, tape):
        self.check(net)
        xi = {layer: self.noise(tape, layer, tape.seen(layer)[0]) for layer in self.layers}
        gains = self.moved(tape, xi, self.sigma)
        if self.antithetic:
            gains = (gains - self.moved(tape, xi, -self.sigma)) / 2
        else:
            gains = gains - tape.values
        for layer in self.layers:
            tape.keep(layer.feedback, beside(gains / (self.sigma * tape.count), xi[layer]) * xi[layer])
        net.backward(tape.error, tape)

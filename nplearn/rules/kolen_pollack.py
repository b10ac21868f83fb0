"""Kolen-Pollack (KP): feedback gets the increments and the decay of the forward weight, so the difference decays away.

    dW_l    = outer(x_l, d_l)        d_{l-1} = f'(a_{l-1}) adjoint(d_l, B_l)
    W_l <- step(W_l, dW_l)           B_l <- step(B_l, dW_l)        one optimiser's settings, momentum of its own

Under SGD with coupled decay lam, momentum mu and rate eta,  W_l - B_l = c_t (W_l - B_l)_0  entry by entry, with
s <- mu s + lam c, c <- c - eta s, c_0 = 1, s_0 = 0: the angle to backprop falls only where decay is above 0, at 1e-4
over many epochs; `home` has a high one in the first two. AdamW (decoupled decay) keeps the law; Adam with coupled
decay breaks it.

Kept: B_l, shaped like W_l, and its optimiser's slots. It learns every step, after W.
Source: Kolen and Pollack 1994; Akrout et al. 2019, arXiv 1904.05391.
"""
from nplearn.feedback import Matrix
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, REDUCES, SAMPLES_APART, Rule


class KolenPollack(Rule):
    idea = "feedback gets W's increments and decay, so that it becomes W"
    paper = "Kolen and Pollack 1994; Akrout et al. 2019"
    keeps, learns_when = "B, learned", "W and B every step"
    claims = frozenset({NO_TRANSPORT, REDUCES, EXACT_TOP, SAMPLES_APART})
    learned = True
    home = {"decay": 0.1, "decay_steps": {2: 1e-3}}

    def feedback(self, layer, rng):
        return Matrix(layer.draw(rng), learns=True)

    def attach(self, net, seed=0, layers=None):
        super().attach(net, seed, layers)
        for layer in self.layers:                       # one gradient for both, before decay and momentum
            layer.feedback.matrix.grad = layer.weight.grad
        return self

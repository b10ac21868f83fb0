"""Adam, and AdamW, which keeps weight decay out of the moments.

With lr and lam (decay) at this step, n = 1, 2, ... the updates of this arena, entry by entry:

    g = G + lam W                         AdamW: g = G, after W <- (1 - lr lam) W
    m <- m + (1 - beta1) (g - m)
    s <- beta2 s + (1 - beta2) g g
    W <- W - lr / (1 - beta1^n)  m / (sqrt(s) / sqrt(1 - beta2^n) + eps)

Kept between steps: m (`mean`) and s (`square`), zero at first, and n.
Source: Kingma and Ba 2015, ICLR, arXiv 1412.6980; AdamW: Loshchilov and Hutter 2019, ICLR, arXiv 1711.05101, with lr
inside the decay, as in PyTorch. Kolen-Pollack's law fails under Adam (s sees lam W in one pathway and lam B in the
other) and holds under AdamW.
"""
from math import sqrt

from nplearn.kernels.gpu import launch, optim
from nplearn.optim.base import Optimiser


class Adam(Optimiser):
    """beta1, beta2, eps: numbers (the bias correction is that of constant betas)."""

    options = ("beta1", "beta2", "eps")

    def __init__(self, arena, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, decay_bias=True, decay_norm=True):
        take(self, beta1, beta2, eps)
        super().__init__(arena, lr, decay, decay_bias, decay_norm)

    def slot_names(self):
        return "mean", "square"

    def update(self, W, G, block, now, t, u):
        if launch.serves(W):
            return optim.adam(self, W, G, block, now, decoupled=False)
        descend(self, W, self.coupled(W, G, block, now["decay"], t), block, now["lr"], u)


class AdamW(Optimiser):
    """As Adam, with decoupled decay."""

    options = ("beta1", "beta2", "eps")

    def __init__(self, arena, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.01, decay_bias=True, decay_norm=True):
        take(self, beta1, beta2, eps)
        super().__init__(arena, lr, decay, decay_bias, decay_norm)

    def slot_names(self):
        return "mean", "square"

    def update(self, W, G, block, now, t, u):
        if launch.serves(W):
            return optim.adam(self, W, G, block, now, decoupled=True)
        self.shrink(W, block, now["lr"] * now["decay"], t)
        descend(self, W, G, block, now["lr"], u)


def take(adam, beta1, beta2, eps):
    adam.beta1, adam.beta2, adam.eps = adam.share("beta1", beta1), adam.share("beta2", beta2), adam.positive("eps", eps)


def descend(adam, W, g, block, lr, u):
    xp, n, m, s = adam.xp, adam.moves + 1, adam.slots["mean"][block], adam.slots["square"][block]
    xp.subtract(g, m, out=u)
    u *= 1 - adam.beta1
    m += u
    xp.multiply(g, g, out=u)
    u *= 1 - adam.beta2
    s *= adam.beta2
    s += u
    xp.sqrt(s, out=u)
    u /= sqrt(1 - adam.beta2 ** n)
    u += adam.eps
    xp.divide(m, u, out=u)
    u *= lr / (1 - adam.beta1 ** n)
    W -= u

"""Stochastic gradient descent, with momentum, Nesterov's variant, and coupled or decoupled decay.

With lr, mu (momentum) and lam (decay) at this step, entry by entry:

    g = G + lam W                         decoupled: g = G, after W <- (1 - lr lam) W
    v <- mu v + g                         without momentum v is g
    W <- W - lr v                         Nesterov: W <- W - lr (g + mu v)

Kept between steps: v, zero at first; nothing if momentum is 0.
Source: Polyak 1964, doi 10.1016/0041-5553(64)90137-5; Nesterov's form: Sutskever et al. 2013, ICML, as PyTorch
rewrote it: lr multiplies v when W moves and not when v grows, so a change of lr acts at once on all of v.
"""
from nplearn.kernels.gpu import launch, optim
from nplearn.optim.base import Optimiser


class SGD(Optimiser):
    """momentum: a number or a schedule; nesterov, decoupled: see above.

    >>> import numpy as np
    >>> from nplearn.params import Arena, Param
    >>> weight = Param(np.array([1.0, 2.0]))
    >>> optimiser = SGD(Arena([weight]), lr=0.5, decay=0.25)
    >>> weight.grad[...] = [1, -1]
    >>> optimiser.step()
    >>> weight.value
    array([0.375, 2.25 ])
    """

    options = ("nesterov", "decoupled")

    def __init__(self, arena, lr, momentum=0.0, nesterov=False, decay=0.0, decoupled=False, decay_bias=True,
                 decay_norm=True):
        self.nesterov, self.decoupled = bool(nesterov), bool(decoupled)
        super().__init__(arena, lr, decay, decay_bias, decay_norm, momentum=momentum)
        self.require(self.uses("momentum") or not nesterov, "nesterov", nesterov, "False, as momentum is 0")

    def slot_names(self):
        return ("momentum",) if self.uses("momentum") else ()

    def update(self, W, G, block, now, t, u):
        if launch.serves(W):
            return optim.sgd(self, W, G, block, now)
        lr, mu, lam = now["lr"], now["momentum"], now["decay"]
        if self.decoupled:
            self.shrink(W, block, lr * lam, t)
            g = G
        else:
            g = self.coupled(W, G, block, lam, t)
        if self.slots:
            v = self.slots["momentum"][block]
            v *= mu
            v += g
            if self.nesterov:
                self.xp.multiply(v, mu, out=u)
                u += g
            g = u if self.nesterov else v
        self.xp.multiply(g, lr, out=t)
        W -= t

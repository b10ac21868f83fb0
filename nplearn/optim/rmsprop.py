"""RMSprop: each entry's gradient is divided by the running root mean square of its past ones.

With lr, mu (momentum) and lam (decay) at this step, entry by entry:

    g = G + lam W
    s <- alpha s + (1 - alpha) g g
    m <- m + (1 - alpha) (g - m)          centred only; the variance is then c = s - m m, otherwise c = s
    r = g / (sqrt(c) + eps)               eps_inside: r = g / sqrt(c + eps)
    v <- mu v + r                         without momentum v is r
    W <- W - lr v

Kept between steps: s (`square`), m (`mean`, centred only), v (`momentum`, if it is not 0), all zero at first.
Source: Tieleman and Hinton 2012, Coursera lecture 6.5; centred: Graves 2013, arXiv 1308.0850. Executed as in PyTorch;
eps_inside is TensorFlow's place for eps (its 1.x optimiser also starts s at 1 and puts lr inside v; this one does not).
"""
from nplearn.optim.base import Optimiser


class RMSprop(Optimiser):
    """alpha, eps: numbers; momentum: a number or a schedule; centred, eps_inside: see above."""

    options = ("alpha", "eps", "centred", "eps_inside")

    def __init__(self, arena, lr=0.01, alpha=0.99, eps=1e-8, momentum=0.0, centred=False, eps_inside=False, decay=0.0,
                 decay_bias=True, decay_norm=True):
        self.alpha, self.eps = self.share("alpha", alpha), self.positive("eps", eps)
        self.centred, self.eps_inside = bool(centred), bool(eps_inside)
        super().__init__(arena, lr, decay, decay_bias, decay_norm, momentum=momentum)

    def slot_names(self):
        return ("square", *["mean"] * self.centred, *["momentum"] * self.uses("momentum"))

    def update(self, W, G, block, now, t, u):
        xp, s = self.xp, self.slots["square"][block]
        g = self.coupled(W, G, block, now["decay"], t)
        xp.multiply(g, g, out=u)
        u *= 1 - self.alpha
        s *= self.alpha
        s += u
        c = self.variance(s, g, block, u) if self.centred else s
        if self.eps_inside:
            xp.add(c, self.eps, out=u)
            xp.sqrt(u, out=u)
        else:
            xp.sqrt(c, out=u)
            u += self.eps
        xp.divide(g, u, out=t)
        if "momentum" in self.slots:
            v = self.slots["momentum"][block]
            v *= now["momentum"]
            v += t
            xp.multiply(v, now["lr"], out=t)
        else:
            t *= now["lr"]
        W -= t

    def variance(self, s, g, block, u):
        xp, m = self.xp, self.slots["mean"][block]
        xp.subtract(g, m, out=u)
        u *= 1 - self.alpha
        m += u
        xp.multiply(m, m, out=u)
        xp.subtract(s, u, out=u)
        return xp.maximum(u, 0, out=u)                  # rounding can leave -1e-17 where the gradient is constant

"""Batch Manhattan: only the sign of each entry's gradient is used.

With lr, mu (momentum) and lam (decay) at this step, entry by entry and in this order:

    g = sign(G)                           G itself in the Params named by `exempt`
    g <- g + lam W
    v <- mu v + g                         without momentum v is g
    W' = W - lr v
    W <- W'                               keep_sign: where sign(W') sign(W) <= 0, W <- 1e-10 if W >= 0 else -1e-10

Kept between steps: v (`momentum`), zero at first; nothing if momentum is 0.
Source: Liao, Leibo and Poggio 2016, AAAI, arXiv 1510.05067; order, momentum and keep_sign (there "no sign change") from
the code of Xiao et al. 2019, ICLR, arXiv 1811.03567. There keep_sign spares biases and holds the scales of BatchNorm;
here it holds weights only.
"""
from fnmatch import fnmatchcase

from nplearn.kernels import workspace
from nplearn.optim.base import Optimiser

FLOOR = 1e-10


class BatchManhattan(Optimiser):
    """momentum: a number or a schedule; keep_sign: see above.

    exempt    a pattern of Param paths ("head.*") or several; a twin applies them to its own Params
    """

    options = ("keep_sign", "exempt")

    def __init__(self, arena, lr, momentum=0.0, decay=0.0, keep_sign=False, exempt=(), decay_bias=True,
                 decay_norm=True):
        self.keep_sign, self.exempt = bool(keep_sign), [exempt] if isinstance(exempt, str) else list(exempt)
        super().__init__(arena, lr, decay, decay_bias, decay_norm, momentum=momentum)
        for pattern in self.exempt:
            self.require(any(fnmatchcase(p.path, pattern) for p in arena.params), "exempt", pattern,
                         "a pattern of some parameter's path")

    def slot_names(self):
        return ("momentum",) if self.uses("momentum") else ()

    def prepare(self):
        arena = self.arena
        self.plain = arena.where(self.exempted) > 0 if any(map(self.exempted, arena.params)) else None
        self.held = arena.where(lambda p: p.kind == "weight") > 0 if self.keep_sign else None

    def exempted(self, param):
        return any(fnmatchcase(param.path, pattern) for pattern in self.exempt)

    def update(self, W, G, block, now, t, u):
        xp, lam = self.xp, now["decay"]
        xp.sign(G, out=t)
        if self.plain is not None:
            xp.copyto(t, G, where=self.plain[block])
        g = self.coupled(W, t, block, lam, u)
        if self.slots:
            v = self.slots["momentum"][block]
            v *= now["momentum"]
            v += g
            g = v
        xp.multiply(g, now["lr"], out=t)
        if self.keep_sign:
            xp.sign(W, out=u)
        W -= t
        if self.keep_sign:
            self.restore_sign(W, block, t, u)

    def restore_sign(self, W, block, t, u):
        """u holds the old signs. Signs are multiplied, not values: a product of two small values may be 0."""
        xp = self.xp
        xp.sign(W, out=t)
        t *= u
        crossed = workspace.once(("crossed", xp, W.size), lambda: xp.empty(W.size, bool))
        xp.less_equal(t, 0, out=crossed)
        crossed &= self.held[block]
        u += 0.5                                        # so that an old 0 counts as positive
        xp.sign(u, out=u)
        u *= FLOOR
        xp.copyto(W, u, where=crossed)

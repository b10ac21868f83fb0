"""Product feedback alignment (PFA): the delta goes down in two steps, through a fixed B and a learned R, and B R -> W.

For a layer with n outputs, an intermediate population of N = expand n units, B (n, N) and R of W's kind with N outputs:

    q       = B' d_l                              mixing over channels
    d_{l-1} = f'(a_{l-1}) adjoint(q, R_l)         = f'(a_{l-1}) adjoint(d_l, B R)
    dW_l    = outer(x_l, d_l)        dR_l = outer(x_l, q) = B' dW_l
    W <- step(W, dW), R <- step(R, dR): the same optimiser's settings. B never changes.

Under SGD  R - B' W = c_t (R - B' W)_0  with the c_t of Kolen-Pollack (which is B = I), so B R -> B B' W; E[B B'] = I.

lift   B: "random" U(+-sqrt(3 / (density N))), "orthogonal" rows (PFA-o with expand=1), "identity" (expand=1)
lower  R at the start: "random" by W's law for N outputs, or "aligned" B' W (with orthonormal B this is backprop)
density  of independent Bernoulli masks on B and R, drawn once; B's scale makes up for it, R's does not (as published)
path   "direct" (two products per sample), "collapsed" (B R once a batch), "auto" by their cost at `batch` samples

Kept: B fixed; R learned, with its optimiser's slots, in every weighted layer, the lowest too (there it drives nothing).
Source: Li and Benna 2024, arXiv 2405.20594. Groups (B in blocks) and locally connected layers are ours.
"""
import numpy as np
from scipy.linalg import block_diag

from nplearn.errors import SettingError
from nplearn.feedback import Product
from nplearn.layers.initial import orthogonal
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, REDUCES, SAMPLES_APART, Rule
from nplearn.rules.checks import choice, number


class ProductFeedbackAlignment(Rule):
    idea = "the delta goes down through a fixed and a learned matrix whose product becomes W"
    paper = "Li and Benna 2024"
    keeps, learns_when = "B fixed, R learned", "W and R every step"
    claims = frozenset({NO_TRANSPORT, REDUCES, EXACT_TOP, SAMPLES_APART})
    lowest = learned = True
    home = {"decay": 0.1, "decay_steps": {2: 1e-3}}     # as for Kolen-Pollack

    def __init__(self, expand=10, density=1.0, lift="random", lower="random", path="auto", batch=128, optimiser=None):
        super().__init__(optimiser)
        self.lift = choice(self, "lift", lift, ("random", "orthogonal", "identity"))
        self.lower = choice(self, "lower", lower, ("random", "aligned"))
        self.path = choice(self, "path", path, ("auto", "direct", "collapsed"))
        self.expand = number(self, "expand", expand, least=1)
        self.density = number(self, "density", density, least=0)
        self.batch = number(self, "batch", batch, least=1)
        if (lift == "identity" and expand != 1) or not 0 < density <= 1 or (lift != "random" and density < 1):
            raise SettingError(type(self).__name__, f"expand {expand}, density {density}, lift {lift}",
                               "expand 1 for identity, 0 < density <= 1, density 1 unless the lift is random",
                               "change them")

    def feedback(self, layer, rng):
        n = layer.n_out // layer.groups
        N = round(self.expand * n)
        B = block_diag(*(self.block(rng, n, N) for _ in range(layer.groups)))
        R = layer.draw(rng, N * layer.groups)
        if self.density < 1:
            B = B * (rng.random(B.shape) < self.density)
            mask = self.put(rng.random(R.shape) < self.density)
        B = self.put(B)
        if self.lower == "aligned":
            R[...] = layer.widen(layer.weight.value, B)
        if self.density == 1:
            return Product(B, R, self.collapses(layer, n, N))
        R *= mask
        return Product(B, R, self.collapses(layer, n, N), mask)

    def block(self, rng, n, N):
        if self.lift == "random":
            return rng.uniform(-1, 1, (n, N)) * (3 / (self.density * N)) ** 0.5
        return orthogonal(rng, n, N) if self.lift == "orthogonal" else np.eye(n)

    def collapses(self, layer, n, N):
        """Whether B R and B' dW once a batch cost less than B' d and what follows for all samples and positions."""
        m, M = layer.fans(layer.n_out)[0], self.batch * layer.uses
        direct, collapsed = M * (n * N + N * m), n * N * m          # what learning R takes
        if layer.sends:                                             # and what sending down takes
            direct, collapsed = direct + M * N * m, collapsed + M * n * m + n * N * m
        return self.path == "collapsed" or self.path == "auto" and direct > collapsed

    def learn(self, net, tape):
        for layer in self.layers:
            layer.feedback.gather(layer)
        super().learn(net, tape)

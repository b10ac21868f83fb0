"""Predictive coding (PC): activities settle between input and target until errors are spread over all layers.

Value nodes v_0 = x, v_1 .. v_{L-1}, one vector per sample, start at the forward pass. With predictions, errors, energy

    mu_l  = f_l(W_l v_{l-1} + b_l)          eps_l = v_l - mu_l        F = 1/2 sum_{l<L} |eps_l|^2 + beta loss(mu_L)
    eps_L = -beta dloss/dmu_L               D_l   = f_l'              (whatever stands in the stage, pooling too)

all nodes go down the energy at once, T times, everything recomputed each time:

    v_l <- v_l + gamma (-eps_l + adjoint(D_{l+1} eps_{l+1}, W_{l+1}))                 0 < l < L

and the weights then get  dW_l = -outer(v_{l-1}, D_l eps_l) / (beta N).  In code e = -eps: it goes down as deltas do.

beta  1 under squared error is the clamp v_L = y of Whittington and Bogacz. Once settled, as beta -> 0 the gradient
      tends to that of backprop, with an error of O(beta); at beta = 1 it does not, however small the error: that is
      preconditioned. In float32 rounding adds about 1e-7 / beta to it.
gamma F falls while gamma < 2 / (largest curvature of F): .3 held in tests, .5 did not. With W' replaced by another
      matrix (`through`) there is no F, and a random one can be unstable for any gamma; with the pseudoinverse of every
      W, in a linear net whose widths only fall or only grow, errors settle for any gamma up to .5. Nobody examines the
      matrices, which may learn: a Probe reports `unrest`, how far nodes would move next. Where more steps make it grow,
      lower gamma, raise lam (Reciprocal), or take FixedPrediction.
Predictions take batch statistics and the largest of a pool as they are with the values of the moment; Dropout drops
what it did in the forward pass. T = 20 and gamma = .2 are ours: enough for a few layers, not for many.

Kept: nothing but what `through` keeps. W learns once a batch, when the activities have settled.
Source: Whittington and Bogacz 2017, Neural Computation 29:1229; backward weights of their own: Millidge et al. 2020,
arXiv 2010.01047, whose variants without D_l, and with a full matrix from values to errors, are not offered.
"""
from nplearn.errors import SettingError
from nplearn.layers import activities
from nplearn.rules.backprop import Backprop
from nplearn.rules.checks import number, whole
from nplearn.rules.relaxation import Relaxation


class PredictiveCoding(Relaxation):
    """steps  T      gamma  rate of the nodes      beta  how strongly the loss pulls      through  see Relaxation"""

    idea = "activities settle between input and target; what a layer then fails to predict is its error"
    paper = "Whittington and Bogacz 2017"
    keeps, learns_when = "nothing, or what its feedback keeps", "W every step, after settling"

    def __init__(self, through=Backprop, steps=20, gamma=0.2, beta=1.0):
        super().__init__(through)
        self.steps = whole(self, "steps", steps)
        self.gamma, self.beta = number(self, "gamma", gamma, 0), number(self, "beta", beta, 0)
        if self.beta == 0:
            raise SettingError(type(self).__name__, "beta 0", "a number above 0", "a small one is near backprop")

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        e, sweep = self.settled(tape)
        for stage, error in zip(self.chain, e, strict=True):
            self.read_out(stage, error / (self.beta * tape.count), tape if stage is self.chain[0] else sweep, tape)

    def settled(self, tape):
        """(e_1 .. e_L, the pass of the stages above the first that made them), after the last move."""
        chain, scale = self.chain, self.beta * tape.count
        h = activities(chain, tape)[1:]
        v = h[:-1]
        e, sweep = [*(0 * x for x in v), scale * tape.error], tape      # the forward pass is the first prediction
        for _ in range(self.steps):
            v = [x + move for x, move in zip(v, self.moves(e, sweep), strict=True)]
            sweep = tape.again()
            mu = [h[0], *(stage.forward(x, sweep) for stage, x in zip(chain[1:], v, strict=True))]
            e = [*(m - x for m, x in zip(mu, v, strict=False)), scale * tape.loss(mu[-1], tape.labels)[1]]
        return e, sweep

    def moves(self, e, sweep):
        """How the nodes v_1 .. v_{L-1} go on from these errors, and the pass that made them."""
        down = sweep.walk(collects=False, records=False)
        back = [stage.backward(d, down) for stage, d in zip(self.chain[1:], e[1:], strict=True)]
        return [self.gamma * (d - b) for d, b in zip(e, back, strict=False)]

    def unrest(self, tape):
        moves = self.moves(*self.settled(tape))
        return {stage.layer: float(abs(move).max()) for stage, move in zip(self.chain, moves, strict=False)}

"""Single-loop dynamic inversion (SDI): one loop around the chain above the first layer gives every layer its error.

With W_2 ... W_L the weights above the first layer, f_l the nonlinearity behind layer l and B from the output to the
first layer's, from r_l = 0 (shaped like a_l), `steps` times, each line with the new values of those above it:

    r_1 <- r_1 + dt (-r_1 + g B r_L)
    r_l <- r_l + dt (-r_l + W_l f_{l-1}(r_{l-1}))                 1 < l < L
    r_L <- r_L + dt (-alpha r_L + W_L f_{L-1}(r_{L-1}) - d)       d: error of a sample's own loss, without 1/N
    delta_l = r_l / N for l < L;  delta_L is the task's own

gate  "none", as published: f stands inside the loop, so r_l is a correction of a_l itself; "multiply", ours, by f'(a_l)
      as well, which deeper nets learn much better with

In a linear chain r_1 settles at g B (W g B - alpha I)^-1 d, W = W_L ... W_2; at alpha = 0 and as B starts that is
W^+ d, the Gauss-Newton step of the chain, where sequential DI takes one inverse after the other.

B = -W' as it is at `attach` (one weight transport), and g follows W: the gain of one turn through the loop without f is
`gain` (see chain_loop.py). The longer the loop, the less of it is stable: below 2 for three weighted layers, 0.88 for
four, 0.56 for five. W moves and B stays: the loop without f is examined at `attach` and every epoch, and refused if it
diverges, or does in steps of dt. With leak, and as B starts, r_1 is the Tikhonov inverse of lam = alpha / g.
Kept: B, fixed.
Source: Podlaski and Machens 2020, NeurIPS, arXiv 2007.05112 (two weights in the loop, g = 1, tanh). g, longer loops,
layers other than dense and the defaults are ours.
"""
from nplearn.backend import array_module
from nplearn.columns import batch_shape
from nplearn.errors import BuildError, TrainingError
from nplearn.feedback import Cut
from nplearn.layers import stages
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, SAMPLES_APART, Rule
from nplearn.rules.chain_loop import ChainLoop
from nplearn.rules.checks import choice, number, outputs, whole
from nplearn.rules.steps import STEADY, largest_step


class SingleLoopInversion(Rule):
    idea = "one loop around the chain settles to the activities that cancel the error"
    paper, drawn = "Podlaski and Machens 2020", False
    walk = "what one loop around the whole chain settles to"
    keeps, learns_when = "B, fixed", "W every step, after the loop has settled"
    claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART, NEEDS_CHAIN})
    home = {"net_options": {"activation": "tanh"}}

    def __init__(self, alpha=0.05, steps=100, dt=0.3, gain=0.5, gate="none"):
        super().__init__()
        self.gate = choice(self, "gate", gate, ("none", "multiply"))
        self.alpha, self.dt = number(self, "alpha", alpha, least=0), number(self, "dt", dt, least=0)
        self.gain, self.steps = number(self, "gain", gain, least=0), whole(self, "steps", steps)

    def prepare(self, net):
        self.chain = stages(net)
        self.loop = ChainLoop(self.chain, outputs(net, self), self.put)
        self.examine(BuildError)

    def feedback(self, layer, rng):
        return Cut()

    def fixed(self):
        return {"loop.matrix": self.loop.B}

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        last, d = self.chain[-1], tape.error
        for layer in reversed(last.layers[last.layers.index(last.layer) + 1:]):
            d = layer.backward(d, tape)
        r = self.settle(d * tape.count)
        for stage, delta in zip(self.chain, [*(x / tape.count for x in r[:-1]), d], strict=True):
            f, layer = stage.activation, stage.layer
            if f and stage is not last and self.gate == "multiply":
                delta = f.times_slope(delta, tape.seen(f)[0])
            tape.record(layer, delta)
            layer.collect(tape.seen(layer)[0], delta, tape)

    def settle(self, d):
        """[r_1, ..., r_L]"""
        loop, g, dt, L = self.loop, self.loop.factor(self.gain), self.dt, self.loop.top
        r = [array_module(d).zeros(batch_shape(layer.out_shape, d), d.dtype) for layer in loop.layers]
        for _ in range(self.steps if L else 0):
            r[0] = r[0] + dt * (g * loop.down(r[L]) - r[0])
            for i in range(1, L):
                r[i] = r[i] + dt * (loop.up(i, r[i - 1]) - r[i])
            r[L] = r[L] + dt * (loop.up(L, r[L - 1]) - self.alpha * r[L] - d)
        return r

    def examine(self, kind):
        worst = self.loop.slowest(self.gain, self.alpha)
        if worst > 1e-9:
            raise kind(type(self).__name__, f"a loop with an eigenvalue of real part {worst:.2g}",
                       "a loop that settles", f"use a gain below {self.gain:g} or an alpha above {self.alpha:g}")
        found = self.growth(self.dt)
        if found > STEADY and self.loop.top:            # a net of one layer has no loop
            raise kind(type(self).__name__, f"steps of dt {self.dt:.3g}, in which the loop grows {found:.3g}-fold",
                       "a loop that settles", f"use a dt of at most {largest_step(self.growth, self.dt):.3g}")

    def growth(self, dt):
        return self.loop.growth(self.gain, self.alpha, dt)

    def phase(self, net, batches):
        if batches.step and batches.step % batches.per_epoch == 0:
            self.examine(TrainingError)

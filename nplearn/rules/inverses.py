"""What rules with targets share: a layer is told the activity it should have had, by an inverse of the layer above.

A chain of layers f_1 ... f_L with activities h_l = f_l(h_{l-1}); for layer l an inverse g_l from the space of h_l to
that of h_{l-1}: the layer turned round with weights V_l of its own, then the nonlinearity of the layer below.

    t_{l-1} = h_{l-1} + (g_l(t_l) - g_l(h_l))       the difference step: t_l = h_l gives t_{l-1} = h_{l-1} to the bit
    delta_l = f_l'(a_l) (h_l - t_l) / N             gradient of the mean of |h_l - t_l|^2 / 2, h_{l-1} and t_l held
    delta_L                                         the task's own, unless a rule says otherwise
    dV_l    gradient of the mean of |g_l(f_l(z)) - r|^2 / 2,  z = h_{l-1} + sigma noise,  f_l(z) and r held;
            r = z where the inverse preserves the noise, h_{l-1} where it takes it away; noise N(0, 1), new every step

sigma      0.1 is ours; published values lie between 0.06 and 0.37, tuned for each rule and net
squares    "sum": the losses are as above    "mean": the mean of squares over units too, as in frameworks: gradients
           2 / units times these; an Adam with a large eps feels it
schedule   "alternating": an epoch of inverse steps with W held before each epoch of forward steps (off-line, `phase`)
           "parallel": the inverses' gradients are filled with W's and stepped after W     "both": one and the other
Kept: V_l and biases, in an arena of the rule's own, under its own `optimiser` where one is given.
"""
from copy import copy
from functools import cache
from itertools import islice

from nplearn.columns import normal_like, outside
from nplearn.feedback import Cut
from nplearn.layers import Sequential, activities, stages, weighted
from nplearn.layers.initial import XAVIER
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, SAMPLES_APART, Rule
from nplearn.rules.checks import choice, number


class TargetRule(Rule):
    """f[1] ... f[L], g[2] ... g[L]: as above; in code the index l is i.

    law: of V    preserves: r = z    biased: g_l has a bias    direct: how many layers at the top have no g_l
    """

    claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART, NEEDS_CHAIN})
    walk = "a target for the layer below, by a learned inverse of this one"
    learned, law, preserves, biased, direct = True, XAVIER, False, True, 0
    keeps, learns_when = "inverses, learned", "W and the inverses in turn, by epochs, or together"
    home = {"optimiser": "adam", "lr": 1e-3, "decay": 0.0, "net_options": {"activation": "tanh"}}

    def __init__(self, sigma=0.1, schedule="alternating", optimiser=None, squares="sum"):
        super().__init__(optimiser)
        self.sigma, self.f, self.g = number(self, "sigma", sigma, least=0), [None], {}
        self.squares = choice(self, "squares", squares, ("sum", "mean"))
        self.schedule = choice(self, "schedule", schedule, ("alternating", "parallel", "both"))

    # -- what a rule may write anew ---------------------------------------------------------------------------------

    def output(self, a, below, tape):
        """h_L as its inverse and its target read it, from the net's output and h_{L-1}."""
        return tape.loss.probability(a)

    def error(self, tape):
        """What the last layer learns from."""
        return tape.error

    def top(self, h, down, tape):
        """{l: t_l} of the uppermost target; `down` is what the last layer sends down, where it does."""
        return {self.L: tape.target}

    def lower(self, i, t, h, back):
        """t_{l-1} from t_l."""
        return h[i - 1] + (self.g[i].forward(t) - back(i))

    def fit(self, h, back, now):
        """Fill the gradients of the inverses."""
        for i, g in self.g.items():
            z = self.corrupted(h[i - 1], i, now)
            r = z if self.preserves else h[i - 1]
            g.backward(self.slope(g.forward(self.up(i, z, now), now) - r, now), now)

    # -- what all of them do ----------------------------------------------------------------------------------------

    def prepare(self, net):
        self.f = [None, *stages(net)]
        self.L = len(self.f) - 1
        self.g = {i: self.grown(f"inverse.{self.f[i].path}", *self.turned(i))
                  for i in range(2, self.L + 1 - self.direct)}

    def turned(self, i):
        """The layers of g_l, f_l turned round and the nonlinearity of f_{l-1}, and the shape that they read."""
        below = self.f[i - 1].activation
        return [*self.f[i].turned().layers, *([copy(below)] if below else [])], self.f[i].out_shape

    def grown(self, path, layers, shape):
        """These layers as a net of the rule's own, built; its start depends on the seed and `path` alone."""
        g = Sequential(*layers)
        for layer in weighted(g):
            layer.init, layer.has_bias = self.law, self.biased and layer.has_bias
        g.build(outside(shape), (self.seed, path), self.net.dtype, self.net.device)
        for layer in weighted(g):
            layer.path = path
        return g

    def feedback(self, layer, rng):
        return Cut()

    def params(self):
        return {f"{layer.path}.{name}": param for g in self.g.values() for layer in weighted(g)
                for name, param in layer.params().items()}

    def read(self, tape):
        """[h_0, ..., h_L] of the pass."""
        h = activities(self.f[1:], tape)
        return [*h[:-1], self.output(h[-1], h[-2], tape)]

    def afresh(self, tape):
        """[h_0, ..., h_L] with the weights as they are now, and the pass they are from; no loss is asked for."""
        now = tape.again()
        now.output = self.net.forward(now.input, now)
        return self.read(now), now

    def up(self, i, z, tape):
        """f_l(z)."""
        a = self.f[i].forward(z, tape.again())
        return self.output(a, z, tape) if i == self.L else a

    def noise(self, x, i, tape, *key):
        return normal_like(x, tape.rng(self.f[i].layer, "noise", *key))

    def corrupted(self, x, i, tape):
        return x + self.sigma * self.noise(x, i, tape)

    def slope(self, miss, tape):
        """The gradient of a layer's loss, by how much its activity misses what it is asked for."""
        return miss / (miss.size / 2 if self.squares == "mean" else tape.count)

    def back(self, h, now):
        """g_l(h_l) as a function of l, computed when first asked for, and kept on the tape `now`."""
        return cache(lambda i: self.g[i].forward(h[i], now))

    def targets(self, h, back, down, tape):
        """{l: t_l}."""
        t = self.top(h, down, tape)
        for i in range(min(t), 1, -1):
            t[i - 1] = self.lower(i, t[i], h, back)
        return t

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        h, now = self.read(tape), tape.again()
        back = self.back(h, now)
        down = self.f[-1].backward(self.error(tape), tape)
        t = self.targets(h, back, down, tape)
        for i in range(1, self.L):
            self.f[i].backward(self.slope(h[i] - t[i], tape), tape)
        if self.schedule != "alternating":
            self.fit(h, back, now)

    def learn(self, net, tape):
        if self.schedule != "alternating":
            super().learn(net, tape)

    def phase(self, net, batches):
        if self.schedule != "parallel" and self.state and batches.step % batches.per_epoch == 0:
            for tape in islice(batches, batches.per_epoch):
                h, now = self.afresh(tape)
                self.fit(h, self.back(h, now), now)
                super().learn(net, now)

"""BurstCCN: bursts come down through Y and events through Q; where the two do not cancel, there is an error.

A unit sends events at the rate e = f(a), which is the forward code, and bursts at the rate b = p e; without a teacher
p is p_b. From the top, with d_L the loss's own delta, N samples and s the teaching strength:

    b_L = p_b (e_L - s N d_L)                   for a sigmoid and squared error  p_L = p_b (1 + s (t - e) (1 - e))
    u_l = adjoint(b_{l+1}, Y_{l+1}) - adjoint(e_{l+1}, Q_{l+1})                             the apical potential
    p_l = 2 p_b sigmoid(2 k u_l / p_b)          k = f'(a) / e:  1 - e for a sigmoid, 1 / e above 0 for a ReLU
    b_l = p_l e_l        d_l = (p_b e_l - b_l) / (p_b s N)        dW_l = outer(h_{l-1}, d_l)

With Q = p_b Y this is feedback alignment through Y, d_l -> f' adjoint(d_{l+1}, Y), with an error of O(s^2), as the
sigmoid has no even terms about its centre. The published update is p_b times this (s = 1); the follow-up code divides.

y       "random" N(0, scale^2), "symmetric" starts at scale W, "tied" is scale W always, which is weight transport
q       "cancel" starts at p_b Y, "random" is another such draw, p_b N(0, scale^2)
learns  "nothing", "q": Q <- Q + lr_q outer(u_l, e_{l+1}) / N, u -> 0, by SGD unless `optimiser` is given; lr_q < 8 / n
        "kp": Y gets W's gradient, Q p_b times it, under W's optimiser: with decay Y -> W, while Q - p_b Y decays alike
quiet   "q" learns on so many batches without teacher after each update; 0: on the batch itself, whose teacher biases Q
top     how the error moves the output's p: "linear", or "bounded" by the sigmoid (softmax: half the follow-up's slope)
Pooling and the like, in front of the units or behind them, pass both rates down exactly.

Kept: Y, Q, shaped like W. W learns every step, when all bursts have come down. The code's own rule for Y is left out.
Source: Greedy et al. 2022, NeurIPS 35, arXiv 2206.11769; kp, top, divided updates: its follow-up, BurstCCN-journal.
"""
from nplearn.errors import SettingError
from nplearn.layers import Tanh, stages
from nplearn.optim import SGD
from nplearn.rules.apical import MOVED, Apical, events, gain, rates
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, SAMPLES_APART, Rule
from nplearn.rules.checks import bare, choice, number, whole


class Burst(Rule):
    idea = "bursts come down through one matrix, events through another; what does not cancel is the error"
    paper = "Greedy et al. 2022"
    keeps, learns_when = "Y and Q, fixed or learned", "W every step; Q or both with it, or Q in batches without teacher"
    claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART, NEEDS_CHAIN})
    home = {"net_options": {"activation": "sigmoid", "output": "sigmoid"}, "loss": "squared",
            "optimiser": "adam", "lr": 1e-3, "decay": 0.0}      # ours; published: SGD at 0.1, W of gain 3.6

    def __init__(self, p_b=0.5, y="random", scale=0.5, q="cancel", learns="nothing", lr_q=1e-3, quiet=0, teaching=1.0,
                 top="linear", optimiser=None):
        super().__init__(optimiser or ((lambda arena: SGD(arena, lr=self.lr_q)) if learns == "q" else None))
        self.y = choice(self, "y", y, ("random", "symmetric", "tied"))
        self.q = choice(self, "q", q, ("cancel", "random"))
        self.top = choice(self, "top", top, ("linear", "bounded"))
        self.learns, self.quiet = choice(self, "learns", learns, MOVED), whole(self, "quiet", quiet, 0)
        self.p_b, self.scale = number(self, "p_b", p_b), number(self, "scale", scale)
        self.teaching, self.lr_q = number(self, "teaching", teaching), number(self, "lr_q", lr_q, 0)
        tied = y == "tied"
        if not 0 < p_b < 1 or teaching <= 0 or tied and (q, learns) != ("cancel", "nothing") or quiet and learns != "q":
            raise SettingError("Burst", f"p_b {p_b}, teaching {teaching}, y {y}, q {q}, learns {learns}, quiet {quiet}",
                               "0 < p_b < 1, teaching above 0, a tied Y with a Q that cancels and nothing learned, "
                               "quiet batches where q is learned", "change them")
        self.learned, self.drawn = learns != "nothing", "random" in (y, q)
        self.claims = self.claims - ({NO_TRANSPORT} if tied else set()) - ({EXACT_TOP} if top == "bounded" else set())

    def prepare(self, net):
        self.chain = rates(bare(stages(net)))

    def feedback(self, layer, rng):
        W, stage = layer.weight.value, next(stage for stage in self.chain if stage.layer is layer)
        Y = self.put(rng.normal(size=W.shape)) if self.y == "random" else W
        Q = self.put(rng.normal(size=W.shape)) if self.q == "random" else Y
        return Apical(self, stage, None if self.y == "tied" else (self.scale * Y, self.p_b * (self.scale * Q)))

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        *hidden, top = self.chain
        u = top.backward(tape.error, tape) if self.top == "linear" else self.down(
            top, -self.p_b * self.teaching * tape.count * tape.error, tape)
        for stage in reversed(hidden):
            u = self.down(stage, u, tape)
        for layer in self.layers if self.learns == "kp" else ():
            tape.add(layer.feedback.Y, layer.weight.grad)
            tape.add(layer.feedback.Q, self.p_b * layer.weight.grad)

    def down(self, stage, u, tape):
        """u at what a stage puts out -> u at what it takes in, and its gradients on the way."""
        u, e = stage.tail.backward(u, tape), events(stage, tape)
        d = (self.p_b * e - self.probability(gain(stage, e) * u) * e) / (self.p_b * self.teaching * tape.count)
        return stage.pre.backward(d, tape)

    def probability(self, v):
        return self.p_b * (1 + Tanh().f(v / self.p_b))      # 2 p_b sigmoid(2 v / p_b)

    def learn(self, net, tape):
        if not self.quiet:
            super().learn(net, tape)

    def phase(self, net, batches):
        for _ in range(self.quiet):
            tape = next(batches).again(collects=False, records=True)
            tape.output = net.forward(tape.input, tape)
            tape.error = 0 * tape.output                # no teacher
            self.assign(net, tape)
            for layer in self.layers:
                layer.feedback.cancel(layer, *tape.deltas[layer.feedback][0], tape)
            super().learn(net, tape)

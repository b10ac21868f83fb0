"""Equilibrium propagation (EP): the net settles freely, then with its output nudged; the contrast is the gradient.

States s_0 = x, s_1 .. s_L settle to an extremum of  Phi = sum_l <s_l, pool(W_l s_{l-1} + b_l)>  (see settling.py):

    s^0        from zero, T1 sweeps; s^0_L is what the net says
    s^+, s^-   from s^0, T2 sweeps each with the nudge -beta N dloss/ds_L, and with +beta

    dW_l = (outer(s_{l-1}, unpool(s_l)) at s^-  less the same at s^+) / (2 beta N)               bias: unpool(s_l)

As beta -> 0 this is the gradient of the settled output's loss, up to O(beta^2) and (what still moved at s^0) / beta: a
Probe reports it as `unrest`. A last layer without nonlinearity is a read-out beside the dynamics, for softmax: it gets
the loss's own at s^+, s^-.

symmetric    False: s^+ against s^0, over beta N; its error is O(beta)         random_sign  of that one beta, by batch
through      feedback in W's place on the way down, a vector field without Phi; KolenPollack's B gets W's contrast
T2 must exceed the depth, else low layers learn nothing. In float32 beta below 1e-2 loses digits. A tape gets the net's
forward pass as well: a Probe compares with backprop in the feed-forward net. The defaults are ours; published are
beta .1, T1 30, T2 10 (784-512-10) and .5, 250, 30, or with read-out 1, 250, 25 (4 convolutions, CIFAR-10, symmetric).

Kept: nothing but what `through` keeps; no state outlives its batch. W learns once a batch, after all phases.
Source: Scellier and Bengio 2017, Front. Comput. Neurosci. 11:24; these dynamics: Ernoult et al. 2019, NeurIPS 32;
symmetric, with read-out: Laborieux et al. 2021, arXiv 2006.03824; vector field: Scellier et al. 2018, arXiv 1808.04873.
"""
from nplearn.errors import SettingError
from nplearn.rules.backprop import Backprop
from nplearn.rules.checks import choice, number, whole
from nplearn.rules.relaxation import Relaxation
from nplearn.rules.settling import Settling
from nplearn.tape import Tape


class EquilibriumPropagation(Relaxation):
    """beta  the nudge      free_steps, nudged_steps  T1, T2      damping  what stays of a state in a sweep, below 1"""

    idea = "the net settles, is nudged at its output and settles again; the contrast is the gradient"
    paper = "Scellier and Bengio 2017"
    keeps, learns_when = "nothing, or what its feedback keeps", "W every step, after all phases"
    home = {"net_options": {"hidden": [512], "activation": "steep-sigmoid"}, "optimiser": "adam", "lr": 5e-4,
            "decay": 0.0}

    def __init__(self, through=Backprop, beta=0.2, free_steps=40, nudged_steps=12, symmetric=True, random_sign=False,
                 damping=0.0):
        super().__init__(through)
        self.beta, self.damping = number(self, "beta", beta), number(self, "damping", damping, 0)
        self.free_steps = whole(self, "free_steps", free_steps)
        self.nudged_steps = whole(self, "nudged_steps", nudged_steps)
        self.symmetric = choice(self, "symmetric", symmetric, (True, False))
        self.random_sign = choice(self, "random_sign", random_sign, (True, False))
        if beta <= 0 or damping >= 1 or symmetric and random_sign:
            found = f"beta {beta}, damping {damping}, symmetric {symmetric}, random_sign {random_sign}"
            raise SettingError(type(self).__name__, found, "beta above 0, damping below 1, not both of the last true",
                               "change them; one nudge is symmetric=false")

    def prepare(self, net):
        self.settling = Settling(self.chain, self.damping)

    def forward(self, x, tape=None):
        if tape is None:
            tape = Tape(self.net, mode="probe")
            tape.input = x
        else:
            self.net.forward(x, tape)
        return self.settling.output(self.free(tape))

    def free(self, tape):
        """The State after the free phase of this batch, which its tape keeps."""
        if self not in tape.kept:
            tape.keep(self, self.settling.settle(self.settling.start(tape.input, tape), self.free_steps))
        return tape.seen(self)[0]

    def unrest(self, tape):
        return self.settling.unrest(self.free(tape))

    def nudged(self, state, beta, tape):
        """The State after a phase from `state` with its output pulled down the loss, for beta above 0."""
        return self.settling.settle(state, self.nudged_steps, lambda s: -beta * tape.count * self.error(s, tape))

    def error(self, state, tape):
        return tape.loss(self.settling.output(state), tape.labels)[1]

    def signs(self, tape):
        if self.random_sign:
            return (1 - 2 * int(tape.rng(self.chain[-1].layer, "nudge").integers(2)),)
        return (1, -1) if self.symmetric else (1,)

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        free, signs = self.free(tape), self.signs(tape)
        k, scale = len(signs), len(signs) * self.beta * tape.count
        nudged = [self.nudged(free, sign * self.beta, tape) for sign in signs]
        ends = [(state, -sign / scale) for state, sign in zip(nudged, signs, strict=True)]
        ends += [(free, sum(signs) / scale)] if k == 1 else []
        for i, stage in enumerate(self.chain):
            parts = ([(state, share * state.s[i + 1]) for state, share in ends] if i < len(self.settling.stages) else
                     [(state, self.error(state, tape) / k) for state in nudged])
            parts = [(state, self.settling.unpool(i, d, state)) for state, d in parts]
            tape.record(stage.layer, sum(d for _, d in parts))
            for state, d in parts:
                self.read(stage.layer, d, state.up, tape)

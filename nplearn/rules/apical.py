"""What the dendrite of a burst rule hears: bursts through Y, events through Q (see burst.py for the symbols).

    b = p_b (e - s N d)        u = adjoint(b, Y) - adjoint(e, Q)        dQ = -outer(u, e) / N        Y, Q shaped like W
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.errors import BuildError
from nplearn.feedback import Feedback
from nplearn.params import Param

MOVED = {"nothing": "", "q": "Q", "kp": "YQ"}           # what learns, by a rule's option `learns`
GUARD = 1e-8                                            # the least rate of events that k is made for


def rates(chain):
    """The stages, if the activities of all units are rates, but perhaps the output's; else BuildError."""
    for stage in chain:
        f = stage.activation
        if stage is not chain[-1] if f is None else (f.f(np.linspace(-4, 4, 9)) < 0).any():
            raise BuildError(f.path if f else stage.path, f"a {type(f).__name__}" if f else "no nonlinearity",
                             "units whose activity is a rate, 0 or more", "use Sigmoid or ReLU")
    return chain


def events(stage, tape):
    """e of a stage's units: what its nonlinearity put out, or what the loss reads in an output without one."""
    if stage.activation:
        return tape.seen(stage.activation)[0]
    e = tape.loss.probability(tape.output)
    if e is tape.output:
        raise BuildError(stage.path, f"a linear output under {type(tape.loss).__name__}: no rate",
                         "a nonlinearity behind it, or a loss of probabilities",
                         "end the net in a Sigmoid, or use softmax cross-entropy")
    return e


def gain(stage, e):
    """k = f'(a) / e, what a unit's apical potential is multiplied by; 0 where a ReLU is off."""
    f = stage.activation
    return (f.slope(e) if f else 1) / array_module(e).maximum(e, GUARD)


class Apical(Feedback):
    """Carries a delta down as the difference of two rates; of a `stage`, by the settings of a `rule`.
    matrices  Y and Q, or None: then Y is the rule's scale times W of the moment, and Q cancels it
    """

    def __init__(self, rule, stage, matrices):
        self.rule, self.stage = rule, stage
        self.Y, self.Q = map(Param, matrices) if matrices else (None, None)
        self.says = f"bursts through {'a matrix Y' if matrices else 'W'}, events through Q"

    def both(self, layer):
        if self.Y is None:
            Y = self.rule.scale * layer.weight.value
            return Y, self.rule.p_b * Y
        return self.Y.value, self.Q.value

    def heard(self, layer, d, x, tape):
        """u, and the events that it is heard with, both as the layer has them."""
        def make():
            e = self.stage.between.backward(events(self.stage, tape), tape.walk(collects=False))
            b, (Y, Q) = self.rule.p_b * (e - self.rule.teaching * tape.count * d), self.both(layer)
            return layer.adjoint(b, Y, x.shape) - layer.adjoint(e, Q, x.shape), e
        return tape.once(layer, d, make)

    def carry(self, layer, d, x, tape):
        heard = self.heard(layer, d, x, tape)
        tape.record(self, heard)
        return heard[0]

    def collect(self, layer, d, x, tape):
        if self.rule.learns == "q" and not self.rule.quiet:
            self.cancel(layer, *self.heard(layer, d, x, tape), tape)

    def cancel(self, layer, u, e, tape):
        """Q's gradient."""
        tape.add(self.Q, layer.outer(u, e) / -tape.count)

    def effective(self, layer):
        return self.both(layer)[0]

    def params(self):
        return {name: param for name, param in self.arrays().items() if name in MOVED[self.rule.learns]}

    def fixed(self):
        return {name: param.value for name, param in self.arrays().items() if name not in MOVED[self.rule.learns]}

    def arrays(self):
        return {} if self.Y is None else {"Y": self.Y, "Q": self.Q}

    def become_exact(self, layer):
        if self.Y is not None:
            self.Y.value[...] = layer.weight.value
            self.Q.value[...] = self.rule.p_b * layer.weight.value
        return True

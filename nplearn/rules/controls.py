"""Controls: what a comparison of rules needs beside it, so that learning in the last layer alone is not taken for more.

    frozen     every layer below the last weighted one stays as it was drawn; the last learns exactly
    shuffled   backprop whose signal to each hidden layer is dealt to the wrong samples, by one permutation per layer
               and step; the last learns exactly

A rule that does not beat both has taught its hidden layers nothing.
"""
from nplearn.columns import count, permute
from nplearn.feedback import Cut, Feedback
from nplearn.layers import leaves, weighted
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, NOISY, SAMPLES_APART, Rule


class Frozen(Rule):
    idea = "control: hidden layers stay as they were drawn"
    paper, keeps, learns_when = "-", "a copy of the hidden weights", "the last layer every step"
    claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART})
    drawn = False

    def feedback(self, layer, rng):
        return Cut()

    def attach(self, net, seed=0, layers=None):
        super().attach(net, seed, layers)
        last = weighted(net)[-1]
        below = leaves(net)[:leaves(net).index(last)]
        self.start = [(p, p.value.copy()) for layer in below for p in layer.params().values()]
        return self

    def learn(self, net, tape):
        for param, start in self.start:                 # decay would move them
            param.value[...] = start

    def fixed(self):
        return {f"{param.path}.start": start for param, start in self.start}


class Dealt(Feedback):
    """Transport, and then every sample gets another sample's error."""

    says = "backprop's error, dealt to the wrong samples"

    def carry(self, layer, d, x, tape):
        order = tape.rng(layer, "shuffle").permutation(count(x))
        return permute(layer.adjoint(d, layer.weight.value, x.shape), order)


class Shuffled(Rule):
    idea = "control: backprop whose signal is dealt to the wrong samples"
    paper, keeps, learns_when = "-", "nothing", "W every step"
    claims = frozenset({EXACT_TOP, NOISY})

    def feedback(self, layer, rng):
        return Dealt()

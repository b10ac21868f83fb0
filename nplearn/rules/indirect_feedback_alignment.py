"""Indirect feedback alignment (IFA): the output error goes to the first hidden layer, and up through forward weights.

With e (K, N) the output error, h_l the activity behind the nonlinearity f_l at a_l:

    d_1 = f_1'(a_1) (B_1' e)
    d_l = f_l'(a_l) apply(d_{l-1}, W_l)       l = 2 .. L-1, without the bias: the tangent of h_l for a change d_1 of h_1
    dW_l = outer(h_{l-1}, d_l)                d_L is the loss's own

Between a nonlinearity and the next weighted layer (pooling, Flatten, Dropout) the change goes up by the layers' own
tangent, under max-pooling from where the pass found its maximum. What stands between a weighted layer and its
nonlinearity (BatchNorm) passes it up as well, and d_l down from the nonlinearity to the weighted layer.

carry  "W", or "B": a second fixed random matrix of W_l's kind in the place of W_l on the way up

Kept: B_1 (K, size of h_1), U(-m, m), m = 1 / sqrt(size); with carry="B" a matrix for each layer between the first and
the last. All fixed. W learns every step.
Source: Nokland 2016, arXiv 1609.01596; that W_l and not another matrix carries up is how public code has it.
"""
from math import prod

from nplearn.backend import stream
from nplearn.columns import batch_shape, over_channels
from nplearn.feedback import Cut
from nplearn.layers import stages
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, SAMPLES_APART, Rule
from nplearn.rules.checks import bare, choice, outputs


class IndirectFeedbackAlignment(Rule):
    walk = "nothing: the layer below had its error from further below"
    idea = "the output error goes to the first hidden layer, and from there up through the forward weights"
    paper = "Nokland 2016"
    keeps, learns_when = "B of the first hidden layer, fixed", "W every step"
    claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART, NEEDS_CHAIN})
    home = {"optimiser": "adam", "lr": 1e-3, "decay": 0.0, "net_options": {"activation": "tanh"}}

    def __init__(self, carry="W"):
        super().__init__()
        self.carry = choice(self, "carry", carry, ("W", "B"))

    def prepare(self, net):
        self.chain, self.B, self.carried, K = bare(stages(net)), None, {}, outputs(net, self)
        self.site = self.chain[0].front[-1].out_shape   # of h_1
        for stage in self.chain[1:]:
            rng = stream(self.seed, "feedback", stage.path)
            if stage is self.chain[1]:                  # drawn from its stream: with one hidden layer B_1 is DFA's
                m = prod(self.site) ** -0.5
                self.B = self.put(rng.uniform(-m, m, (K, prod(self.site))))
            if self.carry == "B" and stage is not self.chain[-1]:
                self.carried[stage.layer] = stage.layer.draw(rng)

    def feedback(self, layer, rng):
        return Cut()

    def fixed(self):
        return ({} if self.B is None else {"B": self.B}) | {f"{layer.path}.B": B for layer, B in self.carried.items()}

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        up = tape.walk(up=True)
        for stage in self.chain[:-1]:
            if stage is self.chain[0]:
                v = over_channels(self.B.T, tape.error).reshape(batch_shape(self.site, tape.error))
            else:
                for layer in stage.front:
                    v = layer.apply(v, self.carried[layer]) if layer in self.carried else layer.tangent(v, up)
            if stage.activation:
                v = stage.activation.tangent(v, up)
            stage.pre.backward(v, tape)                 # every weighted layer holds a Cut
            v = stage.tail.tangent(v, up)
        self.chain[-1].backward(tape.error, tape)

"""PEPITA: a second pass whose input is modulated by the output error; the change of an activity teaches its layer.

With y the output, e (K, N) = N dLoss/dy, h_l and k_l the activities of the first pass and of the second, which is of
the same batch under the same Dropout masks:

    k_0 = x + F e
    dW_l = outer(k_{l-1}, (h_l - k_l) / N)       l = 1 .. L-1; no derivative of the nonlinearity
    dW_L = outer(k_{L-1}, d_L)                   d_L from the error of the second pass, or of the first

To first order in F this is indirect feedback alignment with the adaptive feedback  -W_1 F  in the place of B_1.
An activity is taken behind the nonlinearity and Dropout, before pooling; what stands between a weighted layer and its
nonlinearity passes the change down exactly. Biases get the sum of the same deltas (the official nets have none).

scale      F ~ scale U(+-sqrt(6 / n_0)), n_0 the size of the input
out_error  "second", as in the official dense nets, or "first", as in its nets with one dense layer behind convolutions
positions  a convolution's gradient over its S output positions: "mean", "root" (sum / sqrt(S)) or "sum"

Kept: F (n_0, K), fixed. W learns every step, from two passes.
Source: Dellaferrera and Kreiman 2022, ICML, arXiv 2201.11665, and its code, which counts the Dropout mask twice.
"""
from math import prod

from nplearn.backend import stream
from nplearn.columns import over_channels
from nplearn.feedback import Cut
from nplearn.layers import activities, stages
from nplearn.rules.base import NEEDS_CHAIN, NO_TRANSPORT, SAMPLES_APART, Rule
from nplearn.rules.checks import bare, choice, number, outputs

POSITIONS = {"mean": 1, "root": 0.5, "sum": 0}


class Pepita(Rule):
    walk = "how a second pass changed the activity below"
    idea = "the output error modulates the input of a second pass, and each layer learns from its change"
    paper = "Dellaferrera and Kreiman 2022"
    keeps, learns_when = "F from the output to the input, fixed", "W every step, from two passes"
    claims = frozenset({NO_TRANSPORT, SAMPLES_APART, NEEDS_CHAIN})

    def __init__(self, scale=0.05, out_error="second", positions="mean"):
        super().__init__()
        self.scale = number(self, "scale", scale, least=0)
        self.out_error = choice(self, "out_error", out_error, ("first", "second"))
        self.positions = choice(self, "positions", positions, POSITIONS)

    def prepare(self, net):
        self.chain, n = bare(stages(net)), prod(net.in_shape)
        F = stream(self.seed, "feedback", "input").uniform(-1, 1, (n, outputs(net, self)))
        self.F = self.put(self.scale * (6 / n) ** 0.5 * F)

    def feedback(self, layer, rng):
        return Cut()

    def fixed(self):
        return {"F": self.F}

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        second = tape.again(joins=True)                 # its gradients are this walk's
        second.input = tape.input + over_channels(self.F, tape.error * tape.count).reshape(tape.input.shape)
        second.output = net.forward(second.input, second)
        error = tape.error if self.out_error == "first" else second.loss(second.output, tape.labels)[1]
        up, first, then = second.walk(up=True), activities(self.chain, tape), activities(self.chain, second)
        for stage, h, k in zip(self.chain[:-1], first[1:-1], then[1:-1], strict=True):
            if stage.activation:
                h, k = (each.seen(stage.activation)[0] for each in (tape, second))
            d = (h - k) / (tape.count * stage.layer.uses ** POSITIONS[self.positions])
            for layer in stage.behind:
                if layer.out_shape != layer.in_shape:
                    break
                d = layer.tangent(d, up)                # Dropout: the mask that both activities have, once
            stage.pre.backward(d, second)               # every weighted layer holds a Cut
        self.chain[-1].backward(error, second)

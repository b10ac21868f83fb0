"""Forward-Forward (FF): a layer learns to be active on data with the right label and quiet on data with a wrong one.

A sample carries a label: its first C copies numbers are overwritten by `scale` times the one-hot label, `copies` times.
For each hidden layer, with h its activity and z its normalised input (a Normalise stands in front), n units, N samples,
u = 1 for the right label and 0 for a wrong one, drawn anew each step:

    G  = sum h^2            p = sigmoid(G - theta n)                       goodness; p: how surely the label is right
    dh = h (p - u) / N      gradient of the mean over 2 N samples of  -u log p - (1 - u) log(1 - p)
    d  = f'(a) dh           dW = outer(z, d), both passes added            nothing goes further down

The last weighted layer is a linear read-out of h_{L-1}: it learns from the loss of a third, neutral pass, whose label
is 1/C each; that is the pass that a training step makes and reports.

predict  "goodness": the output at label c is the goodness, with c in front, of all hidden layers but the `skip` lowest
         "readout": the output of the neutral pass
scale    5 shows beside many inputs of unit variance; the paper has 1 beside pixels from 0 to 1
The paper's read-out hears all hidden layers but the lowest, and it has peer normalisation. Adam at 2e-3 is ours.
Kept: nothing. W learns every step, each layer for itself.
Source: Hinton 2022, The Forward-Forward Algorithm, arXiv 2212.13345; code read: loeweX/Forward-Forward.
"""
from math import prod

import numpy as np

from nplearn.columns import as_features, beside, draw_rows, one_hot, replace_first, sample_sum
from nplearn.errors import BuildError
from nplearn.feedback import Cut
from nplearn.layers import Sigmoid, stages
from nplearn.layers.stages import chain_of
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, NOISY, Rule
from nplearn.rules.checks import choice, number, outputs, whole


class ForwardForward(Rule):
    walk = "nothing: the layer below judges its own activity"
    idea = "each layer is active on data with the right label and quiet on data with a wrong one"
    paper, keeps, learns_when = "Hinton 2022", "nothing", "W every step"
    claims = frozenset({NO_TRANSPORT, EXACT_TOP, NEEDS_CHAIN, NOISY})
    drawn = False
    home = {"net": "ff", "optimiser": "adam", "lr": 2e-3, "decay": 0.0}

    def __init__(self, theta=1.0, predict="goodness", skip=1, copies=1, scale=5.0):
        super().__init__()
        self.predict = choice(self, "predict", predict, ("goodness", "readout"))
        self.theta, self.skip = number(self, "theta", theta, 0), whole(self, "skip", skip, 0)
        self.copies, self.scale = whole(self, "copies", copies), number(self, "scale", scale)

    def prepare(self, net):
        (*hidden, self.top), C, room = stages(net), outputs(net, self), prod(net.in_shape)
        if not hidden or room <= C * self.copies:
            raise BuildError(type(self).__name__, f"{len(hidden)} hidden layers on {room} numbers",
                             f"one or more, on more than {C * self.copies} numbers: those tell the label", "add some")
        for stage in hidden:
            if stage.activation is None or not any(layer.forgets_length for layer in stage.behind):
                raise BuildError(stage.path, "no nonlinearity and Normalise behind it",
                                 "both, lest the next layer reads off what this one found", "use the net ff")
        self.hidden = [(chain_of([*stage.front, stage.activation]), stage.tail) for stage in hidden]
        self.labels = [self.put(label) for label in np.eye(C)[..., None]]
        self.neutral = self.put(np.full((C, 1), 1 / C))

    def feedback(self, layer, rng):
        return Cut()

    def embed(self, x, label):
        return replace_first(x, self.scale * label, self.copies)

    def activities(self, x, label, tape=None):          # [h_1, ..., h_{L-1}]
        z, found = self.embed(x, label), []
        for layer, normalise in self.hidden:
            found.append(layer.forward(z, tape))
            z = normalise.forward(found[-1], tape)
        return found

    def goodness(self, x, label):
        """(T, nb): what the layers that count find of x with that label."""
        counted = self.activities(x, label)[min(self.skip, len(self.hidden) - 1):]
        return sum(sample_sum(h * h) for h in counted)

    def forward(self, x, tape=None):
        if tape is None and self.predict == "goodness":
            return as_features([self.goodness(x, label) for label in self.labels])
        return self.net.forward(self.embed(x, self.neutral), tape)

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        self.top.backward(tape.error, tape)
        for labels, u in (tape.labels, 1), (self.wrong(tape), 0):
            now, label = tape.again(joins=True), one_hot(labels, len(self.labels), tape.input.dtype)
            for (layer, _), h in zip(self.hidden, self.activities(tape.input, label, now), strict=True):
                p = Sigmoid().f(sample_sum(h * h) - self.theta * prod(layer.out_shape))
                layer.backward(h * beside((p - u) / tape.count, h), now)

    def wrong(self, tape):
        """Another label for each sample, each other one as likely."""
        if tape.labels.dtype.kind not in "iu":
            raise BuildError(type(self).__name__, f"targets of {tape.labels.dtype}", "classes", "give class labels")
        rng, C = tape.rng(self.top.layer, "wrong label"), len(self.labels)
        return (tape.labels + draw_rows(lambda shape: rng.integers(1, C, shape), tape.labels)) % C

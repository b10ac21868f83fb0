"""Local losses (pred, sim, predsim): every hidden layer has a small head and a loss on its output; no error goes down.

With x the input of a weighted layer, which is what the layers below it put out, N samples and labels t:

    L_pred = loss(V p(x) + c, t)                  as the net's own loss; V starts at zero
    L_sim  = mean (S(P x) - S(t))^2               S(z)_ij the adjusted cosine of samples i and j, see similarity.py
    error at x = dL/dx,  L = (1 - beta) L_pred + beta L_sim                 (pred: L_pred alone, sim: L_sim alone)

from there to the layer below exactly, and no further; the last layer learns from (1 - beta) loss (pred, sim: loss).
P is dense n x n, or a 3x3 convolution on maps; p averages maps over windows until `width` numbers are left at most.
sim compares the samples of a batch: gradients of two half batches do not make that of the whole.
Nets may divide: shortcuts carry nothing, so that each layer has the signal of the first loss above it and no other.
A loss in front of a pool, a dropout or a Flatten (behind which a map is features, and P n x n) needs a Port there:
attach(net, seed, [net.layers[2], ...]), with all that are to have a loss.

heads   "predsim", "pred" or "sim"    beta  share of sim in predsim    width  the most numbers that a pred head reads
Kept: V, c, P of every hidden layer; they learn every step, from their own layer's loss.
Source: Nokland and Eidnes 2019, arXiv 1901.06656, and its code (local-loss): Adam at 5e-4, leaky ReLU (pred: ReLU).
There W_L starts at zero and c does not, and BatchNorm stands in every layer; the net mlp has none.
"""
from nplearn.columns import outside
from nplearn.errors import BuildError, SettingError
from nplearn.feedback import Cut, Feedback
from nplearn.layers import everything, holders, residuals
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, SAMPLES_APART, Rule
from nplearn.rules.checks import choice, number, outputs, whole
from nplearn.rules.heads import grown, pred, sim
from nplearn.rules.similarity import mismatch


class LocalLoss(Feedback):
    """Carries the gradient of a loss on the layer's own input; the delta from above is not read."""

    says = "the gradient of a loss on the layer's own input"

    def __init__(self, heads):
        self.heads = heads                              # {name: (head, its share of the loss)}

    def carry(self, layer, d, x, tape):
        now = tape.again(joins=True, collects=tape.collects)
        losses = {"pred": lambda y: tape.loss(y, tape.labels), "sim": lambda z: mismatch(z, tape.target)}
        return sum(head.backward(share * losses[name](head.forward(x, now))[1], now)
                   for name, (head, share) in self.heads.items())

    def params(self):
        return {f"head.{name}.{key}": param for name, (head, _) in self.heads.items()
                for layer in everything(head) for key, param in layer.params().items()}


class LocalLosses(Rule):
    idea = "every hidden layer learns from a loss on its own output"
    paper = "Nokland and Eidnes 2019"
    keeps, learns_when = "a head per hidden layer, learned", "W and the heads every step"
    learned = True
    home = {"optimiser": "adam", "lr": 5e-4, "decay": 0.0, "net_options": {"activation": "leaky-relu"}}

    def __init__(self, heads="predsim", beta=0.99, width=4096, optimiser=None):
        super().__init__(optimiser)
        self.heads = choice(self, "heads", heads, ("predsim", "pred", "sim"))
        self.beta, self.width = number(self, "beta", beta), whole(self, "width", width)
        if not 0 < self.beta < 1:
            raise SettingError(type(self).__name__, f"beta {beta}", "a number between 0 and 1",
                               "for one loss alone use pred or sim")
        self.shares = {"pred": {pred: 1}, "sim": {sim: 1}, "predsim": {pred: 1 - self.beta, sim: self.beta}}[heads]
        self.claims = frozenset({NO_TRANSPORT, *([] if heads == "predsim" else [EXACT_TOP]),
                                 *([SAMPLES_APART] if heads == "pred" else [])})
        self.drawn = heads != "pred"

    def prepare(self, net):
        self.classes = outputs(net, self)
        self.across = [holder for block in residuals(net) if {*everything(block.branch)} & {*self.layers}
                       for holder in holders(block.shortcut)]
        for holder in self.across:
            holder.feedback = Cut()

    def feedback(self, layer, rng):
        if layer in self.across:
            return Cut()
        if layer.other_shapes:
            raise BuildError(layer.path, f"inputs of {outside(layer.in_shape)} and, at another place, "
                             f"{outside(layer.other_shapes[0])}",
                             "one shape, which its head reads", "use a layer of its own at the second place")
        return LocalLoss({kind.__name__: (grown(kind, layer, self.classes, self.width, self.seed, self.net), share)
                          for kind, share in self.shares.items()})

    def assign(self, net, tape):
        self.check(net)
        net.backward(self.shares.get(pred, 1) * tape.error, tape)

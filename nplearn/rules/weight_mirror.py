"""Weight mirror (WM): off-line, noise at a layer's input and its response are correlated as W is, and B adds that up.

Training leaves B alone. In a mirror batch every layer that sends has M noise inputs of its own (noise that came through
other layers would not be white), of variance v = amp^2 / 12:

    x  = amp (U(0, 1) - 1/2)          y = f(W x + b) - f(b)           centre: less the response to no input
    dB = rate outer(x, y) / n         n = outer(1, 1) of one sample   tap_normalise: a weight's uses, zero padding apart
    B  <- (1 - lam) B + dB            E[dB] = rate M v f'(b) W        as long as noise is small

growth  "decay": lam = `decay`, or rate M v, with which B -> W for linear y      "none" (as published): without bound
        "renorm": lam = 0, then B <- B / (2 s), s = mean over samples of the standard deviation of adjoint(U(0, 1), B)
unit    f, the neurons' own nonlinearity: "linear", "relu", "tanh" or "sigmoid"; biases count, normalisation does not
samples M in a mirror batch; `rate` is per sum over them
warm    mirror batches before training, None for those of one epoch; then one after every `every`-th update

Kept: B, shaped like W and drawn by its law; it has no optimiser. W learns every step, B in the mirror phase.
Source: Akrout et al. 2019, arXiv 1904.05391; as published (784-500-10) is centre=False, unit="sigmoid", growth="none",
tap_normalise=False. There a rescaling was meant after each mirror phase ("renorm") and, by a slip, never took effect.
"""
import numpy as np

from nplearn.backend import stream
from nplearn.columns import columns, outside, sample_std
from nplearn.errors import SettingError
from nplearn.feedback import Matrix
from nplearn.layers import ReLU, Sigmoid, Tanh
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, REDUCES, SAMPLES_APART, Rule
from nplearn.rules.checks import choice, number, whole

GROWTHS = "none", "decay", "renorm"
UNITS = {"linear": lambda a: a, "relu": ReLU().f, "tanh": Tanh().f, "sigmoid": Sigmoid().f}


class WeightMirror(Rule):
    idea = "feedback adds up what noise at a layer's input and its response say of W"
    paper = "Akrout et al. 2019"
    keeps, learns_when = "B, learned", "W every step, B in mirror batches between steps"
    claims = frozenset({NO_TRANSPORT, REDUCES, EXACT_TOP, SAMPLES_APART})
    learned = True

    def __init__(self, rate=0.01, amp=0.1, samples=128, unit="linear", centre=True, growth="decay", decay=None,
                 tap_normalise=True, warm=None, every=1):
        super().__init__()
        self.unit, self.growth = choice(self, "unit", unit, UNITS), choice(self, "growth", growth, GROWTHS)
        self.centre = choice(self, "centre", centre, (True, False))
        self.tap_normalise = choice(self, "tap_normalise", tap_normalise, (True, False))
        self.rate, self.amp = number(self, "rate", rate, 0), number(self, "amp", amp, 0)
        self.samples, self.every = whole(self, "samples", samples), whole(self, "every", every)
        self.warm = warm if warm is None else whole(self, "warm", warm, 0)
        self.decay = decay if decay is None else number(self, "decay", decay, 0)
        lam = self.rate * self.samples * self.amp ** 2 / 12 if decay is None else self.decay
        self.lam = lam if growth == "decay" else 0
        if self.lam >= 1 or (decay is not None and growth != "decay"):
            raise SettingError(type(self).__name__, f"growth {growth}, decay {lam:g}",
                               "a decay below 1 (by itself rate samples amp^2 / 12), of growth decay", "lower the rate")

    def prepare(self, net):
        self.uses = {}

    def feedback(self, layer, rng):
        self.uses[layer] = self.uses_of(layer) if self.tap_normalise and layer.spatial else 1
        return Matrix(layer.draw(rng), learns=True)

    def uses_of(self, layer):
        """How often a sample uses each weight: less often where its tap stands in the padding."""
        x, y = (self.put(columns(np.ones((1, *outside(shape))))) for shape in (layer.in_shape, layer.out_shape))
        return layer.outer(x, y).clip(1)                # 1: a tap that never meets the map

    def follow(self, optimiser):
        pass                                            # B moves by the rule's own step

    def learn(self, net, tape):
        pass

    def phase(self, net, batches):
        if batches.step == 0:
            turns = batches.per_epoch if self.warm is None else self.warm
        else:
            turns = 1 if batches.step % self.every == 0 else 0
        for turn in range(turns):
            for layer in self.layers:
                self.mirror(layer, stream(self.seed, "mirror", batches.step, turn, layer.path))

    def mirror(self, layer, rng):
        f, W, B = UNITS[self.unit], layer.weight.value, layer.feedback.matrix.value
        b = layer.bias.value if layer.bias else W.dtype.type(0)
        x = self.amp * (self.uniform(layer.in_shape, rng) - 0.5)
        y = f(layer.apply(x, W) + b)
        if self.centre:
            y -= f(b)
        B *= 1 - self.lam
        B += self.rate * layer.outer(x, y) / self.uses[layer]
        if self.growth == "renorm":
            B *= 0.5 / sample_std(layer.adjoint(self.uniform(layer.out_shape, rng), B, x.shape)).mean()

    def uniform(self, shape, rng):
        """Noise from 0 to 1 for a mirror batch, drawn in the order of rows."""
        return self.put(columns(rng.random((self.samples, *outside(shape))), self.net.chunk(self.samples)))

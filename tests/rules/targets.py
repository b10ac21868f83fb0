"""What the tests of rules with targets share: linear nets, white data and noise, given inverses."""
import numpy as np

from nplearn.columns import count, rows
from nplearn.layers import Dense, LeakyReLU, Sequential
from nplearn.losses import SquaredError
from nplearn.optim import Adam
from nplearn.rules import (
    AuxiliaryOutput,
    DifferenceReconstruction,
    DifferenceTargetPropagation,
    DirectDifferenceReconstruction,
    FixedWeightTargetPropagation,
    Frozen,
    LocalDifferenceReconstruction,
    SimplifiedDifferenceTargetPropagation,
    TargetPropagation,
)
from nplearn.tape import Tape
from nplearn.testing.trial import copies, ready
from tests.helpers import slope
from tests.rules.smoke import mlp, teacher, trained

LEARNED = {"tp": TargetPropagation, "dtp": DifferenceTargetPropagation, "sdtp": SimplifiedDifferenceTargetPropagation,
           "ao-sdtp": AuxiliaryOutput, "l-drl": LocalDifferenceReconstruction, "drl": DifferenceReconstruction,
           "ddtp": DirectDifferenceReconstruction}
RULES = {**LEARNED, "fw-dtp": FixedWeightTargetPropagation}
SCHEDULED = [name for name in LEARNED if name != "l-drl"]
DIFFERENCE = [name for name in RULES if name != "tp"]


def linear(*widths, seed=0):
    """Dense layers one after the other, without nonlinearity."""
    return ready(Sequential(**{f"fc{i}": Dense(n) for i, n in enumerate(widths[1:], 1)}), (widths[0],), seed)


def square(n=5, layers=4, seed=0):
    """Layers n to n whose nonlinearity can be undone, and weights far from singular."""
    named = {}
    for i in range(1, layers + 1):
        named |= {f"fc{i}": Dense(n), f"act{i}": LeakyReLU(0.5)}
    net, rng = ready(Sequential(**named), (n,), seed), np.random.default_rng(seed)
    for layer in net.layers[::2]:
        layer.weight.value[...] = np.linalg.qr(rng.normal(size=(n, n)))[0] * rng.uniform(0.5, 2, n)
        layer.bias.value[...] = rng.normal(size=(n, 1))
    return net


class Map:
    """Stands where an inverse stands and computes what it is told."""

    def __init__(self, function):
        self.function = function

    def forward(self, t, tape=None):
        return self.function(t)


def exact_inverses(rule):
    """Put g_l = f_l^-1 in the place of every inverse, for nets of `square`."""
    def undone(stage):
        W, b = stage.layer.weight.value, stage.layer.bias.value
        return Map(lambda t: np.linalg.solve(W, np.where(t > 0, t, t / 0.5) - b))
    for i in rule.g:
        rule.g[i] = undone(rule.f[i])


def weights(rule, i):
    """V of g_i, shaped like the weight of f_i."""
    return next(layer.weight for layer in rule.g[i].layers if hasattr(layer, "weight"))


def white(n, samples, seed=0):
    """(samples, n) rows with exact second moments: X' X = samples I."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(samples, n)))[0] * samples ** 0.5


def attached(net, rule, inputs, labels, loss=None, seed=0):
    """(rule, begun and run tape)"""
    rule.attach(net, seed)
    tape = Tape(net, loss or SquaredError()).begin(inputs, labels, seed=(seed, 0))
    tape.run(rule)
    return rule, tape


def targets(rule, tape):
    """(h, {l: t_l}) as the rule has them on this pass."""
    rule.begin_walk(rule.net, tape)
    h, now = rule.read(tape), tape.again()
    down = rule.f[-1].backward(rule.error(tape), tape)
    return h, rule.targets(h, rule.back(h, now), down, tape)


def fitted(rule, tape):
    """{path: gradient} of the inverses on this pass."""
    now = tape.again()
    now.run(rule.net)
    h = rule.read(now)
    rule.fit(h, rule.back(h, now), now)
    return copies({path: param.grad for path, param in rule.params().items()})


def assert_gradients_are_slopes(rule, gradients, loss, tolerance=1e-7, seed=0):
    """Every gradient, along a random direction, is the slope of loss(path)."""
    rng = np.random.default_rng(seed)
    for path, param in rule.params().items():
        direction = rng.normal(size=param.value.shape)
        wanted = slope(lambda path=path: loss(path), param, direction)
        assert abs((gradients[path] * direction).sum() - wanted) <= tolerance * max(abs(wanted), 1e-3), path


def per_sample(x):
    """The mean over samples of the sum of squares."""
    return (rows(x) ** 2).sum() / count(x)


def relative(found, wanted):
    return abs(found - wanted).max() / abs(wanted).max()


def adam(lr):
    return lambda arena: Adam(arena, lr=lr)


def error(rule, lr, epochs=15):
    """Training error in percent on the teacher's task, the mean of two seeds; rule() makes the rule."""
    return np.mean([100 - 100 * trained(rule(), mlp(64, 48, 32, 16, 10, seed=s), teacher(), lr=lr, epochs=epochs,
                                        drop=None, seed=s) for s in (0, 1)])


def beats_frozen_layers(rule, epochs=2):
    """By how much a short training is better than one of the last layer alone."""
    accuracy = [trained(each, mlp(64, 48, 32, 16, 10), teacher(2000), lr=1e-2, epochs=epochs, drop=None)
                for each in (rule, Frozen())]
    return accuracy[0] - accuracy[1]

"""Where each rule of the registry can be tried: the contract's nets that it takes, or nets and a loss of its own kind.
"""
from functools import cache

from nplearn.errors import BuildError
from nplearn.losses import SoftmaxCrossEntropy, SquaredError
from nplearn.nets import mlp, normalised_mlp, square, vector
from nplearn.rules import registry
from nplearn.testing.trial import NETS, ready

OWN = {                                                 # rule: (nets, loss)
    "gait": ({"square": lambda seed=0: ready(square(4, 9, hidden=2), (9,), seed)}, SquaredError()),
    "ff": ({"normalised": lambda seed=0: ready(normalised_mlp(4, (9, 7, 8)), (12,), seed)}, SoftmaxCrossEntropy()),
    "burst": ({"sigmoid": lambda seed=0: ready(mlp(4, (9, 7), "sigmoid", output="sigmoid"), (6,), seed)},
              SquaredError()),
    "gevb": ({"vector": lambda seed=0: ready(vector(4, (8, 6)), (7,), seed)}, SoftmaxCrossEntropy()),
}
KINDS = {**NETS, **{kind: build for nets, _ in OWN.values() for kind, build in nets.items()}}


@cache
def refused(text, kind):
    """What the rule says to a net that it does not take, or ""."""
    try:
        registry.make(text).attach(KINDS[kind](0))
    except BuildError as error:
        return str(error)
    return ""


def name_of(text):
    return text.partition(":")[0]


def nets_of(text):
    """{kind: build} of the nets on which a rule is tried."""
    if name_of(text) in OWN:
        return OWN[name_of(text)][0]
    return {kind: build for kind, build in NETS.items() if not refused(text, kind)}


def loss_of(text):
    return OWN[name_of(text)][1] if name_of(text) in OWN else SoftmaxCrossEntropy()


def pairs(texts, kinds=None):
    """[(rule, kind)] of all that go together; of these kinds alone, where some are given."""
    return [(text, kind) for text in texts for kind in nets_of(text) if kinds is None or kind in kinds]

"""Feedback that says it is linear in the delta is; rules whose errors settle refuse the rest."""
import numpy as np
import pytest

from nplearn.columns import draw_rows
from nplearn.errors import BuildError
from nplearn.feedback import Transport
from nplearn.layers import holders, weighted
from nplearn.rules import registry
from nplearn.testing.trial import Trial, dense_net
from tests.homes import KINDS, pairs

UNEVEN = ["rf:start=random,rescale=preserve", "rf:start=random,rescale=clip,most=0.01", "rf-exact:rescale=preserve",
          "ndi:clip=0.01", "di:clip=0.01"]
EVEN = [*registry.RULES, "rf:start=random", "rf:start=random,rescale=none", "rf-exact:gate=divide"]


def carried(name, build):
    """For every layer whose feedback stands for a matrix: (feedback, delta -> what it sends, a delta to send)."""
    trial = Trial(build, lambda: registry.make(name))
    trial.run()
    trial.assign()
    for layer in weighted(trial.net):
        if layer in holders(trial.net) and layer.feedback.effective(layer) is not None:
            x = trial.tape.seen(layer)[0]
            yield (layer.feedback, lambda d, x=x, on=layer: on.feedback.carry(on, d, x, trial.tape.again()),
                   layer.forward(x))


@pytest.mark.parametrize("name, kind", pairs([*EVEN, *UNEVEN], ("dense", "map")))
def test_what_is_said_to_be_linear_is(name, kind):
    found = list(carried(name, KINDS[kind]))
    rng = np.random.default_rng(0)
    for feedback, carry, like in found:
        d, e = draw_rows(rng.standard_normal, like), draw_rows(rng.standard_normal, like)
        even = np.allclose(carry(d + e), carry(d) + carry(e), 1e-9, 1e-12)
        assert even == feedback.linear == (name not in UNEVEN or isinstance(feedback, Transport))
    assert name not in UNEVEN or not all(feedback.linear for feedback, *_ in found)


@pytest.mark.parametrize("name", UNEVEN)
@pytest.mark.parametrize("settles", ["pc", "fpa", "zil", "ep"])
def test_rules_whose_errors_settle_refuse_what_is_not(settles, name):
    kind = type(registry.make(settles))
    with pytest.raises(BuildError, match="fc2: feedback that is .*, not linear in the delta"):
        kind(registry.make(name)).attach(dense_net(0), 0)
    kind(registry.make("rf")).attach(dense_net(0), 0)

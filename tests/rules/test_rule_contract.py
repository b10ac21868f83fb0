"""The contract on every rule, variant and mixture, and how many checks that is."""
import numpy as np
import pytest

from nplearn.errors import BuildError
from nplearn.layers import BatchNorm, Port, leaves, residuals, weighted
from nplearn.losses import SquaredError
from nplearn.rules import (
    NO_TRANSPORT,
    NOISY,
    SAMPLES_APART,
    Backprop,
    BatchRandomSignConcordant,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    KolenPollack,
    Mixed,
    ProductFeedbackAlignment,
    Rule,
    UniformSignConcordant,
    registry,
)
from nplearn.testing.rules import ALWAYS, CLAIMS, UNLESS_CONTROL, check_rule, words
from nplearn.testing.trial import NETS, dense_net, residual_net
from tests.homes import OWN, loss_of, nets_of

FIRST = "backprop", "fa", "dfa", "usf", "brsf", "frsf", "kp", "pfa", "pfa-o"     # two seeds here, the others one
VARIANTS = ["dfa:form=biotorch", "dfa:residual=pure", "dfa:residual=block", "dfa:form=biotorch,residual=pure",
            "dfa:form=biotorch,residual=block", "dfa:scale=0.5", "pfa:path=direct", "pfa:path=collapsed",
            "pfa:density=0.3", "pfa:expand=3,lift=orthogonal,lower=aligned", "pfa-o:lift=identity",
            "usf:scale=sign-symmetry", "usf:scale=1", "frsf:scale=sign-symmetry", "frsf:scale=1",
            "brsf:scale=sign-symmetry", "brsf:scale=1", "fa:scale=2"]
MIXTURES = {                                            # name: rule, nets in which every pattern finds a layer
    "one rule": (lambda: Mixed({"*": FeedbackAlignment()}), "dense stride map norm residual"),
    "signs below, backprop on top": (lambda: Mixed({"fc*": Backprop(), "*": UniformSignConcordant()}),
                                     "stride map norm residual"),
    "two that learn": (lambda: Mixed({"*conv*": ProductFeedbackAlignment(expand=2), "*": KolenPollack()}),
                       "stride map norm residual"),
    "broadcast and draws": (lambda: Mixed({"fc*": BatchRandomSignConcordant(), "*": DirectFeedbackAlignment()}),
                            "stride map norm residual")}


def checks(text, seeds, control=False):
    """How many checks a rule that passes has seen, from what the contract promises."""
    rule, nets = registry.make(text), nets_of(text)
    per_net = 4 + 8 + (NO_TRANSPORT in rule.claims) + (not control) * (2 - (NOISY in rule.claims))
    apart = [kind for kind in nets if not any(isinstance(layer, BatchNorm) for layer in leaves(nets[kind](0)))]
    return seeds * (len(nets) * per_net + len(apart))   # samples apart: judged where a net's own samples do not meet


def kept(text, contract, seeds, control=False):
    """The contract holds on every net that the rule takes; the contract's own nets it refuses in words, or not."""
    nets = NETS if text.partition(":")[0] not in OWN else nets_of(text)
    report = contract(lambda: registry.make(text), nets, seeds, loss_of(text), control)
    assert report.count == int(report) == checks(text, len(seeds), control)
    assert report.refused.keys() == set(nets) - nets_of(text).keys()
    for why in report.refused.values():
        assert why.count("; ") >= 2 and "expected" in why


@pytest.mark.parametrize("name", [n for n in registry.names(controls=True) if n in registry.RULES | registry.CONTROLS])
def test_every_rule_keeps_the_contract(name, contract):
    kept(name, contract, (0, 1) if name in FIRST else (0,), control=name in registry.CONTROLS)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_keeps_the_contract(name, contract):
    kept(name, contract, (2,))


@pytest.mark.parametrize("name", OWN)
def test_rules_of_nets_of_their_own_refuse_the_others_in_words(name):
    for build in NETS.values():
        with pytest.raises(BuildError, match=r".+: .+; expected .+; .+\."):
            registry.make(name).attach(build(0))


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_keep_the_contract(name, contract):
    factory, nets = MIXTURES[name]
    report = contract(factory, {net: NETS[net] for net in nets.split()}, seeds=(3,))
    judges = len({"dense", "stride", "map"} & set(nets.split()))
    assert report.count == len(nets.split()) * (14 + (NO_TRANSPORT in factory().claims)) + judges


@pytest.mark.long
@pytest.mark.parametrize("name", [*registry.RULES, *registry.CONTROLS, *VARIANTS])
def test_the_contract_holds_for_many_seeds(name, contract):
    kept(name, contract, range(10, 18), control=name in registry.CONTROLS)


def test_the_contract_cannot_shrink_unseen():
    assert len(CLAIMS) == 5 and len(ALWAYS) == 9 and len(UNLESS_CONTROL) == 2 and len(NETS) == 5
    report = check_rule(FeedbackAlignment, seeds=[0])
    per_net = dict.fromkeys([*CLAIMS, *map(words, ALWAYS + UNLESS_CONTROL)], 5) | {SAMPLES_APART: 3}
    assert dict(report.clauses) == per_net and report.count == 78


def test_a_report_prints_its_counts(capsys):
    report = check_rule(FeedbackAlignment, {"dense": dense_net}, seeds=[5])
    printed = capsys.readouterr().out
    assert "FeedbackAlignment: 16 checks on dense, seeds [5]" in printed and str(report) in printed
    assert all(clause in printed for clause in report.clauses)


def test_the_nets_of_the_contract_can_catch_what_they_are_for():
    nets = {name: build(0) for name, build in NETS.items()}
    for net in nets.values():
        layers, hidden = weighted(net), [layer for layer in leaves(net) if hasattr(layer, "slope")]
        assert len(layers) > 2 and len(hidden) > 1 and net.dtype == np.float64
        assert net.out_shape[0] not in [layer.in_shape[-1] for layer in layers]
    sizes = [layer.weight.value.shape for layer in weighted(nets["dense"])]
    assert all(n != m for n, m in sizes) and len({n for n, m in sizes}) == 3
    assert [type(block.shortcut) is Port for block in residuals(nets["residual"])] == [True, False]
    assert {name: any(isinstance(layer, BatchNorm) for layer in leaves(net)) for name, net in nets.items()} == {
        "dense": False, "stride": False, "map": False, "norm": True, "residual": True}


def test_another_loss_and_nets_of_ones_own():
    assert check_rule(KolenPollack, {"mine": dense_net}, seeds=[0], loss=SquaredError()).count == 16


def test_an_error_inside_a_rule_says_where_it_happened():
    class Raises(Rule):
        def assign(self, net, tape):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError) as caught:
        check_rule(Raises, {"dense": dense_net}, seeds=[0])
    assert "Raises on dense, seed 0" in caught.value.__notes__[0]


def test_block_dfa_does_not_claim_to_be_free_of_transport_and_the_others_do():
    both = {"dense": dense_net, "residual": residual_net}   # samples apart is judged on the first
    block, pure = DirectFeedbackAlignment(residual="block"), DirectFeedbackAlignment(residual="pure")
    assert NO_TRANSPORT not in block.claims and NO_TRANSPORT in pure.claims
    with pytest.raises(AssertionError, match="declare it"):             # a net without blocks has nothing to carry
        check_rule(lambda: DirectFeedbackAlignment(residual="block"), {"dense": dense_net}, seeds=[0])
    assert check_rule(lambda: DirectFeedbackAlignment(residual="block"), both, [0]).count == 29

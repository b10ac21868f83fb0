import numpy as np
import pytest

from nplearn.errors import BuildError
from nplearn.feedback import Broadcast, Matrix, Product, Transport
from nplearn.layers import residuals, weighted
from nplearn.optim import SGD
from nplearn.rules import (
    EXACT_TOP,
    NO_TRANSPORT,
    REDUCES,
    SAMPLES_APART,
    Backprop,
    BatchRandomSignConcordant,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    FixedRandomSignConcordant,
    KolenPollack,
    Mixed,
    ProductFeedbackAlignment,
    Rule,
    UniformSignConcordant,
    WeightMirror,
)
from nplearn.testing.trial import NETS, Trial, dense_net, differ, residual_net

RULES = [Backprop, FeedbackAlignment, DirectFeedbackAlignment, UniformSignConcordant, BatchRandomSignConcordant,
         FixedRandomSignConcordant, KolenPollack, ProductFeedbackAlignment, WeightMirror]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("net, patterns", [("dense", ["*"]), ("residual", ["fc", "block1.*", "*"]),
                                           ("norm", ["*[12]", "*"])])
def test_a_mixture_of_one_rule_is_that_rule_to_the_bit(rule, net, patterns):
    mixed = Trial(NETS[net], lambda: Mixed({pattern: rule() for pattern in patterns}))
    alone = Trial(NETS[net], rule)
    for step in range(4):
        mixed.step(step)
        alone.step(step)
    assert not differ(mixed.forward_state(), alone.forward_state())
    assert not differ(mixed.rule.arrays(), alone.rule.arrays()) and set(mixed.rule.arrays()) == set(alone.rule.arrays())
    assert {a.path for a in mixed.rule.layers} == {b.path for b in alone.rule.layers}


def four():
    return Mixed({"fc": Backprop(), "block2.branch.*": KolenPollack(), "block?.*": ProductFeedbackAlignment(expand=2),
                  "*": FeedbackAlignment()})


def test_each_layer_goes_to_the_first_pattern_that_fits():
    trial = Trial(residual_net, four)
    kinds = {layer.path: type(layer.feedback) for layer in weighted(trial.net)}
    assert kinds == {"conv": Transport, "block1.branch.conv1": Product, "block1.branch.conv2": Product,
                     "block2.branch.conv1": Matrix, "block2.branch.conv2": Matrix, "block2.shortcut.conv": Product,
                     "fc": Transport}
    rules = trial.rule.rules
    assert {pattern: [layer.path for layer in rule.layers] for pattern, rule in rules.items()} == {
        "fc": ["fc"], "block2.branch.*": ["block2.branch.conv1", "block2.branch.conv2"], "*": [],
        "block?.*": ["block1.branch.conv1", "block1.branch.conv2", "block2.shortcut.conv"]}


def test_a_layer_draws_the_same_feedback_whatever_rules_its_neighbours_have():
    mixed, alone = Trial(residual_net, four).rule, Trial(residual_net, KolenPollack).rule
    path = "block2.branch.conv1.matrix"
    assert np.array_equal(mixed.arrays()[path], alone.arrays()[path])


def test_every_part_keeps_its_own_law():
    trial = Trial(residual_net, four, optimise=lambda arena: SGD(arena, 0.02, decay=0.05))
    kp, pfa = trial.rule.rules["block2.branch.*"], trial.rule.rules["block?.*"]

    def gaps():
        aims = [layer.widen(layer.weight.value, layer.feedback.lift) for layer in pfa.layers]
        return ([layer.weight.value - layer.feedback.matrix.value for layer in kp.layers]
                + [layer.feedback.lower.value - aim for layer, aim in zip(pfa.layers, aims, strict=True)])
    before = gaps()
    for step in range(20):
        trial.step(step)
    for gap, start in zip(gaps(), before, strict=True):
        assert abs(gap - 0.999 ** 20 * start).max() < 1e-12 * abs(start).max()
    assert len(before) == 5


def test_an_optimiser_for_each_part_that_learns_and_memory_of_all():
    rule = Trial(residual_net, four).rule
    assert set(rule.optimisers()) == {"block2.branch.*.state", "block?.*.state"}
    assert rule.memory() == sum(part.memory() for part in rule.rules.values()) > 0
    assert rule.settings()["*"] == ["FeedbackAlignment", {"scale": 1.0}]
    assert rule.settings()["block?.*"][1]["expand"] == 2


def test_a_mixture_claims_what_all_its_rules_claim():
    assert four().claims == {REDUCES, EXACT_TOP, SAMPLES_APART}
    both = Mixed({"a": FeedbackAlignment(), "*": DirectFeedbackAlignment()})
    assert both.claims == {NO_TRANSPORT, EXACT_TOP, SAMPLES_APART}
    assert Mixed({"a": UniformSignConcordant(), "*": KolenPollack()}).claims == {EXACT_TOP, SAMPLES_APART}


def test_broadcasts_in_a_mixture_cut_only_the_shortcuts_of_their_blocks():
    net = residual_net()
    Mixed({"block1.*": DirectFeedbackAlignment(residual="pure"), "*": FeedbackAlignment()}).attach(net)
    one, two = residuals(net)
    assert type(one.shortcut.feedback).__name__ == "Cut" and type(weighted(two.shortcut)[0].feedback) is Matrix
    assert [type(layer.feedback) for layer in weighted(one)] == [Broadcast, Broadcast]


def test_attaching_a_mixture_removes_what_another_rule_left():
    trial = Trial(residual_net, lambda: DirectFeedbackAlignment(residual="pure"))
    trial.rule = Mixed({"*": Backprop()}).attach(trial.net)
    trial.run()
    assert not differ(trial.assign(), trial.backprop())


# -- refusals ---------------------------------------------------------------------------------------------------------

def test_a_rule_with_a_walk_of_its_own_is_refused():
    class Walks(Rule):
        def assign(self, net, tape):
            pass
    with pytest.raises(BuildError, match=r"Mixed 'fc\*': Walks, which has a walk of its own; .*use it alone"):
        Mixed({"fc*": Walks(), "*": Backprop()})


def test_one_object_under_two_patterns_is_refused():
    rule = FeedbackAlignment()
    with pytest.raises(BuildError, match="one rule object under two patterns"):
        Mixed({"fc1": rule, "*": rule})


def test_a_layer_that_no_pattern_fits_is_refused_with_its_path():
    with pytest.raises(BuildError, match=r"fc3: no pattern of Mixed that fits it; .*\['fc1', 'fc2'\].*'\*': Backprop"):
        Mixed({"fc1": Backprop(), "fc2": FeedbackAlignment()}).attach(dense_net())
    with pytest.raises(BuildError, match="no pattern of Mixed"):
        Mixed({}).attach(dense_net())


@pytest.mark.parametrize("patterns", [["conv*", "*"], ["*", "fc3"]])
def test_a_pattern_left_without_a_layer_is_refused(patterns):
    idle = next(p for p in patterns if p != "*")
    with pytest.raises(BuildError, match=f"Mixed '{idle.replace('*', '.')}': no layer left that fits"):
        Mixed({pattern: Backprop() for pattern in patterns}).attach(dense_net())

"""The contract on every rule and variant; and every clause of it seen to fail on a rule that breaks it."""
import numpy as np
import pytest

from nplearn.columns import count
from nplearn.feedback import Cut, Feedback, Matrix
from nplearn.layers import BatchNorm, Port, leaves, residuals, weighted
from nplearn.losses import SquaredError
from nplearn.params import Param
from nplearn.rules import (
    EXACT_TOP,
    NO_TRANSPORT,
    REDUCES,
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

VARIANTS = ["dfa:form=biotorch", "dfa:residual=pure", "dfa:residual=block", "dfa:form=biotorch,residual=pure",
            "dfa:form=biotorch,residual=block", "dfa:scale=0.5", "pfa:path=direct", "pfa:path=collapsed",
            "pfa:density=0.3", "pfa:expand=3,lift=orthogonal,lower=aligned", "pfa-o:lift=identity",
            "usf:scale=sign-symmetry", "usf:scale=1", "frsf:scale=sign-symmetry", "frsf:scale=1",
            "brsf:scale=sign-symmetry", "brsf:scale=1", "fa:scale=2"]
MIXTURES = {                                            # name: rule, nets in which every pattern finds a layer
    "one rule": (lambda: Mixed({"*": FeedbackAlignment()}), "dense map norm residual"),
    "signs below, backprop on top": (lambda: Mixed({"fc*": Backprop(), "*": UniformSignConcordant()}),
                                     "map norm residual"),
    "two that learn": (lambda: Mixed({"*conv*": ProductFeedbackAlignment(expand=2), "*": KolenPollack()}),
                       "map norm residual"),
    "broadcast and draws": (lambda: Mixed({"fc*": BatchRandomSignConcordant(), "*": DirectFeedbackAlignment()}),
                            "map norm residual")}


def checks(rule, nets, seeds, control=False):
    """How many checks a rule that passes has seen, from what the contract promises."""
    per_net = 3 + 8 + (NO_TRANSPORT in rule.claims) + 2 * (not control)
    return seeds * (nets * per_net + 2)                 # samples apart: judged on the two nets without BatchNorm


@pytest.mark.parametrize("name", [n for n in registry.names(controls=True) if n in registry.RULES | registry.CONTROLS])
def test_every_rule_keeps_the_contract(name):
    control = name in registry.CONTROLS
    report = check_rule(lambda: registry.make(name), control=control)
    assert int(report) == report.count == checks(registry.make(name), 4, 2, control)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_keeps_the_contract(name):
    report = check_rule(lambda: registry.make(name), seeds=(2,))
    assert report.count == checks(registry.make(name), 4, 1)


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_keep_the_contract(name):
    factory, nets = MIXTURES[name]
    report = check_rule(factory, {net: NETS[net] for net in nets.split()}, seeds=(3,))
    judges = len({"dense", "map"} & set(nets.split()))
    assert report.count == len(nets.split()) * (13 + (NO_TRANSPORT in factory().claims)) + judges


def test_the_contract_cannot_shrink_unseen():
    assert len(CLAIMS) == 4 and len(ALWAYS) == 9 and len(UNLESS_CONTROL) == 2 and len(NETS) == 4
    report = check_rule(FeedbackAlignment, seeds=[0])
    per_net = dict.fromkeys([*CLAIMS, *map(words, ALWAYS + UNLESS_CONTROL)], 4) | {SAMPLES_APART: 2}
    assert dict(report.clauses) == per_net and report.count == 58


def test_a_report_prints_its_counts(capsys):
    report = check_rule(FeedbackAlignment, {"dense": dense_net}, seeds=[5])
    printed = capsys.readouterr().out
    assert "FeedbackAlignment: 15 checks on dense, seeds [5]" in printed and str(report) in printed
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
        "dense": False, "map": False, "norm": True, "residual": True}


def test_another_loss_and_nets_of_ones_own():
    assert check_rule(KolenPollack, {"mine": dense_net}, seeds=[0], loss=SquaredError()).count == 15


def test_an_error_inside_a_rule_says_where_it_happened():
    class Raises(Rule):
        def assign(self, net, tape):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError) as caught:
        check_rule(Raises, {"dense": dense_net}, seeds=[0])
    assert "Raises on dense, seed 0" in caught.value.__notes__[0]


# -- rules that break one clause each ---------------------------------------------------------------------------------

class Alignment(Rule):
    """Feedback alignment, to be broken."""

    claims = FeedbackAlignment.claims

    def feedback(self, layer, rng):
        return Matrix(layer.draw(rng))


class ReadsW(Alignment):
    def feedback(self, layer, rng):
        return super(Alignment, self).feedback(layer, rng)


class HandsDownW(Alignment):                            # and does nothing with what comes back
    def feedback(self, layer, rng):
        class Peeks(Matrix):
            def carry(self, layer, d, x, tape):
                layer.adjoint(d, layer.weight.value, x.shape)
                return super().carry(layer, d, x, tape)
        return Peeks(layer.draw(rng))


class LearnsFromW(Alignment):                           # its gradients are free of W, its feedback is not
    def feedback(self, layer, rng):
        return Matrix(layer.draw(rng), learns=True)

    def learn(self, net, tape):
        for layer in self.layers:
            layer.feedback.matrix.value += 1e-3 * layer.weight.value


class Doubles(Alignment):
    def assign(self, net, tape):
        super().assign(net, tape)
        weighted(net)[0].weight.grad *= 2


class DoublesTheTop(Alignment):
    claims = FeedbackAlignment.claims - {REDUCES}

    def assign(self, net, tape):
        super().assign(net, tape)
        weighted(net)[-1].bias.grad *= 1 + 1e-15


class Sums(Alignment):                                  # over the batch, where the mean was due
    claims = FeedbackAlignment.claims - {REDUCES}

    def feedback(self, layer, rng):
        class Sum(Matrix):
            def carry(self, layer, d, x, tape):
                return super().carry(layer, d, x, tape) * count(d)
        return Sum(layer.draw(rng))


class Undeclared(Alignment):
    claims = FeedbackAlignment.claims - {SAMPLES_APART}


class MovesInAssign(Alignment):
    def assign(self, net, tape):
        super().assign(net, tape)
        weighted(net)[0].weight.value *= 1 + 1e-9


class MovesStatistics(Alignment):
    def assign(self, net, tape):
        super().assign(net, tape)
        self.net.forward(tape.input, tape.again(mode="train"))


class Forgets(Alignment):                               # the first layer's bias
    def assign(self, net, tape):
        kept = (first := weighted(net)[0].params())[next(reversed(first))].grad.copy()
        super().assign(net, tape)
        first[next(reversed(first))].grad[...] = kept


class AddsUp(Alignment):                                # gradients of the last step stay in
    def assign(self, net, tape):
        before = net.arena.grad.copy()
        super().assign(net, tape)
        net.arena.grad += np.nan_to_num(before)


class DecaysFixed(Alignment):
    def learn(self, net, tape):
        for layer in self.layers:
            layer.feedback.matrix.value *= 0.999


class PhaseMovesW(Alignment):
    def phase(self, net, batches):
        next(batches).run(net)                          # running statistics, where there are any
        net.arena.value *= 1.001


class PhaseLeavesGradients(Alignment):
    def phase(self, net, batches):
        tape = next(batches)
        tape.mode = "probe"
        tape.run(net)
        net.backward(tape.error, tape)


class OneSeed(Alignment):
    def feedback(self, layer, rng):
        return Matrix(layer.draw(np.random.default_rng(7)))


class GlobalDraws(Alignment):
    shared = np.random.default_rng(7)

    def feedback(self, layer, rng):
        return Matrix(layer.draw(self.shared))


class RedrawsWhenAsked(Alignment):
    """Magnitudes anew at every use, from a generator that walks along: an evaluation changes the next step."""

    def feedback(self, layer, rng):
        class Redrawn(Matrix):
            def carry(self, layer, d, x, tape):
                self.matrix.value[...] = layer.draw(rng)
                return super().carry(layer, d, x, tape)
        return Redrawn(layer.draw(rng), learns=True)

    learn = lambda self, net, tape: None                # noqa: E731


class HidesState(Alignment):
    """A feedback that learns and tells nobody."""

    def feedback(self, layer, rng):
        class Hidden(Feedback):
            def __init__(self):
                self.B = Param(layer.draw(rng))

            def carry(self, layer, d, x, tape):
                return layer.adjoint(d, self.B.value, x.shape)
        return Hidden()

    def learn(self, net, tape):
        for layer in self.layers:
            layer.feedback.B.value -= 0.1 * layer.weight.grad


class SendsNothing(Alignment):
    claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART})

    def feedback(self, layer, rng):
        return Cut()


class WritesIntoDelta(Alignment):
    def feedback(self, layer, rng):
        class InPlace(Matrix):
            def carry(self, layer, d, x, tape):
                x *= 0.5                                # the tape's, and the next walk's
                return super().carry(layer, d, x, tape)
        return InPlace(layer.draw(rng))


BROKEN = {ReadsW: NO_TRANSPORT, LearnsFromW: NO_TRANSPORT, Doubles: REDUCES, DoublesTheTop: EXACT_TOP,
          Sums: SAMPLES_APART, HandsDownW: "never hands down a forward weight", Undeclared: "declare it",
          MovesInAssign: "assign moves nothing",
          MovesStatistics: "norm1.mean (4) differs", Forgets: "assign fills every gradient",
          AddsUp: "assign can be repeated", WritesIntoDelta: "assign can be repeated",
          DecaysFixed: "fixed feedback stays", PhaseMovesW: "phase leaves the forward pass",
          PhaseLeavesGradients: "phase leaves the forward pass", OneSeed: "another seed gives the same feedback",
          GlobalDraws: "seed decides", RedrawsWhenAsked: "looking changes nothing", HidesState: "resumes",
          SendsNothing: "every layer learns"}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda rule: rule.__name__)
def test_a_broken_rule_fails_the_clause_it_breaks(broken):
    with pytest.raises(AssertionError) as caught:
        check_rule(broken, seeds=[0])
    assert any(BROKEN[broken] in line and line.startswith(broken.__name__) for line in str(caught.value).splitlines())


def test_a_rule_that_sums_where_it_should_average_fails_on_a_batch_twice():
    with pytest.raises(AssertionError, match="a batch twice is the batch: fc1.weight .9 x 6. differs by"):
        check_rule(Sums, {"dense": dense_net}, seeds=[0])


def test_the_broken_rules_are_unbroken_without_what_breaks_them():
    assert check_rule(Alignment, seeds=[0]).count == 58


def test_block_dfa_does_not_claim_to_be_free_of_transport_and_the_others_do():
    block, pure = DirectFeedbackAlignment(residual="block"), DirectFeedbackAlignment(residual="pure")
    assert NO_TRANSPORT not in block.claims and NO_TRANSPORT in pure.claims
    with pytest.raises(AssertionError, match="declare it"):             # a net without blocks has nothing to carry
        check_rule(lambda: block, {"dense": dense_net}, seeds=[0])
    assert check_rule(lambda: DirectFeedbackAlignment(residual="block"), {"residual": residual_net}, [0]).count == 13

"""Every clause of the contract is seen to fail, on a rule that breaks it and is feedback alignment otherwise."""
import numpy as np
import pytest

from nplearn.columns import count
from nplearn.errors import BuildError
from nplearn.feedback import Cut, Feedback, Matrix
from nplearn.layers import stages, weighted
from nplearn.params import Param
from nplearn.rules import (
    EXACT_TOP,
    NEEDS_CHAIN,
    NO_TRANSPORT,
    NOISY,
    REDUCES,
    SAMPLES_APART,
    FeedbackAlignment,
    Rule,
)
from nplearn.testing.rules import ALWAYS, CLAIMS, UNLESS_CONTROL, check_rule, words
from nplearn.testing.trial import dense_net


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


class SaysNoisy(Alignment):
    claims = Alignment.claims | {NOISY}


BROKEN = {SaysNoisy: NOISY, ReadsW: NO_TRANSPORT, LearnsFromW: NO_TRANSPORT, Doubles: REDUCES, DoublesTheTop: EXACT_TOP,
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


def test_the_broken_rules_are_unbroken_without_what_breaks_them():
    assert check_rule(Alignment, seeds=[0]).count == 78


def test_a_rule_that_sums_where_it_should_average_fails_on_a_batch_twice():
    with pytest.raises(AssertionError, match="a batch twice is the batch: fc1.weight .9 x 6. differs by"):
        check_rule(Sums, {"dense": dense_net}, seeds=[0])


def test_every_clause_has_a_rule_that_breaks_it():
    clauses = {*CLAIMS, *map(words, ALWAYS + UNLESS_CONTROL)}
    assert clauses - set(BROKEN.values()) == {"a batch twice is the batch"}       # the test above
    assert len(clauses) == 16


class TakesChains(Alignment):
    def prepare(self, net):
        stages(net)


def test_a_rule_that_takes_chains_alone_declares_it_and_one_that_does_not_does_not():
    with pytest.raises(AssertionError, match="refuses residual, which is no chain: declare 'needs a chain'"):
        check_rule(TakesChains, seeds=[0])
    class Declares(TakesChains):
        claims = TakesChains.claims | {NEEDS_CHAIN}
    report = check_rule(Declares, seeds=[0])
    assert list(report.refused) == ["residual"] and "block1: a Residual, where the way divides" in str(report)
    class TakesAll(Alignment):
        claims = Alignment.claims | {NEEDS_CHAIN}
    with pytest.raises(AssertionError, match="needs a chain, it says, and takes residual"):
        check_rule(TakesAll, seeds=[0])


def test_a_rule_that_takes_no_net_fails():
    class TakesNone(Alignment):
        def prepare(self, net):
            raise BuildError("net", "a net", "another", "do")
    with pytest.raises(AssertionError, match="TakesNone: refuses dense: net: a net; expected another; do."):
        check_rule(TakesNone, seeds=[0])

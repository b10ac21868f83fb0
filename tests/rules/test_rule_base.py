"""What every rule refuses: nets it does not know, feedback that cannot fit, options that are no numbers."""
import numpy as np
import pytest

from nplearn.errors import BuildError, SettingError
from nplearn.feedback import Matrix
from nplearn.layers import BatchNorm, Dense, Sequential, Tanh
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.optim import SGD
from nplearn.rules import (
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    KolenPollack,
    Mixed,
    ProductFeedbackAlignment,
    Rule,
    UniformSignConcordant,
    registry,
)
from nplearn.rules.checks import choice, number, whole
from nplearn.tape import Tape
from nplearn.testing import check_rule


def small(seed=0):
    return Sequential(fc1=Dense(5), act=Tanh(), fc2=Dense(3)).build(4, seed)


def test_a_rule_that_is_not_attached_to_this_net_is_refused_and_does_not_run_backprop():
    net, rule = small(), FeedbackAlignment()
    tape = Tape(net, SoftmaxCrossEntropy()).begin(np.ones((2, 4)), [0, 1])
    tape.run()
    for wrong in (rule, FeedbackAlignment().attach(small(1))):
        with pytest.raises(BuildError, match="FeedbackAlignment: a net it is not attached to"):
            wrong.assign(net, tape)


def given(what):
    class Giving(Rule):
        def feedback(self, layer, rng):
            return what(layer, rng)
    return Giving()


@pytest.mark.parametrize(("what", "says"), [
    (lambda layer, rng: None, "fc2: a feedback that is NoneType; expected a Feedback"),
    (lambda layer, rng: layer.draw(rng), "fc2: a feedback that is ndarray; expected a Feedback"),
    (lambda layer, rng: Matrix(layer.draw(rng).T.copy()), "fc2: a feedback matrix of 5x3; expected 3x5"),
    (lambda layer, rng: Matrix(layer.draw(rng) + 0j), "fc2: a feedback matrix of complex64; expected float32"),
    (lambda layer, rng: Matrix(layer.draw(rng).astype(float)), "fc2: a feedback matrix of float64; expected float32")])
def test_feedback_that_cannot_fit_is_refused_when_it_is_attached(what, says):
    with pytest.raises(BuildError, match=says):
        given(what).attach(small())


def test_another_build_of_a_net_starts_from_exact_feedback():
    net = small()
    FeedbackAlignment().attach(net)
    net.build(7)
    assert net.layers[2].feedback is net.layers[2].exact


@pytest.mark.parametrize("made", [
    lambda: FeedbackAlignment(float("nan")), lambda: FeedbackAlignment("2"), lambda: FeedbackAlignment(True),
    lambda: DirectFeedbackAlignment(scale=-1), lambda: UniformSignConcordant(-1),
    lambda: ProductFeedbackAlignment(expand=float("inf")), lambda: ProductFeedbackAlignment(batch=-3),
    lambda: ProductFeedbackAlignment(density=0.5, lift="orthogonal"), lambda: KolenPollack(optimiser="adam")])
def test_options_that_mean_nothing_are_refused(made):
    with pytest.raises(SettingError, match="; expected "):
        made()


def test_numbers_of_numpy_are_numbers():
    assert FeedbackAlignment(np.float32(2)).scale == 2 and ProductFeedbackAlignment(expand=np.int64(5)).expand == 5


@pytest.mark.parametrize("rules", [[Backprop()], {"*": Backprop}, {"*": "fa"}])
def test_mixed_wants_rules_by_pattern(rules):
    with pytest.raises(BuildError, match="Mixed"):
        Mixed(rules)


def test_an_optimiser_wants_an_arena():
    with pytest.raises(SettingError, match="SGD: Sequential to move; expected an Arena"):
        SGD(small(), lr=0.1)


def test_the_contract_wants_a_factory_and_claims_that_exist():
    with pytest.raises(SettingError, match="check_rule"):
        check_rule("fa")
    with pytest.raises(SettingError, match="check_rule"):
        check_rule(FeedbackAlignment())

    class Boasting(FeedbackAlignment):
        claims = frozenset({"no transport"})
    with pytest.raises(SettingError, match="no transport"):
        check_rule(Boasting)


def test_a_rule_whose_feedback_another_replaced_is_refused_by_name():
    net = small()
    first = FeedbackAlignment().attach(net, 0)
    second, tape = Backprop().attach(net), Tape(net, SoftmaxCrossEntropy())
    tape.begin(np.ones((2, 4), np.float32), np.array([0, 1]))
    tape.run()
    with pytest.raises(BuildError, match="FeedbackAlignment: a net it is not attached to; Backprop was attached"):
        first.assign(net, tape)
    second.assign(net, tape)
    net.build((4,))                                     # feedback of another build would not fit
    with pytest.raises(BuildError, match="attach it after"):
        second.assign(net, tape)


def test_options_that_are_numbers_of_numpys_are_pythons_afterwards():
    rule = registry.make("np")
    for x in (np.float64(0.5), np.float32(0.5), 0.5):
        assert type(number(rule, "sigma", x)) is float
    assert type(number(rule, "sigma", np.int64(3))) is int
    assert type(whole(rule, "draws", np.int64(3))) is int and type(choice(rule, "sign", np.int64(1), (-1, 1))) is int


@pytest.mark.parametrize("name", registry.RULES)
def test_every_rule_keeps_the_options_that_its_checks_gave_and_not_the_ones_it_got(name):
    factory, options = registry.RULES[name]
    plain = factory(**options).settings()
    given = {key: {int: np.int64, float: np.float64}.get(type(x), lambda x: x)(x) for key, x in plain.items()
             if key != "through"}
    kept = factory(**given).settings()
    assert kept == plain and list(map(type, kept.values())) == list(map(type, plain.values()))


@pytest.mark.parametrize("name", ["ep:symmetric=1", "ep:random_sign=0", "ep:symmetric=yes", "np:antithetic=1"])
def test_true_is_not_one(name):
    with pytest.raises(SettingError, match="expected true or false"):
        registry.make(name)


@pytest.mark.parametrize("net, where", [
    (Sequential(norm=BatchNorm(), fc1=Dense(5), act=Tanh(), fc2=Dense(3)), "before the first weighted layer"),
    (Sequential(fc1=Dense(5), act=Tanh(), norm=BatchNorm(), fc2=Dense(3)), "behind a nonlinearity")])
@pytest.mark.parametrize("rule", ["ifa", "pepita", "np", "forward-gradient"])
def test_parameters_that_an_error_would_not_reach_are_refused(rule, net, where):
    with pytest.raises(BuildError, match=f"norm: a BatchNorm {where}"):
        registry.make(rule).attach(net.build(4))


def test_a_rule_prints_its_options():
    assert repr(registry.make("fa:scale=2")) == "FeedbackAlignment(scale=2)" and repr(Backprop()) == "Backprop()"

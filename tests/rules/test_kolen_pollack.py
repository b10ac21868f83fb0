import numpy as np
import pytest
from hypothesis import given, settings

from nplearn.errors import BuildError
from nplearn.layers import Dense, Sequential, Tanh, weighted
from nplearn.optim import SGD, Adam, AdamW, MultiStep, RMSprop
from nplearn.rules import FeedbackAlignment, KolenPollack
from nplearn.testing.strategies import nets, seeds
from nplearn.testing.trial import NETS, Trial, angle, common_factor, dense_net, differ, map_net, ready

LR = MultiStep(0.02, {20: 0.3, 35: 2.0}, unit="steps")
DECAY = MultiStep(0.05, {25: 0.2}, unit="steps")


def differences(trial):
    return {layer.path: layer.weight.value - layer.feedback.matrix.value for layer in trial.rule.layers}


def trained(net, steps, optimise, factory=KolenPollack, seed=0):
    """(trial, W - B at the start, W - B at the end)"""
    trial = Trial(net, factory, seed, optimise=optimise)
    before = differences(trial)
    for step in range(steps):
        trial.step(step)
    return trial, before, differences(trial)


def assert_shrunk(after, before, c, tolerance):
    assert len(before) >= 2
    for path, D in before.items():
        assert abs(after[path] - c * D).max() <= tolerance * abs(D).max(), (path, c)


COUPLED = [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}]


@pytest.mark.parametrize("how", COUPLED, ids=str)
@pytest.mark.parametrize("net", NETS)
def test_w_minus_b_is_one_factor_times_its_start_under_coupled_decay(net, how):
    _, before, after = trained(NETS[net], 50, lambda arena: SGD(arena, LR, decay=DECAY, **how))
    c = common_factor(50, LR, DECAY, **how)
    assert 0.4 < c < 0.99
    assert_shrunk(after, before, c, 1e-12)


@pytest.mark.parametrize("how", COUPLED, ids=str)
def test_under_decoupled_decay_the_factor_does_not_know_the_momentum(how):
    _, before, after = trained(map_net, 50, lambda arena: SGD(arena, LR, decay=DECAY, decoupled=True, **how))
    assert_shrunk(after, before, common_factor(50, LR, DECAY, decoupled=True), 1e-12)


@pytest.mark.parametrize("net", ["map", "residual"])
def test_adamw_keeps_the_law(net):
    _, before, after = trained(NETS[net], 50, lambda arena: AdamW(arena, LR, decay=DECAY))
    assert_shrunk(after, before, common_factor(50, LR, DECAY, decoupled=True), 1e-9)


@pytest.mark.parametrize("optimise", [lambda arena: Adam(arena, 0.01, decay=0.05),
                                      lambda arena: RMSprop(arena, 0.01, decay=0.05)], ids=["Adam", "RMSprop"])
def test_normalised_steps_with_coupled_decay_break_it(optimise):
    _, before, after = trained(map_net, 100, optimise)
    ratios = np.concatenate([(after[path] / D)[abs(D) > 0.1].ravel() for path, D in before.items()])
    assert np.ptp(ratios) > 0.02


def test_the_twin_uses_the_clock_of_the_step_and_not_that_of_the_next():
    lr = MultiStep(0.1, {1: 0.0}, unit="steps")         # one step that moves, then none
    _, before, after = trained(dense_net, 1, lambda arena: SGD(arena, lr, decay=0.5))
    assert_shrunk(after, before, 0.95, 1e-12)


@settings(max_examples=8, deadline=None)
@given(nets(), seeds())
def test_feedback_equal_to_the_weights_stays_equal_and_is_backprop(net, seed):
    trial = Trial(lambda _: net, KolenPollack, seed % 1000)
    for layer in trial.rule.layers:
        layer.feedback.become_exact(layer)
    for step in range(3):
        trial.run(step)
        assert not differ(trial.assign(), trial.backprop(), 1e-12)
        trial.step(step)
    for layer in trial.rule.layers:
        assert np.array_equal(layer.feedback.matrix.value, layer.weight.value)


def test_without_decay_the_difference_stays_for_ever():
    trial, before, after = trained(dense_net, 50, lambda arena: SGD(arena, 0.1, momentum=0.9))
    assert_shrunk(after, before, 1, 1e-13)
    assert all(layer.weight.grad.any() for layer in weighted(trial.net))


def test_decay_turns_the_feedback_towards_the_weights():
    trial = Trial(dense_net, KolenPollack, optimise=lambda arena: SGD(arena, 0.05, momentum=0.9, decay=0.02))
    start = Trial(dense_net, KolenPollack)
    for _ in range(300):
        trial.step(0)                                   # one batch to learn, so that W does not decay away
    for layer, first in zip(trial.rule.layers, start.rule.layers, strict=True):
        assert angle(first.feedback.matrix.value, first.weight.value) > 45
        assert angle(layer.feedback.matrix.value, layer.weight.value) < 15


def test_one_mnist_epoch_of_the_pfa_papers_schedule_leaves_the_known_share():
    """937 steps with eta lam = 3e-4, mu = 0.9: c = 0.056877197975, in the recursion, in closed form and in training."""
    p = 1.9 - 3e-4
    root = np.sqrt(p * p - 3.6)
    up, down = (p + root) / 2, (p - root) / 2
    closed = (up ** 937 * (1 - 3e-4 - down) - down ** 937 * (1 - 3e-4 - up)) / (up - down)
    assert closed == pytest.approx(0.056877197975, rel=1e-9)
    assert common_factor(937, lambda *_: 0.01, lambda *_: 0.03, 0.9) == pytest.approx(closed, rel=1e-10)
    def small(seed):
        return ready(Sequential(a=Dense(3), act=Tanh(), b=Dense(4), act2=Tanh(), c=Dense(2)), (2,), seed)
    _, before, after = trained(small, 937, lambda arena: SGD(arena, 0.01, momentum=0.9, decay=0.03))
    assert_shrunk(after, before, 0.056877197975, 1e-10)


def test_the_gradient_of_feedback_is_the_raw_outer_product():
    trial = Trial(map_net, KolenPollack)
    trial.step(0)
    for layer in trial.rule.layers:
        assert np.array_equal(layer.feedback.matrix.grad, layer.weight.grad) and layer.weight.grad.any()


def test_first_angles_are_right_ones_and_the_first_delta_is_feedback_alignments():
    kp, fa = Trial(dense_net, KolenPollack), Trial(dense_net, FeedbackAlignment)
    kp.run()
    fa.run()
    assert not differ(kp.rule.arrays(), fa.rule.arrays()) and not differ(kp.assign(), fa.assign())


# -- optimisers -------------------------------------------------------------------------------------------------------

def test_an_optimiser_of_its_own_steps_the_feedback_and_breaks_the_law():
    own = []
    def mine(arena):
        own.append(SGD(arena, 0.2))
        return own[-1]
    trial, before, after = trained(dense_net, 10, lambda arena: SGD(arena, 0.05, momentum=0.9, decay=0.02),
                                   lambda: KolenPollack(optimiser=mine))
    assert trial.rule.optimiser is own[0] and own[0].steps == 10 and trial.rule.optimisers() == {"state": own[0]}
    with pytest.raises(AssertionError):
        assert_shrunk(after, before, common_factor(10, lambda *_: 0.05, lambda *_: 0.02, 0.9), 1e-2)


def test_the_same_settings_given_as_its_own_are_the_twin_to_the_bit():
    def same(arena):
        return SGD(arena, 0.05, momentum=0.9, decay=0.02)
    one, two = (Trial(dense_net, rule, optimise=same) for rule in (KolenPollack, lambda: KolenPollack(same)))
    for step in range(5):
        one.step(step)
        two.step(step)
    assert not differ(one.state(), two.state())


def test_learning_without_an_optimiser_is_refused_with_advice():
    trial = Trial(dense_net, KolenPollack)
    trial.rule.attach(trial.net, 0)                     # forgets the optimiser of the old feedback
    trial.run()
    trial.rule.assign(trial.net, trial.tape)
    with pytest.raises(BuildError, match=r"KolenPollack: .*no optimiser for it; .*rule.follow\(optimiser\)"):
        trial.rule.learn(trial.net, trial.tape)


def test_memory_counts_feedback_gradient_and_slots():
    plain = Trial(dense_net, KolenPollack, optimise=lambda arena: SGD(arena, 0.1)).rule
    slots = Trial(dense_net, KolenPollack, optimise=lambda arena: Adam(arena, 0.1)).rule
    values = (7 * 9 + 4 * 7) * 8
    assert plain.memory() == values + plain.state.grad.nbytes
    assert slots.memory() == plain.memory() + 2 * plain.state.value.nbytes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplearn.feedback import Transport
from nplearn.layers import LECUN_NORMAL, Dense, ReLU, Sequential, Tanh, weighted
from nplearn.losses import SoftmaxCrossEntropy, SquaredError
from nplearn.optim import SGD, AdamW, RMSprop
from nplearn.rules import (
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    FixedRandomSignConcordant,
    KolenPollack,
    ProductFeedbackAlignment,
)
from nplearn.testing.strategies import nets, seeds
from nplearn.testing.trial import NETS, Trial, copies, dense_net, differ, map_net, ready, residual_net


def same_as_w(trial):
    for layer in trial.rule.layers:
        layer.feedback.matrix.value[...] = layer.weight.value


@settings(max_examples=15, deadline=None)
@given(nets(), seeds())
def test_feedback_equal_to_the_weights_gives_backprop_bitwise(net, seed):
    trial = Trial(lambda _: net, FeedbackAlignment, seed % 1000)
    same_as_w(trial)
    trial.run()
    assert not differ(trial.assign(), trial.backprop())


@pytest.mark.parametrize("net", NETS)
def test_feedback_copied_before_every_step_trains_as_backprop_does(net):
    fa, bp = Trial(NETS[net], FeedbackAlignment), Trial(NETS[net], Backprop)
    for step in range(10):
        same_as_w(fa)
        fa.step(step)
        bp.step(step)
    assert not differ(fa.forward_state(), bp.forward_state())


def test_without_the_copy_it_does_not():
    fa, bp = Trial(dense_net, FeedbackAlignment), Trial(dense_net, Backprop)
    for trial in fa, bp:
        trial.step(0)
    assert differ(fa.gradients(), bp.gradients(), 0.05).startswith("fc1.weight (9 x 6) differs")


@settings(max_examples=10, deadline=None)
@given(nets(norm=False, kinds=["mlp", "maps"]), seeds(), st.sampled_from([2.0, 0.25]))
def test_scaling_all_feedback_scales_a_delta_k_layers_down_by_the_kth_power_bitwise(net, seed, s):
    trial = Trial(lambda _: net, FeedbackAlignment, seed % 1000)
    trial.run()
    before = trial.assign()
    for layer in trial.rule.layers:
        layer.feedback.matrix.value[...] *= s
    after = trial.assign()
    for k, layer in enumerate(reversed(weighted(net))):
        for p in layer.params().values():
            assert np.array_equal(after[p.path], before[p.path] * s ** k), (p.path, k)
    assert k >= 2


def test_the_option_scale_is_that_factor_to_the_bit():
    one, two = Trial(map_net, FeedbackAlignment), Trial(map_net, lambda: FeedbackAlignment(scale=2))
    assert not differ(two.rule.arrays(), {path: 2 * B for path, B in one.rule.arrays().items()})
    assert two.rule.settings() == {"scale": 2}


FIXED = [FeedbackAlignment, DirectFeedbackAlignment, ProductFeedbackAlignment,
         lambda: ProductFeedbackAlignment(density=0.5)]
OPTIMISERS = [None, lambda arena: AdamW(arena, 0.01, decay=0.1), lambda arena: RMSprop(arena, 0.001, decay=0.1)]


@pytest.mark.parametrize("factory", FIXED)
@pytest.mark.parametrize("optimise", OPTIMISERS)
def test_fixed_matrices_stay_to_the_bit_through_fifty_steps_of_momentum_and_decay(factory, optimise):
    trial = Trial(dense_net, factory, optimise=optimise)
    learned = {path for layer in trial.rule.layers for path in (p.path for p in layer.feedback.params().values())}
    before = {path: array for path, array in copies(trial.rule.arrays()).items() if path not in learned}
    assert len(before) >= 2
    for step in range(50):
        trial.step(step)
    assert not differ(trial.rule.arrays(), before)
    owned = [p.value for arena in (trial.net.arena, trial.rule.state) if arena for p in arena.params]
    assert not any(np.may_share_memory(array, value) for path, array in trial.rule.arrays().items() if path in before
                   for value in owned)


@pytest.mark.parametrize("loss", [SquaredError(), SoftmaxCrossEntropy()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("linear", [True, False])
def test_two_layer_nets_keep_the_conservation_law(linear, loss):
    """Q = B' W2 + W2' B - W1 W1' changes by -dW1 dW1' (relu: its diagonal), whatever loss and batch."""
    def build(seed):
        hidden = {} if linear else {"relu": ReLU()}
        return ready(Sequential(fc1=Dense(5, bias=False), **hidden, fc2=Dense(3, bias=False)), (7,), seed)
    trial = Trial(build, FeedbackAlignment, optimise=lambda arena: SGD(arena, 0.1), loss=loss)
    one, two = weighted(trial.net)
    B = two.feedback.matrix.value

    def Q():
        W1, W2 = one.weight.value, two.weight.value
        return B.T @ W2 + W2.T @ B - W1 @ W1.T
    off = 0
    for step in range(10):
        before, W1 = Q(), one.weight.value.copy()
        trial.step(step)
        d1 = one.weight.value - W1
        wrong = Q() - before + d1 @ d1.T
        assert abs(d1).max() > 1e-4
        assert abs(wrong if linear else np.diag(wrong)).max() < 1e-14 * max(1, abs(before).max())
        off = max(off, abs(wrong).max())
    assert linear or off > 1e-4                         # only the diagonal is kept: the test can tell


@pytest.mark.parametrize("factory", [FeedbackAlignment, ProductFeedbackAlignment])
def test_feedback_of_the_lowest_layer_influences_nothing(factory):
    trial = Trial(residual_net, factory)
    trial.run()
    before = trial.assign()
    lowest = weighted(trial.net)[0]
    if factory is FeedbackAlignment:
        assert isinstance(lowest.feedback, Transport) and lowest not in trial.rule.layers
        assert trial.rule.layers == weighted(trial.net)[1:]
        return
    assert lowest in trial.rule.layers
    for array in (lowest.feedback.lift, lowest.feedback.lower.value):
        array[...] = np.nan
    assert not differ(trial.assign(), before)


def test_feedback_has_the_law_of_the_weight_it_stands_for_and_a_draw_of_its_own():
    net = Sequential(fc1=Dense(60), act=Tanh(), fc2=Dense(80, init=LECUN_NORMAL), act2=Tanh(), fc3=Dense(50))
    net.build((9,))
    B2, B3 = FeedbackAlignment().attach(net, 0).arrays().values()
    W3 = weighted(net)[2].weight.value
    assert B2.dtype == np.float32 and B2.std() == pytest.approx(60 ** -0.5, rel=0.05) and abs(B2).max() > 3 * B2.std()
    assert B3.std() == pytest.approx(np.sqrt(2 / 130), rel=0.05) and abs(B3).max() <= np.sqrt(6 / 130)
    assert abs((B3 * W3).sum()) < 4 * np.sqrt(W3.size) * W3.std() ** 2
    other = Sequential(fc1=Dense(4), act=Tanh(), fc2=Dense(80), act2=Tanh(), fc3=Dense(50)).build((9,))
    assert np.array_equal(FeedbackAlignment().attach(other, 0).arrays()["fc3.matrix"], B3)   # whatever the others draw


DRAWN = [FeedbackAlignment, ProductFeedbackAlignment, KolenPollack, FixedRandomSignConcordant, DirectFeedbackAlignment]


@pytest.mark.parametrize("factory", DRAWN)
def test_no_two_layers_draw_alike(factory):
    def build(seed):
        return ready(Sequential(Dense(5), Tanh(), Dense(5), Tanh(), Dense(5), Tanh(), Dense(3)), (4,), seed)
    arrays = Trial(build, factory).rule.arrays()
    pairs = [(arrays[path], arrays[path.replace("2.", "4.")]) for path in arrays if path.startswith("2.")]
    assert pairs and not any(np.array_equal(one, two) for one, two in pairs)


# -- a layer used twice in a pass -------------------------------------------------------------------------------------

def shared_and_unrolled(factory):
    """A net whose middle layer is used twice, and the same function with two layers of equal weights and feedback."""
    def twice(seed):
        middle = Dense(5)
        return ready(Sequential(Dense(5), Tanh(), middle, Tanh(), middle, Tanh(), Dense(3)), (4,), seed)

    def unrolled(seed):
        return ready(Sequential(Dense(5), Tanh(), Dense(5), Tanh(), Dense(5), Tanh(), Dense(3)), (4,), seed)
    one, two = Trial(twice, factory), Trial(unrolled, factory)
    a, shared, b = weighted(one.net)
    for source, layer in zip((a, shared, shared, b), weighted(two.net), strict=True):
        for p, q in zip(source.params().values(), layer.params().values(), strict=True):
            q.value[...] = p.value
        for p, q in zip(source.feedback.params().values(), layer.feedback.params().values(), strict=True):
            q.value[...] = p.value
        for name, array in source.feedback.fixed().items():
            layer.feedback.fixed()[name][...] = array
    for trial in one, two:
        trial.run()
        trial.assign()
    return one, two


@pytest.mark.parametrize("factory", [
    FeedbackAlignment, Backprop, lambda: ProductFeedbackAlignment(path="direct", expand=3),
    lambda: ProductFeedbackAlignment(path="collapsed", expand=3)])
def test_a_layer_used_twice_gets_the_sum_of_both_gradients(factory):
    one, two = shared_and_unrolled(factory)
    shared, (_, lower, upper, _) = weighted(one.net)[1], weighted(two.net)
    both = [shared.params(), lower.params(), upper.params()]
    if shared.feedback.params():
        for trial in one, two:
            for layer in trial.rule.layers:
                layer.feedback.gather(layer)
        both = [{**layer.params(), **layer.feedback.params()} for layer in (shared, lower, upper)]
        assert len(both[0]) == 3
    for name, p in both[0].items():
        wanted = both[1][name].grad + both[2][name].grad
        np.testing.assert_allclose(p.grad, wanted, rtol=0, atol=1e-14 * abs(wanted).max())
        assert not np.allclose(p.grad, both[1][name].grad) and not np.allclose(p.grad, both[2][name].grad)


def test_a_layer_used_twice_keeps_its_gradients_over_steps_of_their_own():
    one, _ = shared_and_unrolled(FeedbackAlignment)
    first = one.gradients()
    assert not differ(one.assign(), first)              # the sum is of one walk, not of all

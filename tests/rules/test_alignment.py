"""Alignment losses: gradients against central differences of the losses, and where gradient descent comes to rest."""
import numpy as np
import pytest

from nplearn.columns import columns
from nplearn.errors import SettingError
from nplearn.layers import Conv2d, Dense, Flatten, LocallyConnected2d, Sequential, Tanh, weighted
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics.angles import angle
from nplearn.optim import SGD
from nplearn.rules import NO_TRANSPORT, Alignment, FeedbackAlignment, WeightMirror, registry
from nplearn.tape import Tape
from nplearn.testing.trial import NETS, Trial, copies, dense_net, differ, ready, stride_net
from tests.helpers import after_steps, assert_float32_stays_and_is_near_float64, one_chunk_and_two
from tests.rules.smoke import mlp, prototypes, trained

RULES = ["ia", "sa", "aa"]
PRIMITIVES = {                                          # the losses of Kunin's code, of B, W and the layer's input
    "decay": lambda layer, x, B, W, N: (B * B).sum(),
    "self_": lambda layer, x, B, W, N: -(W * B).sum(),
    "amp": lambda layer, x, B, W, N: -(layer.apply(x, W) * layer.apply(x, B)).sum() / N,
    "sparse": lambda layer, x, B, W, N: (layer.apply(x, B) ** 2).sum() / N,
    "null": lambda layer, x, B, W, N: (layer.adjoint(layer.apply(x, W), B, x.shape) ** 2).sum() / N}
LAYERS = {"dense": (lambda: Dense(5), (7,)), "conv": (lambda: Conv2d(3, 3), (4, 5, 2)),
          "stride": (lambda: Conv2d(4, (3, 2), stride=2, groups=2), (5, 4, 2)),
          "local": (lambda: LocallyConnected2d(3, 2), (3, 4, 2))}


class Passing:
    """A tape whose noise is asked for by nobody."""


def one_layer(name, seed=0, n=6):
    """(layer with a bias that is not zero, its input of n samples in two chunks)"""
    make, in_shape = LAYERS[name]
    net = ready(Sequential(layer=make()), in_shape, seed)
    net.layers[0].bias.value[...] = 0.7
    rng = np.random.default_rng(seed)
    return net.layers[0], columns(rng.normal(size=(n, *in_shape)), n // 2)


def descent(layer, x, B, rate, steps, **coefficients):
    rule = Alignment(**coefficients)
    for _ in range(steps):
        B = B - rate * rule.gradient(layer, x, B, Passing)
    return B


# -- the primitives ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_every_primitives_gradient_is_that_of_its_loss(primitive, layer):
    """Central differences in every entry of B; `decay` is added to the two that are not let alone, and taken off."""
    layer, x = one_layer(layer)
    W = layer.weight.value
    B = np.random.default_rng(9).normal(size=W.shape)
    spare = {} if primitive in ("decay", "sparse", "null") else {"decay": 1.0}
    found = Alignment(**{primitive: 0.7}, **spare).gradient(layer, x, B, Passing)
    if spare:
        found = found - Alignment(**spare).gradient(layer, x, B, Passing)
    loss, h, wanted = PRIMITIVES[primitive], 1e-5, np.empty_like(B)
    for i in np.ndindex(*B.shape):
        up, down = B.copy(), B.copy()
        up[i] += h
        down[i] -= h
        wanted[i] = 0.7 * (loss(layer, x, up, W, 6) - loss(layer, x, down, W, 6)) / (2 * h)
    assert abs(found - wanted).max() <= 1e-8 * abs(wanted).max()


def test_terms_add_up_each_with_its_coefficient():
    layer, x = one_layer("conv")
    B, given = np.ones_like(layer.weight.value), {"decay": 0.3, "self_": 0.5, "amp": 0.7, "sparse": 1.1, "null": 1.3}
    def of(**coefficients):
        return Alignment(**coefficients).gradient(layer, x, B, Passing)
    decay = of(decay=1)
    apart = {"decay": decay, **{name: of(decay=1, **{name: 1}) - decay for name in given if name != "decay"}}
    wanted = sum(given[name] * g for name, g in apart.items())
    assert abs(of(**given) - wanted).max() <= 1e-12 * abs(wanted).max()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("net", NETS)
def test_what_the_walk_leaves_is_the_gradient_of_the_sum_at_the_layers_own_input(name, net):
    trial = Trial(NETS[net], lambda: registry.make(name))
    tape = trial.run()
    weights, feedback = copies(trial.forward_state()), copies(trial.rule.arrays())
    trial.assign()
    for layer in trial.rule.layers:
        x, matrix = tape.seen(layer)[0], layer.feedback.matrix
        wanted = trial.rule.gradient(layer, x, matrix.value, tape)
        assert abs(matrix.grad - wanted).max() <= 1e-12 * abs(wanted).max() and matrix.grad.any()
    assert not differ(trial.forward_state(), weights) and not differ(trial.rule.arrays(), feedback)


def test_a_layer_used_twice_has_a_sum_over_its_inputs_and_its_own_size_once():
    shared = Dense(6)
    net = ready(Sequential(first=Dense(6), a=shared, act=Tanh(), b=shared, act2=Tanh(), top=Dense(3)), (5,), 1)
    rule = Alignment(decay=0.4, self_=0.2, amp=0.3, null=0.1).attach(net, 2)
    rng = np.random.default_rng(0)
    tape = Tape(net, SoftmaxCrossEntropy()).begin(rng.normal(size=(8, 5)), rng.integers(3, size=8), seed=1)
    tape.run(rule)
    rule.assign(net, tape)
    B = shared.feedback.matrix
    one, two = (rule.gradient(shared, x, B.value, tape) for x in tape.seen(shared))
    wanted = one + two - 2 * 0.4 * B.value + 0.2 * shared.weight.value
    assert len(tape.seen(shared)) == 2 and abs(B.grad - wanted).max() <= 1e-12 * abs(wanted).max()


# -- where descent comes to rest --------------------------------------------------------------------------------------

def moments(layer, x):
    """W, S = mean x x', C = mean z z' of a dense layer."""
    W, x = layer.weight.value, np.concatenate(list(x), axis=1)
    S = x @ x.T / x.shape[1]
    return W, S, W @ S @ W.T


@pytest.fixture(params=[40, 4], ids=["inputs span all", "fewer inputs than features"])
def dense(request):
    return one_layer("dense", n=request.param)


def close(found, wanted, tolerance=1e-9):
    assert abs(found - wanted).max() <= tolerance * abs(wanted).max()


def test_weight_mirror_as_a_loss_rests_at_a_multiple_of_w_s(dense):
    W, S, _ = moments(*dense)
    B = descent(*dense, np.ones_like(W), 0.1, 200, decay=1, amp=0.8)
    close(B, 0.8 / 2 * W @ S)


def test_information_alignment_rests_at_its_ridge_equation(dense):
    W, S, C = moments(*dense)
    B = descent(*dense, np.ones_like(W), 0.05, 1500, amp=2, null=1, decay=0.5)
    close(B, np.linalg.solve(2 * C + 2 * 0.5 * np.eye(len(C)), 2 * W @ S))


def test_symmetric_alignment_rests_at_a_multiple_of_w_and_with_its_coefficients_at_w(dense):
    W, _, _ = moments(*dense)
    close(descent(*dense, np.ones_like(W), 0.3, 200, decay=1, self_=0.5), 0.25 * W)
    rule = registry.make("sa")
    close(descent(*dense, np.ones_like(W), 200, 200, decay=rule.decay, self_=rule.self_), W)


def test_activation_alignment_rests_at_a_multiple_of_w_where_inputs_vary(dense):
    layer, x = dense
    W, S, _ = moments(layer, x)
    start = np.random.default_rng(3).normal(size=W.shape)
    B = descent(layer, x, start, 0.2, 4000, sparse=1, amp=0.5)
    values, vectors = np.linalg.eigh(S)
    along = vectors[:, values > 1e-9]
    span = along @ along.T
    close(B @ span, 0.25 * W @ span)
    across = np.eye(len(S)) - span
    assert abs((B - start) @ across).max() <= 1e-9                      # where no input lies nothing moves
    rule = registry.make("aa")
    assert rule.amp == 2 * rule.sparse                                  # so that B -> W


def test_without_decay_information_alignment_inverts_the_layer():
    """null alone against amp: B W' = amp / (2 null), and for white inputs B' is the pseudo-inverse."""
    layer, _ = one_layer("dense")
    rng = np.random.default_rng(1)
    x = columns(np.linalg.qr(rng.normal(size=(12, 7)))[0] * 12 ** 0.5, 6)              # mean x x' = 1
    W, S, _ = moments(layer, x)
    assert np.allclose(S, np.eye(7), atol=1e-12)
    B = descent(layer, x, np.zeros_like(W), 0.1, 4000, amp=2, null=1)
    assert abs(B @ W.T - np.eye(5)).max() <= 1e-9 and abs(B.T - np.linalg.pinv(W)).max() <= 1e-9


def test_a_convolution_under_sa_and_aa_comes_to_rest_at_w():
    layer, x = one_layer("conv", n=20)
    W = layer.weight.value
    start = np.random.default_rng(3).normal(size=W.shape)
    close(descent(layer, x, start, 0.3, 200, decay=1, self_=2), W)
    close(descent(layer, x, start, 0.01, 3000, sparse=1, amp=2), W)


def test_w_at_rest_stays_at_rest_in_training_and_is_backprop():
    """sa and aa with B = W: the gradient is zero while W stands still."""
    for name in ("sa", "aa"):
        trial = Trial(stride_net, lambda name=name: registry.make(name))
        for layer in trial.rule.layers:
            layer.feedback.become_exact(layer)
        trial.run()
        assert not differ(trial.assign(), trial.backprop(), 1e-12)
        trial.assign()
        assert abs(trial.rule.state.grad).max() <= 1e-17


@pytest.mark.parametrize("name, published", [
    ("ia", {"amp": 2e-3, "null": 1e-3, "decay": 1e-3}), ("sa", {"decay": 1e-3, "self_": 2e-3}),
    ("aa", {"sparse": 1e-3, "amp": 2e-3})])
def test_the_coefficients_are_those_of_kunins_code(name, published):
    rule = registry.make(name)
    assert {term: getattr(rule, term) for term in PRIMITIVES} == {term: published.get(term, 0) for term in PRIMITIVES}
    assert rule.noise == 0


# -- against other rules ----------------------------------------------------------------------------------------------

def test_amp_and_decay_on_noise_are_the_weight_mirror():
    """lr amp / N = rate, 2 lr decay = lam, the same noise: the same step, to rounding."""
    net = Sequential(a=Dense(6), act=Tanh(), b=Dense(4, bias=False)).build(5, 1, np.float64)
    mirror = WeightMirror(rate=0.02, samples=10, decay=0.03).attach(net, 3)
    layer = net.layers[2]
    B, heard = layer.feedback.matrix.value.copy(), []
    layer.apply = lambda x, W, apply=layer.apply: (heard.append(x), apply(x, W))[1]
    mirror.mirror(layer, np.random.default_rng(0))
    lr = 0.5
    g = Alignment(amp=0.02 * 10 / lr, decay=0.03 / (2 * lr)).gradient(layer, heard[0], B, Passing)
    close(B - lr * g, layer.feedback.matrix.value, 1e-14)


def test_with_coefficients_too_small_to_see_it_is_feedback_alignment():
    def optimise(arena):
        return SGD(arena, 0.05)
    one = Trial(dense_net, lambda: Alignment(decay=1e-300), optimise=optimise)
    two = Trial(dense_net, FeedbackAlignment, optimise=optimise)
    for step in range(4):
        one.step(step)
        two.step(step)
    assert not differ(one.forward_state(), two.forward_state())


def test_only_the_term_that_hands_w_over_gives_the_claim_away():
    assert [NO_TRANSPORT in registry.make(name).claims for name in RULES] == [True, False, True]


# -- noise, optimisers, cutting, precision ----------------------------------------------------------------------------

def test_noise_takes_the_inputs_place_and_is_new_for_every_layer_and_step():
    trial = Trial(dense_net, lambda: Alignment(amp=2, decay=1, noise=0.3))
    net, heard = trial.net, {}
    for layer in trial.rule.layers:
        def outer(x, z, layer=layer, outer=layer.outer, **out):
            heard.setdefault(layer.path, []).append(x)
            return outer(x, z, **out)
        layer.outer = outer
    for step in (0, 1, 1):
        tape = trial.run(step)
        trial.assign()
    for layer in trial.rule.layers:
        _, first, _, second, true, again = heard[layer.path]            # the weight's own outer comes first
        assert np.array_equal(true, tape.seen(layer)[0]) and np.array_equal(second, again)
        assert first.shape == true.shape and not np.isin(first, second).any()
    noise = np.concatenate([heard[layer.path][1].ravel() for layer in weighted(net)[1:]])
    assert abs(noise.mean()) < 0.1 and 0.2 < noise.std() < 0.4 and len(np.unique(noise)) == noise.size


def test_of_noise_it_learns_w_whatever_the_inputs_are():
    trial = Trial(dense_net, lambda: Alignment(decay=1, amp=2, noise=1, optimiser=lambda arena: SGD(arena, 0.02)))
    for step in range(600):
        trial.run(step)
        trial.rule.assign(trial.net, trial.tape)
        trial.rule.learn(trial.net, trial.tape)                         # W stands still
    for layer in trial.rule.layers:
        assert angle(layer.feedback.matrix.value, layer.weight.value) < 25


def test_an_optimiser_of_its_own_steps_the_feedback():
    own = []
    def mine(arena):
        own.append(SGD(arena, 100))
        return own[-1]
    trial = Trial(dense_net, lambda: Alignment(decay=1e-3, self_=2e-3, optimiser=mine))
    for step in range(60):
        trial.run(step)
        trial.rule.assign(trial.net, trial.tape)
        trial.rule.learn(trial.net, trial.tape)
    assert trial.rule.optimiser is own[0] and own[0].steps == 60
    for layer in trial.rule.layers:
        close(layer.feedback.matrix.value, layer.weight.value, 1e-5)


@pytest.mark.parametrize("name", [*RULES, "ia:noise=0.5"])
def test_how_a_batch_is_cut_changes_nothing(name):
    found = one_chunk_and_two(NETS["residual"], lambda: registry.make(name), lambda trial: after_steps(trial).state())
    assert not differ(*found, 1e-11)


@pytest.mark.parametrize("name", [*RULES, "ia:noise=0.5"])
def test_in_float32_it_stays_float32_and_near_the_run_in_float64(name):
    assert_float32_stays_and_is_near_float64(stride_net, lambda: registry.make(name))


@pytest.mark.parametrize("options, says", [
    ({}, "decay, sparse and null all 0"), ({"amp": 1}, "B grows without bound"), ({"self_": 1, "amp": 1}, "all 0"),
    ({"decay": -1}, "decay -1; expected a finite number of at least 0"), ({"null": "a"}, "null 'a'"),
    ({"decay": 1, "noise": -0.1}, "noise -0.1"), ({"sparse": 1, "optimiser": 3}, "optimiser 3")])
def test_options_that_mean_nothing_are_refused(options, says):
    with pytest.raises(SettingError, match=f"Alignment.*{says}"):
        Alignment(**options)


# -- learning ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, least", [("ia", 0.65), ("sa", 0.8), ("aa", 0.8)])
def test_its_hidden_layers_learn_in_a_few_epochs(name, least):
    train, test = prototypes()
    assert trained(registry.make(name), mlp(20, 64, 64, 10), train, test, lr=1e-2, epochs=8) > least


@pytest.mark.long
@pytest.mark.parametrize("name, least", [("ia", 0.83), ("sa", 0.92), ("aa", 0.92)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_prototypes_sa_and_aa_are_backprop_and_ia_far_above_the_last_layer_alone(name, least, seed):
    train, test = prototypes()
    assert trained(registry.make(name), mlp(20, 64, 64, 10, seed=seed), train, test, seed=seed) > least


def test_flattened_maps_are_inputs_too():
    net = ready(Sequential(conv=Conv2d(2, 3), act=Tanh(), flatten=Flatten(), fc=Dense(3)), (4, 4, 1), 0)
    rule = registry.make("aa").attach(net, 0)
    assert [layer.path for layer in rule.layers] == ["fc"]

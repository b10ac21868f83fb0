import numpy as np
import pytest
from hypothesis import given, settings

from nplearn.errors import BuildError
from nplearn.layers import Dense, Sequential, holders, leaves, weighted
from nplearn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError
from nplearn.rules import EXACT_TOP, NO_TRANSPORT, REDUCES, SAMPLES_APART, Backprop
from nplearn.tape import Tape
from nplearn.testing.strategies import batch, nets, seeds
from nplearn.testing.trial import NETS, Trial, dense_net, differ


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), SquaredError(), SigmoidCrossEntropy()],
                         ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("net", ["dense", "norm", "residual"])
def test_the_gradient_is_the_derivative_of_the_mean_loss(net, loss):
    trial = Trial(NETS[net], Backprop, seed=3, loss=loss)
    trial.run()
    trial.assign()
    arena, checks = trial.net.arena, 0
    for p, s in zip(arena.params, arena.slices, strict=True):       # one direction in each array
        v = np.zeros_like(arena.value)
        v[s] = np.random.default_rng(checks).normal(size=p.value.size)
        predicted, start, values = arena.grad @ v, arena.value.copy(), {}
        for k in (-2, -1, 1, 2):
            arena.value[:] = start + 1e-4 * k * v
            values[k] = trial.tape.again().run(trial.net)
        arena.value[:] = start
        measured = (8 * (values[1] - values[-1]) - values[2] + values[-2]) / 12e-4
        assert measured == pytest.approx(predicted, rel=2e-6, abs=2e-8), p      # a kink within 2e-4 would show larger
        checks += 1
    assert checks == len(trial.gradients())


@settings(max_examples=10, deadline=None)
@given(nets(), seeds())
def test_the_walk_under_backprop_is_the_exact_walk_to_the_bit(net, seed):
    trial = Trial(lambda _: net, Backprop, seed % 1000)
    trial.run()
    assert not differ(trial.assign(), trial.backprop())


def test_attaching_backprop_removes_what_another_rule_left():
    trial = Trial(NETS["residual"], Backprop)
    for holder in holders(trial.net):
        holder.feedback = None
    Backprop().attach(trial.net)
    assert all(type(holder.feedback) is type(holder.exact) for holder in holders(trial.net))


def test_the_input_product_of_the_lowest_layer_is_never_computed():
    trial = Trial(dense_net, Backprop)
    lowest = weighted(trial.net)[0]
    assert not lowest.sends and all(layer.sends for layer in weighted(trial.net)[1:])
    lowest.adjoint = None
    trial.step(0)


def test_backprop_claims_all_but_freedom_from_transport():
    assert Backprop.claims == {REDUCES, EXACT_TOP, SAMPLES_APART} and NO_TRANSPORT not in Backprop.claims
    rule = Trial(dense_net, Backprop).rule
    assert rule.arrays() == {} and rule.memory() == 0 and rule.optimisers() == {} and rule.state is None


def test_a_net_that_is_not_built_is_refused_with_advice():
    with pytest.raises(BuildError, match="Backprop: a net that is not built; expected net.build"):
        Backprop().attach(Sequential(Dense(3)))


def test_one_hidden_unit_by_hand():
    net = Sequential(fc1=Dense(1, bias=False), fc2=Dense(1, bias=False)).build((1,), dtype=np.float64)
    for layer, w in zip(leaves(net), (2.0, 3.0), strict=True):
        layer.weight.value[...] = w
    Backprop().attach(net)
    tape = Tape(net, SquaredError()).begin(np.array([[1.0], [2.0]]), np.array([[7.0], [7.0]]))
    assert tape.run(net) == (1 + 25) / 4                            # outputs 6 and 12, half squares, mean of two
    Backprop().attach(net).assign(net, tape)
    # e = (-1, 5) / 2; dW2 = sum e h = (-1 * 2 + 5 * 4) / 2 = 9; dW1 = sum 3 e x = 3 (-1 + 10) / 2 = 13.5
    assert net.layers[1].weight.grad == 9 and net.layers[0].weight.grad == 13.5


@settings(max_examples=5, deadline=None)
@given(nets(norm=False), seeds())
def test_a_tape_taken_by_hand_gives_what_the_trial_gives(net, seed):
    rule = Backprop().attach(net)
    tape = Tape(net, SoftmaxCrossEntropy()).begin(*batch(net, seed, 3))
    tape.output = net.forward(tape.input, tape)
    tape.values, tape.error = tape.loss(tape.output, tape.labels)
    rule.assign(net, tape)
    first = net.arena.grad.copy()
    tape.begin(*batch(net, seed, 3)).run(net)
    rule.assign(net, tape)
    assert np.array_equal(first, net.arena.grad)

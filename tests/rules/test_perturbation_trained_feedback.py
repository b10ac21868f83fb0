"""Perturbation-trained feedback: its matrices become W in a linear net, by least squares; all else is FA's."""
import numpy as np
import pytest

from nplearn.columns import beside, sample_sum
from nplearn.errors import SettingError
from nplearn.layers import BatchNorm, Dense, Dropout, Flatten, Sequential, Tanh, weighted
from nplearn.losses import SquaredError
from nplearn.optim import SGD, Adam
from nplearn.rules import FeedbackAlignment, PerturbationTrainedFeedback, registry
from nplearn.tape import Tape
from nplearn.testing.trial import NETS, Trial, angle, dense_net, differ, ready
from tests.rules.smoke import mlp, prototypes, trained

CHAINS = {name: NETS[name] for name in ("dense", "stride", "map", "norm")}


@pytest.mark.parametrize("net", CHAINS)
def test_weights_get_the_gradients_of_feedback_alignment_with_the_same_matrices(net):
    mine, theirs = Trial(CHAINS[net], PerturbationTrainedFeedback), Trial(CHAINS[net], FeedbackAlignment)
    for layer, other in zip(mine.rule.layers, theirs.rule.layers, strict=True):
        other.feedback.matrix.value[...] = layer.feedback.B.matrix.value
    mine.run()
    theirs.run()
    assert not differ(mine.assign(), theirs.assign())


def test_feedback_of_a_linear_net_becomes_w():
    net = ready(Sequential(fc1=Dense(5), fc2=Dense(4)), (3,))
    rule = PerturbationTrainedFeedback(optimiser=lambda arena: Adam(arena, lr=0.01)).attach(net, 1)
    rule.follow(SGD(net.arena, 0.0))
    tape, layer, rng, mean = Tape(net, SquaredError()), weighted(net)[1], np.random.default_rng(0), 0
    before = angle(layer.feedback.B.matrix.value, layer.weight.value)
    for step in range(1500):
        tape.begin(rng.normal(size=(100, 3)), rng.normal(size=(100, 4)), seed=step).run()
        rule.assign(net, tape)
        rule.learn(net, tape)
        mean = mean + layer.feedback.B.matrix.value / 500 if step >= 1000 else mean
    off = np.linalg.norm(mean - layer.weight.value) / np.linalg.norm(layer.weight.value)
    assert before > 45 and off < 0.03 and angle(mean, layer.weight.value) < 2


@pytest.mark.parametrize("antithetic", [False, True])
def test_the_gradient_of_the_feedback_is_that_of_its_least_squares(antithetic):
    trial = Trial(dense_net, lambda: PerturbationTrainedFeedback(antithetic=antithetic), seed=3)
    tape = trial.run()
    layer = trial.rule.layers[0]
    B = layer.feedback.B.matrix
    xi = {each: trial.rule.noise(tape, each, tape.seen(each)[0]) for each in trial.rule.layers}
    gain = (trial.rule.moved(tape, xi, 0.01) - tape.values) / 0.01
    if antithetic:
        gain = (trial.rule.moved(tape, xi, 0.01) - trial.rule.moved(tape, xi, -0.01)) / 0.02
    walk = tape.walk(records=True)
    trial.rule.assign(trial.net, walk)
    d, found = walk.deltas[layer][0] * tape.count, B.grad.copy()        # the delta above does not depend on this B

    def loss():
        off = layer.adjoint(d, B.value, tape.seen(layer)[0].shape) - gain[:, None] * xi[layer]
        return (off * off).sum() / 2 / tape.count
    for index in [(0, 0), (2, 3), (6, 8)]:
        kept, ends = B.value[index], []
        for step in 1e-5, -1e-5:
            B.value[index] = kept + step
            ends.append(loss())
            B.value[index] = kept
        assert abs((ends[0] - ends[1]) / 2e-5 - found[index]) < 1e-7 * abs(found).max()


def told(net, rule, tape):
    """{layer: what noise says of the error at its input}, as the walk finds it."""
    found = {}
    net.backward = lambda error, tape: found.update({layer: tape.seen(layer.feedback)[-1] for layer in rule.layers})
    rule.assign(net, tape)
    del net.backward
    return found


def test_a_walk_that_is_not_the_rules_teaches_w_and_leaves_b_alone():
    """Before and after the rule's own of another pass: nothing of it is left outside its tape."""
    trial = Trial(dense_net, PerturbationTrainedFeedback)
    def learned():
        return {param.path: param.grad.copy() for param in trial.rule.state.params}
    trial.run()
    other, wanted = Tape(trial.net, trial.tape.loss), trial.assign()
    first = learned()
    trial.begin(1, tape=other).run(trial.net)
    trial.rule.assign(trial.net, other)
    assert differ(learned(), first, 1e-3)
    trial.rule.state.grad[...] = 7
    for tape in trial.begin(0, tape=other), trial.tape:
        fresh = tape.again()
        fresh.run(trial.net)
        trial.net.backward(fresh.error, fresh)
        assert not differ(trial.gradients(), wanted) and (trial.rule.state.grad == 7).all()
    assert not differ(trial.assign(), wanted) and not differ(learned(), first)


def early_norm(seed=0):
    """What stands before the first weighted layer learns, so that this one sends too."""
    return ready(Sequential(norm=BatchNorm(), flatten=Flatten(), fc1=Dense(7), act=Tanh(), fc2=Dense(4)),
                 (3, 2, 2), seed)


def dropped(seed=0):
    return ready(Sequential(fc1=Dense(20), act1=Tanh(), drop=Dropout(0.5), fc2=Dense(8), act2=Tanh(), fc3=Dense(4)),
                 (6,), seed)


@pytest.mark.parametrize("net", [NETS["dense"], NETS["stride"], NETS["map"], early_norm, dropped])
def test_noise_tells_the_slope_of_each_samples_loss_along_it_at_the_inputs_of_all_layers_that_send(net):
    trial = Trial(net, lambda: PerturbationTrainedFeedback(sigma=1e-5, antithetic=True))
    tape = trial.run()
    xi = {layer: trial.rule.noise(tape, layer, tape.seen(layer)[0]) for layer in trial.rule.layers}
    walk = tape.walk(exact=True, records=True)
    trial.net.backward(tape.error, walk)
    slope = sum(sample_sum(layer.adjoint(walk.deltas[layer][0], layer.weight.value, x.shape) * x)
                for layer, x in xi.items())
    for layer, found in told(trial.net, trial.rule, tape).items():
        wanted = beside(slope, xi[layer]) * xi[layer]
        assert abs(found - wanted).max() < 1e-6 * abs(wanted).max()


def test_every_layer_and_step_has_noise_of_its_own():
    trial, seen = Trial(lambda seed: ready(Sequential(*(Dense(6) for _ in range(4))), (6,), seed),
                        PerturbationTrainedFeedback), []
    for step in range(2):
        tape = trial.run(step)
        seen += [trial.rule.noise(tape, layer, tape.seen(layer)[0]) for layer in trial.rule.layers]
    assert len(seen) == 6 and len(np.unique(seen)) == np.size(seen)


def test_an_antithetic_pair_removes_the_even_orders():
    """At a sample's minimum of the loss the slope is 0: the pair says so, one draw says the curvature."""
    net = ready(Sequential(fc1=Dense(4), fc2=Dense(3)), (2,))
    tape = Tape(net, SquaredError()).begin(np.random.default_rng(0).normal(size=(4, 2)), np.zeros((4, 3)), seed=1)
    tape.labels = net.forward(tape.input)               # zero error
    tape.run()
    for antithetic in False, True:
        rule = PerturbationTrainedFeedback(sigma=0.1, antithetic=antithetic).attach(net)
        (found,) = told(net, rule, tape).values()
        assert abs(found).max() < 1e-15 if antithetic else (found != 0).all()


def test_it_keeps_the_contract(contract):
    assert list(contract(PerturbationTrainedFeedback).refused) == ["residual"]
    contract(lambda: registry.make("ptf:antithetic=true"), seeds=(2,))


def test_wrong_options_are_refused():
    with pytest.raises(SettingError, match="PerturbationTrainedFeedback: sigma -1; expected a finite number"):
        PerturbationTrainedFeedback(sigma=-1)
    with pytest.raises(SettingError, match="antithetic 'no'; expected true or false"):
        PerturbationTrainedFeedback(antithetic="no")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_how_the_batch_is_cut_changes_no_gradient_but_by_rounding(dtype):
    found = []
    for column_bytes in 0, 2**21:
        def build(seed, bytes=column_bytes):
            net = NETS["map"](seed).build((6, 5, 2), seed, dtype)
            net.column_bytes = bytes
            return net
        trial = Trial(build, lambda: PerturbationTrainedFeedback(sigma=0.1))        # differences lose digits
        trial.run()
        estimates = {layer.path: x for layer, x in told(trial.net, trial.rule, trial.tape).items()}
        assert {x.dtype for x in estimates.values()} == {np.dtype(dtype)}
        found.append(trial.assign() | {path: param.grad.copy() for path, param in trial.rule.params().items()})
        assert len(found[-1]) == 8
    assert not differ(*found, 10000 * np.finfo(dtype).eps)


def test_a_short_training_beats_the_last_layer_alone():
    train, test = prototypes()
    rule = PerturbationTrainedFeedback(optimiser=lambda arena: Adam(arena, lr=1e-3))
    found, frozen = (trained(r, mlp(20, 64, 64, 10), train, test, epochs=12) for r in (rule, registry.make("frozen")))
    assert found > frozen + 0.15


@pytest.mark.long
def test_the_smoke_training_lands_in_its_band():
    """97.2, 94.6, 96.0 % were found by others on this task; feedback alignment reaches 94."""
    train, test = prototypes()
    found = [trained(PerturbationTrainedFeedback(optimiser=lambda arena: Adam(arena, lr=1e-3)),
                     mlp(20, 64, 64, 10, seed=seed), train, test, seed=seed) for seed in range(3)]
    assert np.mean(found) > 0.91, found

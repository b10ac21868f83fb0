"""Difference target propagation, with a gradient at the penultimate layer (DTP) and without any (SDTP)."""
import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.errors import SettingError
from nplearn.feedback import Cut, Transport
from nplearn.layers import Conv2d, Dense, Flatten, Sequential, Tanh, weighted
from nplearn.losses import SoftmaxCrossEntropy, SquaredError
from nplearn.rules import DifferenceTargetPropagation, SimplifiedDifferenceTargetPropagation, TargetPropagation
from nplearn.testing.trial import NETS, N, Trial, dense_net, differ, ready, stride_net
from tests.rules.targets import (
    adam,
    attached,
    beats_frozen_layers,
    error,
    exact_inverses,
    linear,
    relative,
    square,
    targets,
    weights,
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("name", ["dense", "stride", "map"])
def test_the_penultimate_target_is_a_step_down_the_loss_of_each_sample(name):
    """t_{L-1} = h_{L-1} - alpha dloss/dh_{L-1}, of one sample's loss; checked sample by sample."""
    rule = DifferenceTargetPropagation(alpha=0.7)
    trial = Trial(NETS[name], lambda: rule)
    trial.run()
    h, t = targets(rule, trial.tape)
    whole = rows(t[rule.L - 1])
    walk = trial.tape.walk(exact=True)
    down = rule.f[-1].backward(walk.error, walk)
    assert relative(whole, rows(h[-2] - 0.7 * N * down)) < 1e-12
    for n in range(N):
        trial.run(rows=[n])
        _, t = targets(rule, trial.tape)
        assert relative(rows(t[rule.L - 1])[0], whole[n]) < 1e-11


@pytest.mark.parametrize("name", ["dense", "stride", "map"])
def test_the_layer_under_the_last_learns_as_under_backprop_times_alpha(name):
    trial = Trial(NETS[name], lambda: DifferenceTargetPropagation(alpha=0.3))
    trial.run()
    found, exact = trial.assign(), trial.backprop()
    below = [path for path in found if path.startswith(weighted(trial.net)[-2].path)]
    assert not differ(found, {path: 0.3 * exact[path] for path in below}, 1e-12)


@pytest.mark.parametrize("kind, uses", [(DifferenceTargetPropagation, 1), (SimplifiedDifferenceTargetPropagation, 0),
                                        (TargetPropagation, 0)])
def test_a_step_hands_the_last_weight_down_once_and_no_other(kind, uses):
    trial, found = Trial(dense_net, lambda: kind(schedule="both")), []
    for layer in weighted(trial.net):
        def watched(d, W, shape, layer=layer, adjoint=layer.adjoint):
            if np.may_share_memory(W, trial.net.arena.value):
                found.append(layer.path)
            return adjoint(d, W, shape)
        layer.adjoint = watched
    for step in range(2):
        trial.step(step)
    assert found == ["fc3"] * 2 * uses
    assert [type(layer.feedback) for layer in weighted(trial.net)[1:]] == [Cut, Transport if uses else Cut]


def test_the_last_layer_has_no_inverse_and_below_it_the_difference_rule_holds():
    rule = DifferenceTargetPropagation()
    trial = Trial(stride_net, lambda: rule)
    trial.run()
    h, t = targets(rule, trial.tape)
    assert sorted(rule.g) == [2, 3] and sorted(t) == [1, 2, 3] and rule.L == 4
    for i in (3, 2):
        assert relative(t[i - 1], h[i - 1] + rule.g[i].forward(t[i]) - rule.g[i].forward(h[i])) < 1e-14
        assert t[i - 1].shape == h[i - 1].shape and not np.array_equal(t[i - 1], h[i - 1])


def test_with_exact_inverses_below_it_is_target_propagation():
    rule, tape = attached(square(), DifferenceTargetPropagation(alpha=0.01), noise(N, 5), noise(N, 5, seed=1))
    exact_inverses(rule)
    h, t = targets(rule, tape)
    other = TargetPropagation()
    other.g = rule.g
    for i in (3, 2):
        assert relative(other.lower(i, t[i], h, None), t[i - 1]) < 1e-12


def test_in_linear_nets_with_pseudoinverses_the_error_is_the_pseudoinverse_of_the_one_above():
    rule, tape = attached(linear(5, 9, 7, 4, 3), DifferenceTargetPropagation(), noise(N, 5), noise(N, 3))
    for i in rule.g:
        weights(rule, i).value[...] = np.linalg.pinv(rule.f[i].layer.weight.value).T
    h, t = targets(rule, tape)
    for i in (3, 2):
        e, below = rows(h[i] - t[i]), rows(h[i - 1] - t[i - 1])
        assert relative(below, e @ np.linalg.pinv(rule.f[i].layer.weight.value).T) < 1e-10


def test_without_gradients_the_targets_start_from_one_hot_labels_and_probabilities():
    rule = SimplifiedDifferenceTargetPropagation()
    trial = Trial(dense_net, lambda: rule)
    trial.run()
    h, t = targets(rule, trial.tape)
    p = np.exp(rows(trial.tape.output))
    assert relative(rows(h[3]), p / p.sum(axis=1, keepdims=True)) < 1e-14
    assert np.array_equal(rows(t[3]), np.eye(4)[rows(trial.tape.labels)])
    top = rule.g[3]
    assert relative(t[2], h[2] + (top.forward(t[3]) - top.forward(h[3]))) < 1e-15
    assert not np.array_equal(t[2], h[2])
    trial = Trial(dense_net, lambda: rule, loss=SquaredError())
    trial.run()
    assert np.array_equal(targets(rule, trial.tape)[0][3], trial.tape.output)


def test_an_inverse_ends_in_the_nonlinearity_of_the_layer_below():
    rule = SimplifiedDifferenceTargetPropagation().attach(stride_net(0))
    assert [type(g.layers[-1]).__name__ for g in rule.g.values()] == ["Tanh", "LeakyReLU", "Tanh"]
    assert all(g.layers[-1] is not rule.f[i - 1].activation for i, g in rule.g.items())


def test_orthogonal_starts_have_singular_values_of_one():
    rule = DifferenceTargetPropagation().attach(stride_net(0))
    local, dense = weights(rule, 2).value, weights(rule, 3).value
    assert local.shape == (3, 4, 3, 16) and dense.shape == (8, 36)
    for W in (*local.reshape(-1, 3, 16), dense):
        assert abs(np.linalg.svd(W, compute_uv=False) - 1).max() < 1e-12
    assert not np.array_equal(local[0, 0], local[0, 1])
    glorot = DifferenceTargetPropagation(init="glorot").attach(stride_net(0))
    bound = (6 / (8 + 36)) ** 0.5
    V = weights(glorot, 3).value
    assert 0.9 * bound < abs(V).max() < bound and not any(p.value.any() for path, p in glorot.params().items()
                                                           if path.endswith("bias"))


def test_of_a_convolution_the_rows_of_the_kernel_are_orthonormal():
    net = ready(Sequential(a=Conv2d(4, 3), act=Tanh(), b=Conv2d(5, 3, stride=2), act2=Tanh(), flat=Flatten(),
                           c=Dense(6), act3=Tanh(), d=Dense(3)), (5, 4, 2))
    V = weights(DifferenceTargetPropagation().attach(net), 2).value.reshape(5, -1)
    assert abs(V @ V.T - np.eye(5)).max() < 1e-12


@pytest.mark.parametrize("options, says", [({"alpha": -0.1}, "alpha -0.1; expected a finite number of at least 0"),
                                           ({"init": "he"}, "init 'he'; expected orthogonal or glorot")])
def test_wrong_options_are_named(options, says):
    with pytest.raises(SettingError, match=says):
        DifferenceTargetPropagation(**options)


def test_settings_are_the_options():
    rule = DifferenceTargetPropagation(alpha=0.3, init="glorot", schedule="both")
    assert rule.settings() == {"alpha": 0.3, "sigma": 0.1, "init": "glorot", "schedule": "both", "squares": "sum"}


# -- training --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rule", [lambda **how: DifferenceTargetPropagation(0.5, **how),
                                  SimplifiedDifferenceTargetPropagation], ids=["dtp", "sdtp"])
@pytest.mark.parametrize("schedule", ["alternating", "parallel"])
def test_hidden_layers_learn(rule, schedule):
    assert beats_frozen_layers(rule(schedule=schedule, optimiser=adam(1e-3))) > 0.12


@pytest.mark.long
@pytest.mark.parametrize("schedule, wanted", [("alternating", 22.0), ("parallel", 22.5)])
def test_dtp_on_the_teachers_task(schedule, wanted):
    found = error(lambda: DifferenceTargetPropagation(0.5, schedule=schedule, optimiser=adam(1e-3)), 1e-2)
    assert found == pytest.approx(wanted, abs=5)


@pytest.mark.long
@pytest.mark.parametrize("schedule, wanted, lr", [("alternating", 28.4, 3e-3), ("parallel", 28.8, 3e-3)])
def test_sdtp_on_the_teachers_task(schedule, wanted, lr):
    found = error(lambda: SimplifiedDifferenceTargetPropagation(schedule=schedule, optimiser=adam(1e-3)), lr)
    assert found == pytest.approx(wanted, abs=5)


def test_the_loss_decides_what_the_top_inverse_reads():
    for loss in SoftmaxCrossEntropy(), SquaredError():
        rule = SimplifiedDifferenceTargetPropagation(schedule="parallel")
        trial = Trial(dense_net, lambda rule=rule: rule, loss=loss)
        trial.run()
        trial.assign()
        z = rule.corrupted(rule.read(trial.tape)[2], 3, trial.tape.again())
        a = rule.f[3].forward(z)
        assert relative(rule.up(3, z, trial.tape), loss.probability(a)) < 1e-15

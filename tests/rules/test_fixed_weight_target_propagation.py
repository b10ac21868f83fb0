"""Difference targets through random inverses that never learn."""
import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import Dense, Sequential, Tanh
from nplearn.losses import SquaredError
from nplearn.rules import FeedbackAlignment, FixedWeightTargetPropagation
from nplearn.rules.base import NO_TRANSPORT
from nplearn.testing.trial import Batches, Trial, copies, dense_net, differ, ready, stride_net
from tests.rules.targets import adam, attached, beats_frozen_layers, error, linear, relative, targets, weights


def tanh_net(seed=0):
    return ready(Sequential(fc1=Dense(9), a=Tanh(), fc2=Dense(7), b=Tanh(), fc3=Dense(8), c=Tanh(), fc4=Dense(4)),
                 (6,), seed)


def test_in_linear_nets_it_is_feedback_alignment_with_its_own_matrices_times_eta():
    net = linear(6, 9, 7, 4)
    fixed = Trial(lambda _: net, lambda: FixedWeightTargetPropagation(eta=0.3))
    fixed.run()
    found, V = fixed.assign(), {i: weights(fixed.rule, i).value.copy() for i in fixed.rule.g}
    fa = Trial(lambda _: net, FeedbackAlignment)
    for i, B in V.items():
        net.layers[i - 1].feedback.matrix.value[...] = B
    fa.run()
    assert not differ(found, {path: 0.3 * gradient for path, gradient in fa.assign().items()}, 1e-12)


def test_small_inverses_carry_the_error_of_the_layer_above_without_its_gate_and_the_rest_is_of_second_order():
    """h_{l-1} - t_{l-1} = scale adjoint(h_l - t_l, V_l) f'(...): with V small, the nonlinearity is the identity."""
    errors = []
    for scale in (0.1, 0.01):
        rule = FixedWeightTargetPropagation(eta=0.3, scale=scale)
        trial = Trial(tanh_net, lambda rule=rule: rule)
        trial.run()
        h, t = targets(rule, trial.tape)
        e, V = rows(h[4] - t[4]), weights(rule, 4).value
        errors.append(relative(rows(h[3] - t[3]), e @ V))
    assert errors[0] < 0.05 and 50 < errors[0] / errors[1] < 200


@pytest.mark.parametrize("build", [dense_net, stride_net], ids=["dense", "stride"])
def test_the_top_target_is_a_step_down_the_loss_and_the_last_layer_takes_it(build):
    rule = FixedWeightTargetPropagation(eta=0.3)
    trial = Trial(build, lambda: rule)
    trial.run()
    h, t = targets(rule, trial.tape)
    p = np.exp(rows(trial.tape.output))
    p /= p.sum(axis=1, keepdims=True)
    hot = np.eye(p.shape[1])[rows(trial.tape.labels)]
    assert relative(rows(t[rule.L]), rows(trial.tape.output) - 0.3 * (p - hot)) < 1e-13
    found, exact = trial.assign(), trial.backprop()
    top = rule.f[-1].layer.weight.path
    assert not differ({top: found[top]}, {top: 0.3 * exact[top]}, 1e-12)


@pytest.mark.parametrize("build", [dense_net, stride_net], ids=["dense", "stride"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_uppermost_layers_may_take_steps_down_the_loss_themselves(build, depth):
    """direct_depth D: of the uppermost D layers the gradients are backprop's times eta, below them they are not."""
    rule = FixedWeightTargetPropagation(eta=0.3, direct_depth=depth)
    trial = Trial(build, lambda: rule)
    trial.run()
    found, exact = trial.assign(), {path: 0.3 * gradient for path, gradient in trial.backprop().items()}
    for i in range(1, rule.L + 1):
        path = rule.f[i].layer.weight.path
        assert bool(differ({path: found[path]}, {path: exact[path]}, 1e-12)) == (i <= rule.L - depth)
    h, t = targets(rule, trial.tape)
    assert sorted(rule.g) == list(range(2, rule.L - depth + 2)) and sorted(t) == list(range(1, rule.L + 1))
    for i in rule.g:
        assert relative(t[i - 1], h[i - 1] + rule.g[i].forward(t[i]) - rule.g[i].forward(h[i])) < 1e-13


def test_more_than_the_output_is_weight_transport_and_said_to_be(contract):
    assert NO_TRANSPORT in FixedWeightTargetPropagation().claims
    assert "by W" in FixedWeightTargetPropagation(direct_depth=2).walk
    report = contract(lambda: FixedWeightTargetPropagation(direct_depth=2), {"dense": dense_net}, (4,))
    assert NO_TRANSPORT not in FixedWeightTargetPropagation(direct_depth=2).claims and not report.refused
    with pytest.raises(BuildError, match="direct_depth 4, and 3 weighted layers; expected at most 3"):
        FixedWeightTargetPropagation(direct_depth=4).attach(dense_net(0))


def test_nothing_learns_but_the_weights():
    trial = Trial(stride_net, FixedWeightTargetPropagation)
    before = copies(trial.rule.arrays())
    trial.rule.phase(trial.net, Batches(trial, 0))
    for step in range(3):
        trial.step(step)
    assert not differ(trial.rule.arrays(), before) and trial.rule.state is None and not trial.rule.params()
    assert not any(path.endswith("bias") for path in before) and len(before) == 3


def test_inverses_are_uniform_between_plus_and_minus_scale():
    V = weights(FixedWeightTargetPropagation(scale=0.02).attach(
        ready(Sequential(a=Dense(100), b=Dense(90)), (5,))), 2).value
    assert 0.019 < V.max() < 0.02 and -0.02 < V.min() < -0.019 and abs(V.std() - 0.02 / 3 ** 0.5) < 2e-4


def test_eta_is_a_factor_of_all_deltas_in_linear_nets_alone():
    def deltas(net, eta):
        rule, tape = attached(net, FixedWeightTargetPropagation(eta=eta), np.eye(6), np.zeros((6, 4)), SquaredError())
        h, t = targets(rule, tape)
        return rows(h[1] - t[1])
    assert relative(deltas(linear(6, 9, 7, 4), 0.1), deltas(linear(6, 9, 7, 4), 0.2) / 2) < 1e-12
    strong = ready(Sequential(a=Dense(9), t=Tanh(), b=Dense(7), u=Tanh(), c=Dense(4)), (6,))
    assert relative(deltas(strong, 0.1), deltas(strong, 5) / 50) > 1e-4


@pytest.mark.parametrize("options, says", [({"eta": -1}, "eta -1; expected a finite number of at least 0"),
                                           ({"scale": "x"}, "scale 'x'; expected a finite number of at least 0"),
                                           ({"direct_depth": 0}, "direct_depth 0; expected a whole number")])
def test_wrong_options_are_named(options, says):
    with pytest.raises(SettingError, match=says):
        FixedWeightTargetPropagation(**options)


# -- training --------------------------------------------------------------------------------------------------------

def test_hidden_layers_learn():
    assert beats_frozen_layers(FixedWeightTargetPropagation(), 4) > 0.12


@pytest.mark.long
def test_on_the_teachers_task_large_inverses_are_worse():
    small = error(lambda: FixedWeightTargetPropagation(eta=0.3, scale=0.1), 1e-2)
    assert small == pytest.approx(19.8, abs=5)
    assert error(lambda: FixedWeightTargetPropagation(eta=0.3, scale=0.5), 1e-2) > small + 4


def test_an_optimiser_for_what_does_not_learn_is_no_option():
    with pytest.raises(TypeError):
        FixedWeightTargetPropagation(optimiser=adam(1e-3))

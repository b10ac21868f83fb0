"""SDTP whose top inverse also reads auxiliary units."""
import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import Conv2d, Dense, Flatten, Sequential, Tanh
from nplearn.losses import SquaredError
from nplearn.optim import AdamW
from nplearn.rules import AuxiliaryOutput, SimplifiedDifferenceTargetPropagation
from nplearn.testing.trial import Trial, copies, dense_net, differ, ready, stride_net
from tests.rules.targets import adam, beats_frozen_layers, error, relative, targets, weights


@pytest.mark.parametrize("schedule", ["alternating", "parallel", "both"])
@pytest.mark.parametrize("build", [dense_net, stride_net], ids=["dense", "stride"])
def test_without_units_it_is_sdtp_to_the_bit(build, schedule):
    one = Trial(build, lambda: AuxiliaryOutput(units=0, schedule=schedule))
    two = Trial(build, lambda: SimplifiedDifferenceTargetPropagation(schedule=schedule))
    for step in range(4):
        one.step(step)
        two.step(step)
    assert not differ(one.state(), two.state()) and not differ(two.state(), one.state())
    assert not differ(one.gradients(), two.gradients())


def test_the_units_stand_beside_output_and_target_alike():
    rule = AuxiliaryOutput(units=5)
    trial = Trial(dense_net, lambda: rule)
    trial.run()
    h, t = targets(rule, trial.tape)
    A = rule.fixed()["auxiliary.weight"]
    z = np.tanh(A @ h[2])
    p = np.exp(rows(trial.tape.output))
    assert relative(rows(h[3]), np.hstack([p / p.sum(axis=1, keepdims=True), rows(z)])) < 1e-14
    assert np.array_equal(rows(t[3]), np.hstack([np.eye(4)[rows(trial.tape.labels)], rows(h[3])[:, 4:]]))
    assert weights(rule, 3).value.shape == (9, 7) and A.shape == (5, 7)
    assert relative(t[2], h[2] + (rule.g[3].forward(t[3]) - rule.g[3].forward(h[3]))) < 1e-15


def test_targets_of_one_class_differ_with_units_even_where_outputs_agree():
    """The top inverse alone reads ten vectors under SDTP: g_L(t_L) is one per class."""
    distinct = {}
    for units in (0, 5):
        rule = AuxiliaryOutput(units=units)
        trial = Trial(dense_net, lambda rule=rule: rule)
        trial.run()
        _, t = targets(rule, trial.tape)
        distinct[units] = len(np.unique(rows(rule.g[3].forward(t[3])).round(12), axis=0))
    assert distinct == {0: len(np.unique(trial.tape.labels)), 5: 8}


def test_its_weights_are_fixed_under_adam_with_decay_and_in_no_arena_that_moves():
    trial = Trial(stride_net, lambda: AuxiliaryOutput(units=6, schedule="both"),
                  optimise=lambda arena: AdamW(arena, 0.01, decay=0.1))
    before = copies(trial.rule.fixed())
    assert set(before) == {"auxiliary.weight"} and before["auxiliary.weight"].any()
    for step in range(4):
        trial.step(step)
    assert not differ(trial.rule.fixed(), before)
    assert not any("auxiliary" in param.path for arena in (trial.net.arena, trial.rule.state) for param in arena.params)


def test_corrupted_activities_reach_the_units_too():
    rule = AuxiliaryOutput(units=5)
    trial = Trial(dense_net, lambda: rule)
    trial.run()
    z = rule.corrupted(rule.read(trial.tape)[2], 3, trial.tape.again())
    A = rule.fixed()["auxiliary.weight"]
    assert relative(rule.up(3, z, trial.tape)[:, 4:], np.tanh(A @ z)) < 1e-14


def test_the_top_inverse_is_drawn_by_glorots_law_for_all_it_reads():
    rule = AuxiliaryOutput(units=300).attach(dense_net(0))
    bound = (6 / (304 + 7)) ** 0.5
    V, A = weights(rule, 3).value, rule.fixed()["auxiliary.weight"]
    assert 0.95 * bound < abs(V).max() < bound
    assert abs(np.corrcoef(A.ravel(), V.ravel()[:A.size])[0, 1]) < 0.1      # drawn apart


def test_a_last_layer_that_is_not_dense_is_refused():
    net = Sequential(a=Dense(24), act=Tanh(), b=Dense(6), act2=Tanh(), c=Dense(4), flat=Flatten())
    AuxiliaryOutput(units=0).attach(ready(net, (3,)))
    net = Sequential(a=Conv2d(4, 3), act=Tanh(), b=Conv2d(2, 3))
    with pytest.raises(BuildError, match="b: a last layer that is no plain Dense"):
        AuxiliaryOutput(units=3).attach(ready(net, (4, 4, 1)))


@pytest.mark.parametrize("units", [-1, 2.5, "many"])
def test_wrong_numbers_of_units_are_named(units):
    with pytest.raises(SettingError, match="AuxiliaryOutput: units .*; expected a whole number of at least 0"):
        AuxiliaryOutput(units=units)


def test_another_net_forgets_the_units_of_the_last():
    rule = AuxiliaryOutput(units=3)
    first = rule.attach(dense_net(0)).fixed()["auxiliary.weight"]
    assert rule.attach(stride_net(0)).fixed()["auxiliary.weight"].shape == (3, 8) != first.shape
    assert not rule.attach(ready(Sequential(fc=Dense(3)), (4,))).fixed()


def test_under_squared_error_the_output_itself_is_read():
    rule = AuxiliaryOutput(units=2)
    trial = Trial(dense_net, lambda: rule, loss=SquaredError())
    trial.run()
    assert np.array_equal(targets(rule, trial.tape)[0][3][:, :4], trial.tape.output)


# -- training --------------------------------------------------------------------------------------------------------

def test_hidden_layers_learn():
    assert beats_frozen_layers(AuxiliaryOutput(64, optimiser=adam(1e-3))) > 0.12


@pytest.mark.long
def test_on_the_teachers_task_the_units_repair_sdtp():
    found = error(lambda: AuxiliaryOutput(64, optimiser=adam(1e-3)), 1e-2)
    assert found == pytest.approx(14.6, abs=5)
    assert found < error(lambda: SimplifiedDifferenceTargetPropagation(optimiser=adam(1e-3)), 3e-3) - 5

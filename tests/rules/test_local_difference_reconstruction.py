"""Inverses that learn the transposed Jacobian by local noise."""
import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.errors import SettingError
from nplearn.layers import Dense, Sequential, Tanh
from nplearn.optim import SGD
from nplearn.rules import LocalDifferenceReconstruction, TargetPropagation
from nplearn.testing.trial import Batches, Trial, copies, dense_net, differ, ready, stride_net
from tests.rules.targets import (
    adam,
    assert_gradients_are_slopes,
    attached,
    beats_frozen_layers,
    error,
    linear,
    per_sample,
    relative,
    targets,
    weights,
    white,
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_in_linear_nets_with_inverses_equal_to_w_it_is_backprop_times_beta():
    trial = Trial(lambda seed: linear(6, 9, 7, 5, 4), lambda: LocalDifferenceReconstruction(beta=0.7))
    for i in trial.rule.g:
        weights(trial.rule, i).value[...] = trial.rule.f[i].layer.weight.value
    trial.run()
    found = trial.assign()
    assert not differ(found, {path: 0.7 * gradient for path, gradient in trial.backprop().items()}, 1e-12)


@pytest.mark.parametrize("build", [dense_net, stride_net], ids=["dense", "stride"])
def test_the_last_layer_takes_beta_times_the_exact_gradient_and_its_target_lies_at_the_logits(build):
    rule = LocalDifferenceReconstruction(beta=0.4)
    trial = Trial(build, lambda: rule)
    trial.run()
    h, t = targets(rule, trial.tape)
    assert np.array_equal(h[-1], trial.tape.output)
    assert relative(h[-1] - t[rule.L], 0.4 * 8 * trial.tape.error) < 1e-12
    found, exact, top = trial.assign(), trial.backprop(), rule.f[-1].layer.weight.path
    assert not differ({top: found[top]}, {top: 0.4 * exact[top]}, 1e-12)


def exactly_white(sigma, seed=0):
    """(rule, tape, net): linear 9 -> 6 in the middle, both noises with exact moments and apart from each other."""
    draws = white(15, 40, seed)
    class Given(LocalDifferenceReconstruction):
        def noise(self, x, i, tape, where, k):
            if i > 2:
                return super().noise(x, i, tape, where, k)
            return draws[:, :9].T[None] if where == "below" else draws[:, 9:].T[None]
    net = linear(5, 9, 6, 3)
    net.column_bytes = 0
    return *attached(net, Given(sigma=sigma, steps=1), noise(40, 5), noise(40, 3)), net


def test_for_linear_layers_the_gradient_is_twice_the_variance_times_v_less_w():
    rule, tape, net = exactly_white(0.3)
    rule.inner(rule.read(tape), 0, tape.again())
    V, W = weights(rule, 2), net.layers[1].weight.value
    assert relative(V.grad, 2 * 0.3 ** 2 * (V.value - W)) < 1e-12
    V.value[...] = W
    rule.inner(rule.read(tape), 0, tape.again())
    assert abs(V.grad).max() < 1e-14


def test_the_transpose_is_learned_by_activity_alone():
    rule = LocalDifferenceReconstruction(sigma=0.5, steps=250, optimiser=lambda arena: SGD(arena, 0.02))
    trial = Trial(lambda seed: linear(5, 9, 6, 3), lambda: rule)
    V, W = weights(rule, 2).value, trial.net.layers[1].weight.value
    def cosine():
        return (V * W).sum() / np.linalg.norm(V) / np.linalg.norm(W)
    assert abs(cosine()) < 0.5
    for step in range(3):
        trial.run(step)
        rule.learn(trial.net, trial.tape)
    assert cosine() > 0.99


@pytest.mark.parametrize("build", [dense_net, stride_net], ids=["dense", "stride"])
def test_gradients_of_inverses_are_those_of_the_loss(build):
    rule = LocalDifferenceReconstruction(sigma=0.3)
    trial = Trial(build, lambda: rule)
    trial.run()
    h, now = rule.read(trial.tape), trial.tape.again()
    rule.inner(h, 3, now)
    gradients = copies({path: param.grad for path, param in rule.params().items()})
    again = trial.tape.again()
    def loss(path):
        total = 0
        for i, g in rule.g.items():
            xi, zeta = (0.3 * rule.noise(x, i, again, where, 3) for x, where in ((h[i - 1], "below"), (h[i], "above")))
            o, o1, o2 = map(g.forward, (h[i], rule.f[i].forward(h[i - 1] + xi), h[i] + zeta))
            total += per_sample(o2 - o) - 2 * (rows(xi) * rows(o1 - o)).sum() / 8
        return total
    assert_gradients_are_slopes(rule, gradients, loss)


def test_inverses_take_their_steps_after_the_weights_have_moved_with_the_weights_as_they_are():
    made = []
    def own(arena):
        made.append(SGD(arena, 0.01))
        return made[-1]
    trial = Trial(dense_net, lambda: LocalDifferenceReconstruction(steps=4, optimiser=own))
    trial.rule.phase(trial.net, Batches(trial, 0))
    before = copies(trial.rule.arrays())
    trial.run()
    trial.assign()
    assert made[0].moves == 0 and not differ(trial.rule.arrays(), before)
    trial.net.arena.value *= 1.5
    trial.rule.learn(trial.net, trial.tape)
    assert made[0].moves == 4
    held, gradients = copies(trial.rule.arrays()), trial.gradients()
    for name, array in trial.rule.arrays().items():
        array[...] = before[name]
    trial.run()                                         # a pass with the weights as they are gives the same steps
    trial.rule.learn(trial.net, trial.tape)
    assert not differ(trial.rule.arrays(), held) and not differ(trial.gradients(), gradients)


def test_every_inner_step_draws_anew():
    rule = LocalDifferenceReconstruction()
    trial = Trial(dense_net, lambda: rule)
    trial.run()
    draws = [rule.noise(trial.tape.input, 2, trial.tape.again(), where, k) for where in ("below", "above")
             for k in range(3)]
    assert len({draw.tobytes() for draw in draws}) == 6


def test_the_same_batch_meets_other_noise_at_another_step():
    moved = []
    for step in (0, 0, 1):
        trial = Trial(dense_net, LocalDifferenceReconstruction)
        trial.run().seed = 0, step
        trial.rule.learn(trial.net, trial.tape)
        moved.append(copies(trial.rule.arrays()))
    assert not differ(moved[0], moved[1]) and differ(moved[0], moved[2])


def test_steps_on_one_batch_are_not_one_step():
    one, four = (Trial(dense_net, lambda k=k: LocalDifferenceReconstruction(steps=k)) for k in (1, 4))
    for trial in one, four:
        trial.step(0)
    assert not differ(one.forward_state(), four.forward_state()) and differ(one.rule.arrays(), four.rule.arrays())


def test_inverses_start_by_pytorchs_law():
    net = ready(Sequential(a=Dense(100), t=Tanh(), b=Dense(25)), (5,))
    V = weights(LocalDifferenceReconstruction().attach(net), 2).value
    assert 0.19 < abs(V).max() < 0.2                    # 1 / sqrt(25), the inverse's own fan-in
    assert abs(weights(TargetPropagation().attach(net), 2).value).max() > 0.2


@pytest.mark.parametrize("options, says", [({"beta": -1}, "beta -1; expected a finite number of at least 0"),
                                           ({"steps": 0}, "steps 0; expected a whole number of at least 1"),
                                           ({"sigma": None}, "sigma None; expected a finite number of at least 0")])
def test_wrong_options_are_named(options, says):
    with pytest.raises(SettingError, match=says):
        LocalDifferenceReconstruction(**options)


# -- training --------------------------------------------------------------------------------------------------------

def test_hidden_layers_learn():
    assert beats_frozen_layers(LocalDifferenceReconstruction(0.3, steps=1, optimiser=adam(1e-3)), 3) > 0.12


@pytest.mark.long
@pytest.mark.parametrize("steps, wanted", [(1, 21.8), (5, 21.4)])
def test_on_the_teachers_task(steps, wanted):
    found = error(lambda: LocalDifferenceReconstruction(0.3, steps=steps, optimiser=adam(1e-3)), 1e-2)
    assert found == pytest.approx(wanted, abs=5)

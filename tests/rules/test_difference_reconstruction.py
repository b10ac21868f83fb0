"""Inverses that learn to undo, by differences, the whole net above: DRL, and DDTP with one linear map to each layer."""
import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import Conv2d, Dense, Sequential, Tanh
from nplearn.rules import DifferenceReconstruction, DirectDifferenceReconstruction
from nplearn.testing.trial import NETS, Trial, copies, dense_net, differ, ready, stride_net
from tests.rules.targets import (
    adam,
    assert_gradients_are_slopes,
    attached,
    beats_frozen_layers,
    error,
    fitted,
    linear,
    per_sample,
    relative,
    targets,
    weights,
    white,
)

KINDS = [DifferenceReconstruction, DirectDifferenceReconstruction]
both = pytest.mark.parametrize("kind", KINDS)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def under_white_noise(kind, *widths, **options):
    """(rule, tape, [W_1, ...]) in a linear net, where the noise of each layer has exact moments."""
    class Given(kind):
        def noise(self, x, i, tape, *key):
            return white(x.shape[1], 40, i).T[None]
    net = linear(*widths)
    net.column_bytes = 0
    rule, tape = attached(net, Given(**options), noise(40, widths[0]), noise(40, widths[-1]))
    return rule, tape, [None, *(layer.weight.value for layer in net.layers)]


@pytest.mark.parametrize("n, m", [(5, 8), (9, 6)], ids=["expanding", "contracting"])
@pytest.mark.parametrize("sigma", [0.1, 2.0])
def test_for_one_linear_layer_the_minimiser_is_tikhonovs_inverse(n, m, sigma):
    """V = W' (W W' + wd I)^-1: reciprocal feedback with that damping."""
    rule, tape, W = under_white_noise(DifferenceReconstruction, 4, n, m, sigma=sigma, decay=0.3)
    start = abs(fitted(rule, tape)["inverse.fc2.weight"]).max()
    weights(rule, 2).value[...] = np.linalg.solve(W[2] @ W[2].T + 0.3 * np.eye(m), W[2])
    assert abs(fitted(rule, tape)["inverse.fc2.weight"]).max() < 1e-12 < start
    weights(rule, 2).value[...] = np.linalg.pinv(W[2]).T
    assert abs(fitted(rule, tape)["inverse.fc2.weight"]).max() > 1e-3


def test_trained_from_the_top_the_inverses_make_the_pseudoinverse_of_the_chain():
    rule, tape, W = under_white_noise(DifferenceReconstruction, 4, 20, 14, 6)
    assert np.linalg.matrix_rank(W[2]) == 14
    Q3 = np.linalg.pinv(W[3])
    weights(rule, 3).value[...] = Q3.T
    assert abs(fitted(rule, tape)["inverse.fc3.weight"]).max() < 1e-12
    Q2 = np.linalg.pinv(Q3 @ W[3] @ W[2])
    weights(rule, 2).value[...] = Q2.T
    assert abs(fitted(rule, tape)["inverse.fc2.weight"]).max() < 1e-12
    whole = np.linalg.pinv(W[3] @ W[2])
    assert relative(Q2 @ Q3, whole) < 1e-12 and relative(np.linalg.pinv(W[2]) @ Q3, whole) > 0.1
    h, t = targets(rule, tape)
    assert relative(rows(h[1] - t[1]), rows(h[3] - t[3]) @ whole.T) < 1e-10


def test_direct_maps_learn_the_pseudoinverse_of_the_chain():
    rule, tape, W = under_white_noise(DirectDifferenceReconstruction, 4, 9, 7, 5)
    for i, J in ((2, W[3] @ W[2]), (3, W[3])):
        weights(rule, i).value[...] = np.linalg.pinv(J)
        path = f"direct.fc{i - 1}.weight"
        assert abs(fitted(rule, tape)[path]).max() < 1e-12
    h, t = targets(rule, tape)
    assert relative(rows(h[1] - t[1]), 0.1 * 40 * rows(tape.error) @ np.linalg.pinv(W[3] @ W[2]).T) < 1e-10


@pytest.mark.parametrize("build", [dense_net, stride_net], ids=["dense", "stride"])
@pytest.mark.parametrize("schedule", ["alternating", "parallel"])
@both
def test_gradients_are_those_of_each_inverses_own_loss_with_the_upper_ones_held(kind, schedule, build):
    rule = kind(sigma=0.3, decay=0.2, schedule=schedule)
    trial = Trial(build, lambda: rule)
    trial.run()
    if schedule == "parallel":
        trial.assign()
        gradients = copies({path: param.grad for path, param in rule.params().items()})
    else:
        gradients = fitted(rule, trial.tape)
    h, now = rule.read(trial.tape), trial.tape.again()
    if schedule == "alternating":
        now.run(trial.net)                              # the noise is keyed by the pass that the phase makes
    def loss(path):
        i = next(i for i, g in rule.g.items() if any(p.path == path for layer in g.layers
                                                     for p in layer.params().values()))
        z = rule.corrupted(h[i - 1], i, now)
        q = z
        for stage in rule.f[i:]:
            q = stage.forward(q)
        if kind is DifferenceReconstruction:
            for k in range(rule.L, i, -1):
                q = h[k - 1] + rule.g[k].forward(q) - rule.g[k].forward(h[k])
            r = h[i - 1] + rule.g[i].forward(q) - rule.g[i].forward(h[i])
        else:
            r = h[i - 1] + rule.g[i].forward(q) - rule.g[i].forward(h[-1])
        return per_sample(r - z) / (2 * 0.3 ** 2) + 0.1 * (weights(rule, i).value ** 2).sum()
    assert len(gradients) == (2 if kind is DifferenceReconstruction else 1) * len(rule.g) > 0
    assert_gradients_are_slopes(rule, gradients, loss)


@pytest.mark.parametrize("name", ["dense", "stride", "map", "norm"])
def test_direct_targets_take_the_difference_straight_from_the_output(name):
    rule = DirectDifferenceReconstruction(eta=0.2)
    trial = Trial(NETS[name], lambda: rule)
    trial.run()
    h, t = targets(rule, trial.tape)
    top = trial.tape.output - 0.2 * 8 * trial.tape.error
    assert sorted(t) == list(range(1, rule.L)) == sorted(i - 1 for i in rule.g)
    for i in t:
        K = weights(rule, i + 1).value
        assert K.shape == (rows(h[i])[0].size, h[-1].shape[1])
        assert relative(h[i] - t[i], -(K @ (top - h[-1])).reshape(h[i].shape)) < 1e-10


@pytest.mark.parametrize("name", ["dense", "stride", "map"])
def test_the_top_target_is_a_step_down_the_loss_at_the_logits(name):
    rule = DifferenceReconstruction(eta=0.2)
    trial = Trial(NETS[name], lambda: rule)
    trial.run()
    h, t = targets(rule, trial.tape)
    assert np.array_equal(h[-1], trial.tape.output)
    assert relative(h[-1] - t[rule.L], 0.2 * 8 * trial.tape.error) < 1e-12
    for i in range(rule.L, 1, -1):
        assert relative(t[i - 1], h[i - 1] + rule.g[i].forward(t[i]) - rule.g[i].forward(h[i])) < 1e-14


@both
def test_inverses_start_by_the_normal_law_of_glorot(kind):
    net = ready(Sequential(a=Dense(100), t=Tanh(), b=Dense(80)), (5,))
    V = weights(kind().attach(net), 2).value
    assert V.std() == pytest.approx((2 / 180) ** 0.5, rel=0.03) and abs(V).max() > 3 * V.std()


@both
def test_both_schedules_at_once_move_the_inverses_at_both_moments(kind):
    off, on, all_ = (Trial(dense_net, lambda s=s: kind(schedule=s)) for s in ("alternating", "parallel", "both"))
    for trial in off, on, all_:
        trial.step(0)
    assert differ(all_.rule.arrays(), off.rule.arrays()) and differ(all_.rule.arrays(), on.rule.arrays())


@pytest.mark.parametrize("options, says", [({"eta": -1}, "eta -1; expected a finite number of at least 0"),
                                           ({"decay": -1}, "decay -1; expected a finite number of at least 0"),
                                           ({"sigma": 0}, "sigma 0; expected above 0")])
@both
def test_wrong_options_are_named(kind, options, says):
    with pytest.raises(SettingError, match=says):
        kind(**options)


def test_direct_maps_need_one_axis_of_outputs():
    net = Sequential(a=Conv2d(4, 3), act=Tanh(), b=Conv2d(2, 3))
    with pytest.raises(BuildError, match="expected one axis"):
        DirectDifferenceReconstruction().attach(ready(net, (4, 4, 1)))


# -- training --------------------------------------------------------------------------------------------------------

@both
@pytest.mark.parametrize("schedule", ["alternating", "parallel"])
def test_hidden_layers_learn(kind, schedule):
    assert beats_frozen_layers(kind(schedule=schedule, optimiser=adam(1e-3)), 3) > 0.1


@pytest.mark.long
def test_on_the_teachers_task():
    found = error(lambda: DifferenceReconstruction(0.1, schedule="parallel", optimiser=adam(3e-3)), 1e-2)
    assert found == pytest.approx(17.1, abs=5)

"""Dynamic inversion: where a loop settles, when it is stable, and what the closed form says."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplearn.columns import columns, rows
from nplearn.errors import BuildError, SettingError, TrainingError
from nplearn.layers import (
    Conv2d,
    Dense,
    LocallyConnected2d,
    Sequential,
    Tanh,
    weighted,
)
from nplearn.optim import SGD, Adam
from nplearn.rules import ClosedInversion, DynamicInversion, ReciprocalOracle, SingleLoopInversion, registry
from nplearn.rules.closed_inversion import closed
from nplearn.rules.dynamic_inversion import growth, slowest
from nplearn.rules.reciprocal_oracle import tikhonov
from nplearn.testing.strategies import seeds
from nplearn.testing.trial import NETS, Trial, dense_net, differ, map_net, ready, stride_net
from tests.helpers import after_steps, one_chunk_and_two, single_and_double
from tests.rules.smoke import mlp, teacher, trained
from tests.rules.test_recirculation import dense, glorot, relative, spectrum

SHAPES = [(6, 10), (10, 6), (8, 8)]


def loop(W, V, d, alpha=0.0, steps=2000, dt=0.5):
    """rx that the rule settles at for d, a column per sample."""
    layer = dense(W)
    rule = DynamicInversion(alpha=alpha, steps=steps, dt=dt)
    return rule.settle(layer, d[None], V, (1, W.shape[1], d.shape[1]))[0]


def matrix_of_the_loop(W, V, alpha):
    m, n = W.shape
    return np.block([[-np.eye(n), V.T], [W, -alpha * np.eye(m)]])


def deltas(m, N=5):
    return np.random.default_rng(m).normal(size=(m, N))


# -- where it settles -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.03, 0.1, 1.0])
def test_the_negative_transpose_gives_the_tikhonov_inverse(shape, alpha):
    W = spectrum(*shape)
    assert relative(closed(W, -W, alpha), tikhonov(W, alpha)) < 1e-10
    assert relative(loop(W, -W, deltas(shape[0]), alpha), tikhonov(W, alpha).T @ deltas(shape[0])) < 1e-8


@pytest.mark.parametrize("kind", ["ndi", "rf-exact"])
def test_the_closed_rule_and_the_oracle_of_reciprocal_feedback_are_one_at_the_start(kind):
    one = Trial(dense_net, lambda: ClosedInversion(alpha=0.2))
    two = Trial(dense_net, lambda: ReciprocalOracle(lam=0.2, relative=False, rescale="none"))
    for trial in one, two:
        trial.run()
    assert not differ(one.assign(), two.assign(), 1e-10)


@settings(max_examples=30, deadline=None)
@given(seeds(), st.sampled_from(SHAPES), st.sampled_from([0.05, 0.3, 1.0]))
def test_any_stable_loop_settles_at_the_closed_form(seed, shape, alpha):
    rng, W = np.random.default_rng(seed), spectrum(*shape, seed=seed % 97)
    V = -W + 0.2 * rng.normal(size=W.shape)
    slow = np.linalg.eigvals(matrix_of_the_loop(W, V, alpha)).real.max()
    if slow > -0.05:
        return
    d = deltas(shape[0])
    found = loop(W, V, d, alpha, steps=int(60 / abs(slow) / 0.25), dt=0.25)
    assert relative(found, closed(W, V, alpha).T @ d) < 1e-8
    assert relative(V.T @ np.linalg.inv(W @ V.T - alpha * np.eye(len(W))) @ d, found) < 1e-8        # either system


def test_without_leak_the_error_is_cancelled_whatever_the_feedback():
    W, rng = spectrum(6, 10), np.random.default_rng(4)
    for k in range(3):
        V = -W + 0.1 * k * rng.normal(size=W.shape)
        assert slowest(W, V, 0) < -0.05
        d = deltas(6)
        rx = loop(W, V, d)
        assert relative(W @ rx, d) < 1e-8
        assert relative(V.T @ np.linalg.lstsq(V.T, rx, rcond=None)[0], rx) < 1e-8                   # in the range of B
    assert relative(loop(W, -W, d), np.linalg.pinv(W) @ d) < 1e-8


def test_the_loop_is_linear_in_the_error_and_nothing_comes_of_none():
    W, d = spectrum(6, 10), deltas(6)
    one, two = loop(W, -W, d, 0.1, steps=40), loop(W, -W, 2 * d, 0.1, steps=40)
    assert np.allclose(two, 2 * one, rtol=1e-12, atol=0) and not loop(W, -W, 0 * d, 0.1).any()


@pytest.mark.parametrize("high", [Conv2d(3, 3, stride=2, padding=((0, 1), (1, 2))), LocallyConnected2d(3, 3, stride=2)],
                         ids=["conv", "local"])
def test_on_maps_the_loop_inverts_the_whole_map(high):
    net = Sequential(low=Conv2d(2, 1), high=high).build((8, 8, 2), 0, np.float64)
    eye = columns(np.eye(128).reshape(128, 8, 8, 2))
    full = rows(high.apply(eye, high.weight.value)).reshape(128, -1).T
    rule = DynamicInversion(alpha=0.1, steps=1500).attach(net, 0)
    d = np.random.default_rng(0).normal(size=(3, *[high.out_shape[i] for i in (0, 2, 1)]))
    rx = rule.settle(high, columns(d), high.feedback.matrix, (1, *high.in_shape, 3))
    wanted = d.reshape(3, -1) @ tikhonov(full, 0.1)
    assert relative(rows(rx).reshape(3, -1), wanted) < 1e-9


def test_the_rule_hands_down_what_its_loops_settle_at():
    one, two = (Trial(dense_net, rule) for rule in (lambda: DynamicInversion(0.3, steps=400),
                                                    lambda: ClosedInversion(0.3)))
    for step in range(3):
        one.step(step)
        two.step(step)
    assert not differ(one.gradients(), two.gradients(), 1e-8)


def test_the_start_is_transposed_once_and_stays():
    trial = Trial(dense_net, lambda: ClosedInversion(alpha=0.0))
    layer = trial.rule.layers[0]
    start, V = layer.weight.value.copy(), layer.feedback.matrix
    def apart():
        W = layer.weight.value
        return relative(closed(W, V, 0.0), np.linalg.pinv(W).T)
    assert np.array_equal(V, -start) and apart() < 1e-10
    assert np.array_equal(layer.feedback.effective(layer), start)       # what angles to W are measured of
    for step in range(20):
        trial.step(step)
    assert layer.feedback.matrix is V and np.array_equal(V, -start) and apart() > 1e-3


def test_an_error_may_be_clipped_in_the_units_of_a_samples_own_loss():
    trial = Trial(dense_net, lambda: DynamicInversion(clip=0.4, steps=30))
    free = Trial(dense_net, lambda: DynamicInversion(steps=30))
    for t in trial, free:
        t.run()
    d = columns(np.random.default_rng(0).normal(size=(8, 4)) * np.logspace(-3, 1, 8)[:, None], 4)
    layer, other = trial.rule.layers[1], free.rule.layers[1]
    x = trial.tape.seen(layer)[0]
    found, whole = (rows(one.feedback.carry(one, d, x, None)) for one in (layer, other))
    size = np.linalg.norm(whole, axis=1, keepdims=True) * 8
    assert np.allclose(found, whole * np.minimum(1, 0.4 / size), rtol=1e-12, atol=0)
    assert (size > 0.4).any() and (size < 0.4).any()


# -- stability --------------------------------------------------------------------------------------------------------

@settings(max_examples=40, deadline=None)
@given(seeds(), st.sampled_from(SHAPES), st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0]))
def test_the_slowest_mode_is_that_of_the_whole_loop(seed, shape, alpha):
    rng, W = np.random.default_rng(seed), spectrum(*shape, seed=seed % 97)
    V = -W + rng.normal(size=W.shape)
    whole = np.linalg.eigvals(matrix_of_the_loop(W, V, alpha))
    assert slowest(W, V, alpha) == pytest.approx(whole.real.max(), abs=1e-6)


@pytest.mark.parametrize(("s", "wanted"), [(0.5, 1.655), (1, 1.234), (2, 0.780), (4, 0.441)])
def test_the_limit_of_dt_is_that_of_the_half_implicit_step(s, wanted):
    W = s * np.eye(3)
    layer = dense(W)
    Sequential(low=Dense(3), high=layer)
    rule = DynamicInversion(alpha=0.01)
    rule.tosses = {layer: np.random.default_rng(0).normal(size=(1, 3, 1))}
    assert rule.limit(layer, -W) == pytest.approx(min(0.5, 0.9 * wanted), rel=1e-3)
    d = deltas(3)
    settled = tikhonov(W, 0.01).T @ d
    assert relative(loop(W, -W, d, 0.01, steps=20000, dt=0.98 * wanted), settled) < 1e-6
    with np.errstate(all="ignore"):
        assert not relative(loop(W, -W, d, 0.01, steps=3000, dt=1.02 * wanted), settled) < 1e3


@settings(max_examples=60, deadline=None)
@given(seeds(), st.sampled_from(SHAPES), st.sampled_from([0.0, 0.1, 1.0, 3.0]), st.sampled_from([0.1, 0.7, 1.5, 3.0]))
def test_the_growth_of_a_step_is_that_of_the_whole_loop(seed, shape, alpha, dt):
    """ry moves first, and rx with the new ry: two steps, each explicit, one behind the other."""
    rng, W = np.random.default_rng(seed), spectrum(*shape, seed=seed % 97)
    V, (m, n) = -W + rng.normal(size=W.shape), shape
    one = np.block([[np.eye(n), np.zeros((n, m))], [dt * W, (1 - dt * alpha) * np.eye(m)]])
    two = np.block([[(1 - dt) * np.eye(n), dt * V.T], [np.zeros((m, n)), np.eye(m)]])
    assert growth(W, V, alpha, dt) == pytest.approx(abs(np.linalg.eigvals(two @ one)).max(), abs=1e-6)


def named(error):
    """The dt that a message gives."""
    return float(str(error.value).partition("a dt of at most ")[2].rstrip("."))


def test_steps_over_the_bound_are_refused_at_attach_and_those_below_are_not():
    s = max(np.linalg.norm(layer.weight.value, 2) for layer in weighted(dense_net(0))[1:])
    for alpha in (0, 0.1, 1, 2):
        bound = 4 / (1 + alpha + np.sqrt((1 - alpha) ** 2 + 4 * s ** 2))
        assert bound ** 2 * (s ** 2 - alpha) + 2 * bound * (1 + alpha) == pytest.approx(4)
        assert DynamicInversion(alpha, dt=0.999 * bound).attach(dense_net(0))
        with pytest.raises(BuildError, match="fc.: steps of dt .* grows .*-fold; expected a loop that settles") as told:
            DynamicInversion(alpha, dt=1.001 * bound).attach(dense_net(0))
        assert 0.98 * bound < named(told) < bound


def test_steps_through_random_feedback_have_a_bound_of_their_own():
    """Complex eigenvalues of W B: what holds for V = -W says nothing of them."""
    def attach(dt):
        return DynamicInversion(start="random", alpha=2, dt=dt).attach(dense_net(0))
    with pytest.raises(BuildError, match="steps of dt 1.5") as told:
        attach(1.5)
    rule = attach(named(told))
    with pytest.raises(BuildError, match="steps of dt"):
        attach(1.03 * named(told))
    layer, d = rule.layers[0], deltas(7)[None]
    found = rule.settle(layer, d, layer.feedback.matrix, (1, 9, 5))
    rule.steps = 4000
    wanted = closed(layer.weight.value, layer.feedback.matrix, 2).T @ d[0]
    assert relative(rule.settle(layer, d, layer.feedback.matrix, (1, 9, 5))[0], wanted) < 1e-8 and found.any()


def test_a_dt_of_the_rules_own_that_is_too_large_for_another_v_is_refused_too():
    """The limit is that of V = -W: here W B has the eigenvalues 9.66 exp(+- 2.79 i)."""
    turn = 9.66 * np.array([[np.cos(2.79), -np.sin(2.79)], [np.sin(2.79), np.cos(2.79)]])
    net = Sequential(low=Dense(2), high=Dense(2)).build(3, 0, np.float64)
    rule, layer = DynamicInversion(alpha=0.1).attach(net), net.layers[1]
    layer.weight.value[...] = np.eye(2)
    assert slowest(np.eye(2), turn, 0.1) < 0 and growth(np.eye(2), turn, 0.1, rule.limit(layer, turn)) > 1.2
    with pytest.raises(TrainingError, match="high: steps of dt .*; use a dt of at most") as told:
        rule.examine(layer, turn, TrainingError)
    assert growth(np.eye(2), turn, 0.1, named(told)) < 1 < growth(np.eye(2), turn, 0.1, 1.03 * named(told))
    assert abs(loop(np.eye(2), turn, deltas(2), 0.1, steps=6000, dt=named(told))).max() < 10
    assert abs(loop(np.eye(2), turn, deltas(2), 0.1, steps=6000, dt=0.2)).max() > 1e4


def test_steps_are_examined_every_epoch():
    rule = DynamicInversion(dt=0.8).attach(dense_net(0))
    for layer in rule.layers:
        layer.weight.value *= 30
    class Due:
        step, per_epoch = 6, 3
    with pytest.raises(TrainingError, match="fc2: steps of dt 0.8, .*; use a dt of at most") as told:
        rule.phase(rule.net, Due)
    rule.dt = named(told)
    rule.examine(rule.layers[0], rule.layers[0].feedback.matrix, TrainingError)


@pytest.mark.parametrize("shape", SHAPES)
def test_dt_follows_w(shape):
    W = spectrum(*shape)
    layer = dense(W)
    rule = DynamicInversion(alpha=0.1)
    rule.tosses = {layer: np.random.default_rng(0).normal(size=(1, shape[1], 1))}
    assert rule.limit(layer, -W) == 0.5
    for grown in (3, 30):
        layer.weight.value[...] = grown * W
        V, s = -layer.weight.value, grown * 2
        bound = 4 / (1.1 + np.sqrt(0.81 + 4 * s ** 2))
        assert 0.85 * bound < rule.limit(layer, V) < 0.95 * bound


def test_feedback_of_the_wrong_sign_diverges_and_is_refused():
    W = spectrum(6, 10)
    assert slowest(W, W, 0.1) == pytest.approx(-1.1 / 2 + np.sqrt(0.81 / 4 + 4)) and slowest(W, -W, 0.1) < 0
    with np.errstate(all="ignore"):
        assert not np.linalg.norm(loop(W, W, deltas(6), 0.1, steps=3000)) < 1e6
    rule = DynamicInversion().attach(dense_net(0))
    for layer in rule.layers:
        layer.feedback.matrix *= -1
    class Due:
        step, per_epoch = 6, 3
    with pytest.raises(TrainingError, match="fc2: a loop with .* at alpha 0.1; .* larger alpha") as told:
        rule.phase(rule.net, Due)
    enough = float(str(told.value).partition("larger alpha: ")[2].split()[0])       # of 0.01, 0.02, 0.04 ... the least
    W, V = rule.layers[0].weight.value, rule.layers[0].feedback.matrix
    assert slowest(W, V, enough) <= 1e-9 < slowest(W, V, enough / 2) and enough > 0.1
    Due.step = 7
    rule.phase(rule.net, Due)
    with pytest.raises(BuildError, match="fc2: a loop with an eigenvalue of real part"):
        DynamicInversion(start="random").attach(dense_net(0))
    assert DynamicInversion(start="random", alpha=2).attach(dense_net(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_singular_system_is_refused(shape):
    m, n = shape
    net = Sequential(low=Dense(n), high=Dense(m)).build(3, 0, np.float64)
    layer = net.layers[1]
    layer.weight.value[0] = layer.weight.value[1]
    layer.weight.value[:, 0] = layer.weight.value[:, 1]
    with pytest.raises(BuildError, match="high: a system of condition .*; use a larger alpha"):
        ClosedInversion(alpha=0).attach(net)
    assert ClosedInversion(alpha=0.01).attach(net)
    rule = ClosedInversion(alpha=0).attach(Sequential(low=Dense(n), high=layer).build(3, 0, np.float64))
    layer.weight.value[0] = layer.weight.value[1]
    layer.weight.value[:, 0] = layer.weight.value[:, 1]
    class Due:
        step, per_epoch = 3, 3
    with pytest.raises(TrainingError, match="high: a system of condition"):
        rule.phase(rule.net, Due)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_closed_form_is_computed_in_double_precision(shape):
    """Condition 1e8, which float32 cannot solve and the check lets pass."""
    m, n = shape
    W = spectrum(m, n, low=1e-4, high=1.0).astype(np.float32)
    net = Sequential(low=Dense(n), high=Dense(m)).build(3, 0, np.float32)
    net.layers[1].weight.value[...] = W
    rule = ClosedInversion(alpha=0).attach(net)
    d = deltas(m).astype(np.float32)[None]
    found = rule.settle(net.layers[1], d, rule.layers[0].feedback.matrix, (1, n, 5))
    assert found.dtype == np.float32 and relative(found[0], np.linalg.pinv(W.astype(float)) @ d[0]) < 1e-5


def test_a_system_that_turns_singular_within_an_epoch_is_named():
    trial = Trial(dense_net, lambda: ClosedInversion(alpha=0))
    weighted(trial.net)[1].weight.value[...] = 0
    trial.run()
    with pytest.raises(TrainingError, match="fc2: a singular system at alpha 0"):
        trial.assign()


@pytest.mark.parametrize("name", ["di", "ndi", "sdi"])
def test_of_weights_that_are_nan_the_loss_tells(name):
    rule = registry.make(name).attach(dense_net(0))
    weighted(rule.net)[1].weight.value[...] = np.nan
    class Due:
        step, per_epoch = 6, 3
    rule.phase(rule.net, Due)


def test_without_leak_what_no_input_produces_drifts_and_is_not_seen():
    W, d = spectrum(10, 6), deltas(10)
    V = -W + 0.1 * np.random.default_rng(5).normal(size=W.shape)
    assert slowest(W, V, 0) == 0
    assert relative(loop(W, V, d, steps=6000, dt=0.3), np.linalg.inv(V.T @ W) @ V.T @ d) < 1e-8


# -- a single loop ----------------------------------------------------------------------------------------------------

def linear(*widths):
    def build(seed):
        net = ready(Sequential(**{f"fc{i}": Dense(n) for i, n in enumerate(widths[1:])}), (widths[0],), seed)
        for layer in weighted(net):
            layer.weight.value[...] = spectrum(*layer.weight.value.shape, seed=layer.n_out, low=0.8, high=1.6)
        return net
    return build


def errors_of(trial):
    """Each layer's delta, a row per sample of its own loss."""
    walk = trial.tape.walk(records=True)
    trial.rule.assign(trial.net, walk)
    return [8 * rows(walk.deltas[layer][0]) for layer in weighted(trial.net)]


def test_a_single_loop_settles_at_the_pseudoinverse_of_the_chain():
    trial = Trial(linear(12, 14, 10, 5), lambda: SingleLoopInversion(alpha=0, steps=4000, gain=1))
    trial.run()
    e1, e2, d = errors_of(trial)
    W1, W2 = (layer.weight.value for layer in weighted(trial.net)[1:])
    assert relative(e1, d @ np.linalg.pinv(W2 @ W1).T) < 1e-8
    assert relative(e2, e1 @ W1.T) < 1e-8 and relative(e2 @ W2.T, d) < 1e-8
    apart = d @ (np.linalg.pinv(W1) @ np.linalg.pinv(W2)).T             # one inverse after the other
    assert relative(apart @ (W2 @ W1).T, d) < 1e-8 and relative(apart, e1) > 0.05


def test_leak_over_gain_is_lam():
    trial = Trial(linear(12, 14, 10, 8, 5), lambda: SingleLoopInversion(alpha=0.1, steps=4000, gain=0.4))
    trial.run()
    e, d = errors_of(trial)[0], errors_of(trial)[-1]
    W = np.linalg.multi_dot([layer.weight.value for layer in weighted(trial.net)[:0:-1]])
    lam = 0.1 * np.linalg.norm(W, 2) ** 2 / 0.4
    assert relative(e, d @ tikhonov(W, lam)) < 1e-8


def test_two_weighted_layers_make_the_loop_of_one_layer():
    one = Trial(linear(6, 9, 4), lambda: SingleLoopInversion(alpha=0.1, steps=3000, gain=1.0))
    layer = weighted(one.net)[1]
    two = Trial(linear(6, 9, 4), lambda: ClosedInversion(alpha=0.1 * np.linalg.norm(layer.weight.value, 2) ** 2))
    for trial in one, two:
        trial.run()
    assert not differ(one.assign(), two.assign(), 1e-8)


def test_nonlinearities_stand_inside_the_loop():
    trial = Trial(dense_net, lambda: SingleLoopInversion(alpha=0.05, steps=4000))
    trial.run()
    e1, e2, d = errors_of(trial)
    fc1, fc2, fc3 = weighted(trial.net)
    f1, f2 = (trial.net.layers[i].f for i in (1, 3))
    assert relative(e2, f1(e1) @ fc2.weight.value.T) < 1e-8
    r3 = (f2(e2) @ fc3.weight.value.T - d) / 0.05
    assert relative(e1, float(trial.rule.loop.factor(0.5)) * r3 @ trial.rule.loop.B.T) < 1e-6


def test_a_gate_multiplies_by_the_slope_at_the_activity():
    plain, gated = (Trial(dense_net, lambda gate=gate: SingleLoopInversion(gate=gate)) for gate in ("none", "multiply"))
    for trial in plain, gated:
        trial.run()
    layers = plain.net.layers
    for e, f, found in zip(errors_of(plain), (layers[1], layers[3]), errors_of(gated), strict=False):
        assert np.allclose(found, e * f.slope(rows(plain.tape.seen(f)[0])), rtol=1e-12, atol=0)
    assert np.array_equal(errors_of(plain)[2], errors_of(gated)[2])


@pytest.mark.parametrize(("widths", "critical"), [((5, 9, 7, 4), 2.0), ((5, 9, 8, 6, 4), 0.8889),
                                                  ((5, 9, 8, 7, 6, 4), 0.5685)])
def test_the_longer_the_loop_the_less_gain_is_stable(widths, critical):
    assert SingleLoopInversion(alpha=0, gain=0.99 * critical).attach(linear(*widths)(0))
    with pytest.raises(BuildError, match="a loop with an eigenvalue of real part .*use a gain below"):
        SingleLoopInversion(alpha=0, gain=1.01 * critical).attach(linear(*widths)(0))


@pytest.mark.parametrize("widths", [(5, 9, 4), (5, 9, 7, 4), (5, 9, 8, 6, 4)])
@pytest.mark.parametrize("alpha", [0, 0.1, 2])
@pytest.mark.parametrize("dt", [0.1, 0.8, 2.5])
def test_the_growth_of_a_step_is_that_of_the_whole_single_loop(widths, alpha, dt):
    loop = SingleLoopInversion(0.05, dt=0.1).attach(linear(*widths)(0)).loop
    W, g = [layer.weight.value for layer in weighted(linear(*widths)(0))[1:]], float(loop.factor(0.6))
    first = np.cumsum([0, *widths[1:]])
    def step(r):
        r = np.split(r, first[1:-1])
        r[0] = r[0] + dt * (g * loop.B @ r[-1] - r[0])
        for i, w in enumerate(W, 1):
            r[i] = r[i] + dt * (w @ r[i - 1] - (alpha if i == len(W) else 1) * r[i])
        return np.concatenate(r)
    whole = np.array([step(unit) for unit in np.eye(first[-1])]).T
    assert loop.growth(0.6, alpha, dt) == pytest.approx(abs(np.linalg.eigvals(whole)).max(), rel=1e-4)


@pytest.mark.parametrize("alpha", [0.05, 1.5])
def test_steps_of_a_single_loop_over_the_bound_are_refused_and_those_below_settle(alpha):
    def attach(dt):
        return Trial(linear(5, 9, 7, 4), lambda: SingleLoopInversion(alpha, dt=dt, steps=4000))
    with pytest.raises(BuildError, match="SingleLoopInversion: steps of dt 3, .*; use a dt of at most") as told:
        attach(3.0)
    with pytest.raises(BuildError, match="steps of dt"):
        attach(1.03 * named(told))
    settled, slow = attach(named(told)), attach(0.1)
    for trial in settled, slow:
        trial.run()
    assert not differ(settled.assign(), slow.assign(), 1e-8)


def test_steps_of_a_single_loop_are_examined_every_epoch_and_a_net_of_one_layer_has_none():
    rule = SingleLoopInversion().attach(dense_net(0))
    rule.dt = 3.0
    class Due:
        step, per_epoch = 6, 3
    with pytest.raises(TrainingError, match="SingleLoopInversion: steps of dt 3"):
        rule.phase(rule.net, Due)
    assert SingleLoopInversion(dt=3.0).attach(ready(Sequential(fc=Dense(4)), (6,)))


def test_a_single_loop_is_examined_every_epoch():
    rule = SingleLoopInversion().attach(dense_net(0))
    for layer in weighted(rule.net):
        layer.weight.value *= 30                        # which the factor makes up for
    class Due:
        step, per_epoch = 6, 3
    rule.phase(rule.net, Due)
    weighted(rule.net)[1].weight.value *= -1
    with pytest.raises(TrainingError, match="SingleLoopInversion: a loop with"):
        rule.phase(rule.net, Due)


def test_a_net_of_one_layer_learns_by_the_delta_rule():
    def build(seed):
        return ready(Sequential(fc=Dense(4)), (6,), seed)
    for name in ("sdi", "di", "ndi"):
        trial = Trial(build, lambda name=name: registry.make(name))
        trial.run()
        assert not differ(trial.assign(), trial.backprop())


def test_an_output_nonlinearity_is_gone_through_exactly():
    def build(seed):
        return ready(Sequential(fc1=Dense(7), act=Tanh(), fc2=Dense(4), out=Tanh()), (6,), seed)
    for gate in ("none", "multiply"):
        trial = Trial(build, lambda gate=gate: SingleLoopInversion(gate=gate))
        trial.run()
        mine, true = trial.assign(), trial.backprop()
        assert np.array_equal(mine["fc2.weight"], true["fc2.weight"]) and mine["fc1.weight"].any()


@pytest.mark.parametrize("net, says", [("map", "pool: a MaxPool2d"), ("norm", "pool: a AvgPool2d"),
                                       ("residual", "where the way divides")])
def test_a_single_loop_refuses_what_no_chain_of_weights_is(net, says):
    with pytest.raises(BuildError, match=says):
        SingleLoopInversion().attach(NETS[net](0))


# -- contract, options, precision -------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["di:steps=10", "di:alpha=2,start=random,dt=0.2,steps=6",
                                  "di:clip=0.5,dt=0.5,steps=6"])
def test_the_contract(name, contract):
    assert contract(lambda: registry.make(name), seeds=(0,)).count == 5 * 15 + 3


@pytest.mark.parametrize("name", ["ndi", "ndi:alpha=2,start=random"])
def test_the_contract_of_the_closed_form(name, contract):
    assert contract(lambda: registry.make(name), {"dense": dense_net}, seeds=(0, 1)).count == 2 * 15


def test_the_contract_of_a_single_loop(contract):
    assert contract(lambda: SingleLoopInversion(steps=30), seeds=(0,)).count == 2 * 16


@pytest.mark.parametrize("net", [map_net, stride_net])
def test_how_a_batch_is_cut_changes_nothing(net):
    def gradients(trial):
        trial.run()
        return trial.assign()
    for rule in (DynamicInversion,) if net is map_net else (DynamicInversion, SingleLoopInversion):
        assert not differ(*one_chunk_and_two(net, rule, gradients), 1e-11)


def test_the_closed_form_refuses_maps_and_says_what_takes_them():
    with pytest.raises(BuildError, match=r'local: a LocallyConnected2d, .*; use DynamicInversion\(\) \("di"\)'):
        ClosedInversion().attach(stride_net(0))


@pytest.mark.parametrize("text, says", [
    ("di:alpha=-1", "DynamicInversion: alpha -1; expected a finite number of at least 0"), ("di:steps=0", "steps 0"),
    ("di:dt=fast", "dt 'fast'"), ("di:start=0", "start 0; expected transpose or random"), ("di:clip=0", "clip 0"),
    ("ndi:alpha=x", "ClosedInversion: alpha 'x'"), ("sdi:gain=-1", "SingleLoopInversion: gain -1"),
    ("sdi:dt=x", "dt 'x'"), ("sdi:gate=divide", "gate 'divide'; expected none or multiply")])
def test_wrong_options_are_refused_in_words(text, says):
    with pytest.raises(SettingError, match=says):
        registry.make(text)


@pytest.mark.parametrize("name", ["di", "ndi", "sdi"])
def test_single_precision_agrees_with_double(name):
    single, double = single_and_double(lambda seed: mlp(6, 9, 7, 4, seed=seed), lambda: registry.make(name),
                                       lambda trial: after_steps(trial).gradients())
    assert all(g.dtype == np.float32 for g in single.values()) and not differ(single, double, 1e-4)


# -- it learns --------------------------------------------------------------------------------------------------------

WIDTHS = 64, 48, 32, 16, 10


@pytest.mark.parametrize("name", ["di:steps=30", "ndi", "sdi", "sdi:gate=multiply"])
def test_it_teaches_hidden_layers(name):
    data = teacher(1500)
    found, frozen = (trained(registry.make(n), mlp(*WIDTHS), data, lr=1e-2, epochs=5, drop=None)
                     for n in (name, "frozen"))
    assert found > frozen + 0.1, (found, frozen)


@pytest.mark.long
def test_on_the_teachers_task_loop_and_closed_form_agree():
    """Training error in %, 15 epochs of Adam: 17.7 and 18.0 in another draw of the task, where backprop had 13.9."""
    found = {name: min(100 * (1 - trained(registry.make(name), mlp(*WIDTHS), teacher(), lr=lr, epochs=15, drop=None,
                                          optimise=Adam)) for lr in (3e-3, 1e-2))
             for name in ("backprop", "di", "ndi", "sdi:gate=multiply")}
    print(found)
    assert abs(found["di"] - 17.7) < 5 and abs(found["ndi"] - 18) < 5 and abs(found["di"] - found["ndi"]) < 2, found
    assert abs(found["sdi:gate=multiply"] - 18) < 5 and found["backprop"] < min(found["di"], found["ndi"]), found


def test_large_steps_of_gradient_descent_do_not_overflow():
    data = teacher(300)
    assert trained(registry.make("di:steps=20"), mlp(*WIDTHS), data, lr=0.5, epochs=2, drop=None, optimise=SGD) > 0.1
    assert slowest(glorot(32, 16), -glorot(32, 16), 0.1) < 0

"""Reciprocal feedback: what the error does on its way through an inverse, and when that is learned."""
import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import (
    Clip,
    Conv2d,
    Dense,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
    weighted,
)
from nplearn.optim import SGD, Adam
from nplearn.rules import (
    Backprop,
    DifferenceTargetPropagation,
    FeedbackAlignment,
    Reciprocal,
    ReciprocalOracle,
    SimplifiedDifferenceTargetPropagation,
    registry,
)
from nplearn.rules.base import REDUCES
from nplearn.rules.recirculation import MANY, Drive
from nplearn.testing.trial import (
    NETS,
    Batches,
    Trial,
    angle,
    dense_net,
    differ,
    map_net,
    ready,
    stride_net,
)
from tests.helpers import after_steps, one_chunk_and_two, single_and_double
from tests.rules.smoke import mlp, teacher, trained
from tests.rules.test_recirculation import dense, glorot, relative, spectrum, tikhonov


def test_eta_follows_a_weight_that_grows():
    trial = Trial(dense_net, lambda: Reciprocal(lam=0.1, rescale="none"))
    trial.step(0)
    for layer in trial.rule.layers:
        layer.weight.value *= 30
    for _ in range(1500):
        trial.rule.learn(trial.net, trial.tape)
    for layer in trial.rule.layers:
        W = layer.weight.value
        assert relative(layer.feedback.matrix.value.T, tikhonov(W, 0.1 * (W ** 2).sum() / min(W.shape))) < 1e-6


# -- the rule ---------------------------------------------------------------------------------------------------------

def linear_chain(widths=(12, 9, 7, 4)):
    def build(seed):
        return ready(Sequential(**{f"fc{i}": Dense(n) for i, n in enumerate(widths[1:])}), (widths[0],), seed)
    return build


def deltas(trial, exact=False):
    walk = trial.tape.walk(exact=exact, records=True)
    (trial.net.backward(walk.error, walk) if exact else trial.rule.assign(trial.net, walk))
    return [rows(walk.deltas[layer][0]) for layer in weighted(trial.net)]


def test_in_a_contracting_linear_chain_every_layer_alone_would_cancel_the_error():
    trial = Trial(linear_chain(), lambda: ReciprocalOracle(lam=0, rescale="none"))
    trial.run()
    mine, true = deltas(trial), deltas(trial, exact=True)
    W = [layer.weight.value for layer in weighted(trial.net)]
    for i in range(3):
        assert np.allclose((mine[i] * true[i]).sum(1), (true[-1] ** 2).sum(1), rtol=1e-10, atol=0)
        through = mine[i]
        for w in W[i + 1:]:
            through = through @ w.T
        assert np.allclose(through, true[-1], rtol=1e-10, atol=1e-14)


def test_a_large_lam_is_backprop_scaled():
    trial = Trial(dense_net, lambda: ReciprocalOracle(lam=1e4, rescale="none"))
    for layer in trial.rule.layers:
        B, W = layer.feedback.matrix.value, layer.weight.value
        assert 1 - (B * W).sum() / np.linalg.norm(B) / np.linalg.norm(W) < 1e-8


@pytest.mark.parametrize("factory", [lambda: Reciprocal(eta=1, lam=0, rescale="none"),
                                     lambda: ReciprocalOracle(lam=0, rescale="none")], ids=["learned", "exact"])
def test_with_orthonormal_rows_one_step_gives_backprop_and_the_next_changes_nothing(factory):
    def build(seed):
        net = linear_chain()(seed)
        for layer in weighted(net):
            layer.weight.value[...] = np.linalg.qr(layer.weight.value.T)[0].T
        return net
    trial = Trial(build, factory, optimise=lambda arena: SGD(arena, 0.0))
    for step in range(2):
        trial.step(step)
        for layer in trial.rule.layers:
            assert abs(layer.feedback.matrix.value - layer.weight.value).max() < 1e-13
    trial.run(2)
    assert not differ(trial.assign(), trial.backprop(), 1e-12)


@pytest.mark.parametrize("rescale", ["none", "match"])
@pytest.mark.parametrize("net", NETS)
def test_without_recirculation_a_random_start_is_feedback_alignment_to_the_bit(net, rescale):
    one = Trial(NETS[net], lambda: Reciprocal(steps=0, start="random", rescale=rescale))
    two = Trial(NETS[net], FeedbackAlignment)
    for step in range(3):
        one.step(step)
        two.step(step)
    assert not differ(one.gradients(), two.gradients()) and not differ(one.forward_state(), two.forward_state())


@pytest.mark.parametrize("rescale", ["match", "none"])
@pytest.mark.parametrize("net", NETS)
def test_feedback_that_is_w_is_backprop_to_the_bit(net, rescale):
    trial = Trial(NETS[net], lambda: Reciprocal(rescale=rescale))
    for layer in trial.rule.layers:
        assert layer.feedback.become_exact(layer) and layer.feedback.rescale == rescale
    trial.run()
    assert not differ(trial.assign(), trial.backprop())


@pytest.mark.parametrize("rescale", ["preserve", "clip"])
def test_an_error_whose_size_is_the_rules_is_never_backprops(rescale):
    trial = Trial(dense_net, lambda: Reciprocal(rescale=rescale, most=0.1))
    assert not any([layer.feedback.become_exact(layer) for layer in trial.rule.layers])
    trial.run()
    assert differ(trial.assign(), trial.backprop(), 1e-3) and REDUCES not in trial.rule.claims


@pytest.mark.parametrize("net", NETS)
def test_matched_feedback_is_backprop_after_its_first_step(net):
    """V = eta W then, with the norm of W, whatever eta is: W was copied by activity alone."""
    trial = Trial(NETS[net], Reciprocal, optimise=lambda arena: SGD(arena, 0.0))
    trial.step(0)
    trial.run(1)
    assert not differ(trial.assign(), trial.backprop(), 1e-11)
    trial.step(1)
    trial.run(2)
    assert differ(trial.assign(), trial.backprop(), 1e-2)


@pytest.mark.parametrize("kind", [SimplifiedDifferenceTargetPropagation, DifferenceTargetPropagation])
def test_difference_targets_through_pseudoinverses_of_a_linear_net_are_reciprocal_errors(kind):
    """h - t, target propagation's error; DTP's last layer hands its own W down, and so does RF's here."""
    def build(seed):
        net = linear_chain((6, 9, 7, 5, 3))(seed)
        for layer in weighted(net):
            layer.bias.value[...] = np.random.default_rng(layer.n_out).normal(size=(layer.n_out, 1))
        return net
    how = {"alpha": 1.0} if kind is DifferenceTargetPropagation else {}
    one = Trial(build, lambda: kind(**how))
    two = Trial(build, lambda: ReciprocalOracle(lam=0, rescale="none"))
    for i, g in one.rule.g.items():
        weighted(g)[0].weight.value[...] = np.linalg.pinv(one.rule.f[i].layer.weight.value).T
    if how:
        two.rule.layers[-1].feedback.become_exact(two.rule.layers[-1])
    assert len(one.rule.g) == 3 - len(how)
    for trial in one, two:
        trial.run()
    assert not differ(one.assign(), two.assign(), 1e-10)


def test_recirculation_settles_at_the_oracle():
    learned, exact = (Trial(dense_net, rule) for rule in (Reciprocal, ReciprocalOracle))
    learned.run()
    for _ in range(1000):
        learned.rule.learn(learned.net, learned.tape)
    exact.run()
    assert not differ(learned.rule.arrays(), exact.rule.arrays(), 1e-9)
    assert not differ(learned.assign(), exact.assign(), 1e-9)


def test_biases_and_nonlinearities_take_no_part():
    one, two = Trial(dense_net, Reciprocal), Trial(dense_net, Reciprocal)
    for layer in weighted(two.net):
        layer.bias.value += 5
    for trial in one, two:
        trial.run()
        for _ in range(3):
            trial.rule.learn(trial.net, trial.tape)
    assert not differ(two.rule.arrays(), one.rule.arrays())


@pytest.mark.parametrize("how", [{}, {"rows": 3}, {"drive": "white", "rows": 6}, {"drive": "activity"}], ids=str)
def test_how_a_batch_is_cut_changes_nothing(how):
    found = one_chunk_and_two(map_net, lambda: Reciprocal(**how), lambda trial: after_steps(trial).state())
    assert not differ(*found, 1e-11)


def test_sampled_drives_are_drawn_anew_each_time_and_are_those_asked_for():
    net = dense_net(0)
    for kind, R in (("white", 4), ("basis", 3)):
        rule = Reciprocal(drive=kind, rows=R).attach(net, 0)
        drive = rule.drives[rule.layers[0]]
        one, two = (rows(drive(np.random.default_rng(i), None)) for i in (0, 1))
        assert one.shape == (R, 9) and not np.array_equal(one, two)
        if kind == "basis":
            for seed in range(9):                       # one unit at a time, none twice
                X = rows(drive(np.random.default_rng(seed), None))
                assert np.array_equal(X @ X.T, 9 * np.eye(R)) and (X != 0).sum() == R
    whole = Reciprocal().attach(net, 0)
    X = rows(whole.drives[whole.layers[0]](None, None))
    assert np.array_equal(X @ X.T, 9 * np.eye(9))


def test_a_wide_layer_gets_a_million_numbers_at_most():
    net = Sequential(low=Dense(3000), high=Dense(2)).build(2)
    rule = Reciprocal().attach(net, 0)
    drive = rule.drives[rule.layers[0]]
    assert drive.rows == MANY // 3000 and drive.whole is None
    assert Reciprocal(rows=3000).attach(net, 0).drives[rule.layers[0]].rows == 3000
    assert Drive("basis", None, dense(glorot(1024, 3)), rule).whole.shape == (1, 1024, 1024)


def test_activity_drives_with_the_weights_as_they_now_are():
    trial = Trial(dense_net, lambda: Reciprocal(drive="activity", eta=0.1, lam=0, rescale="none"))
    trial.step(0)
    fresh = trial.begin(0)
    fresh.run(trial.net)
    for layer in trial.rule.layers:
        x = fresh.seen(layer)[0]
        y = layer.apply(x, layer.weight.value)
        assert differ({"V": layer.feedback.matrix.value}, {"V": 0.1 * layer.outer(x, y) / 8}, 1e-13) == ""


def test_weights_that_meet_padding_alone_stay_at_zero():
    net = Sequential(low=Conv2d(2, 1), act=Tanh(), high=Conv2d(3, 15), flat=Flatten(), fc=Dense(3))
    rule = Reciprocal(start="random").attach(net.build((6, 5, 2), 0, np.float64), 0)
    rule.follow(SGD(net.arena, 0.1))
    layer = rule.layers[0]
    unused = layer.feedback.uses == 0
    for _ in range(3):
        assert unused.any() and not layer.feedback.matrix.value[unused].any() and layer.feedback.matrix.value.any()
        rule.recirculate(lambda layer: None, None)


# -- when -------------------------------------------------------------------------------------------------------------

def steps_of_v(rule, steps, monkeypatch):
    """After which updates V took how many steps: {update: steps}, 0 for before the first."""
    trial, found = Trial(dense_net, rule), []
    monkeypatch.setattr(trial.rule, "recirculate", lambda rng, tape: found.append(
        [rng(layer).standard_normal() for layer in trial.rule.layers]))
    counts = {}
    for step in range(steps):
        before = len(found)
        trial.step(step)
        counts[step] = len(found) - before
    assert len(set(np.ravel(found))) == np.size(found)  # no draw twice
    return counts


def test_awake_v_takes_its_steps_after_every_update(monkeypatch):
    assert steps_of_v(lambda: Reciprocal(steps=3), 4, monkeypatch) == dict.fromkeys(range(4), 3)


def test_asleep_v_takes_them_at_the_start_and_after_every_wake(monkeypatch):
    rule = registry.make("rf-sleep:sleep=5,wake=3")
    assert (rule.steps, rule.sleep, rule.wake) == (0, 5, 3)
    assert steps_of_v(lambda: rule, 7, monkeypatch) == {0: 5, 1: 0, 2: 5, 3: 0, 4: 0, 5: 5, 6: 0}


def test_the_draws_of_sleep_are_the_seeds():
    found = [Trial(dense_net, lambda: Reciprocal(steps=0, sleep=2, drive="white", rows=4), seed=seed, net_seed=0)
             for seed in (0, 1)]
    for trial in found:
        trial.step(0)
    assert differ(found[0].rule.arrays(), found[1].rule.arrays(), 1e-3)


@pytest.mark.parametrize("drive", ["basis", "activity"])
def test_sleep_recirculates_what_the_layers_are(drive):
    trial = Trial(stride_net, lambda: Reciprocal(steps=0, sleep=2, wake=5, drive=drive))
    trial.step(0)
    assert all(layer.feedback.matrix.value.any() for layer in trial.rule.layers)
    before = {path: array.copy() for path, array in trial.rule.arrays().items()}
    for step in (1, 2, 3):
        trial.step(step)
        assert not differ(trial.rule.arrays(), before)
    trial.step(4)
    assert differ(trial.rule.arrays(), before)


def test_the_oracle_is_stale_between_refreshes():
    trial = Trial(dense_net, lambda: ReciprocalOracle(refresh=3))
    fresh = []
    for step in range(6):
        trial.step(step)
        now = Trial(dense_net, ReciprocalOracle)
        for layer, mine in zip(weighted(now.net), weighted(trial.net), strict=True):
            layer.weight.value[...] = mine.weight.value
        now.rule.attach(now.net, 0)
        fresh.append(differ(trial.rule.arrays(), now.rule.arrays()) == "")
    assert fresh == [False, False, True, False, False, True]
    never = Trial(dense_net, lambda: ReciprocalOracle(refresh=0))
    before = {path: array.copy() for path, array in never.rule.arrays().items()}
    for step in range(3):
        never.step(step)
    assert not differ(never.rule.arrays(), before)


def test_stale_feedback_is_off_by_as_much_as_the_weights_have_moved():
    W, rng = glorot(256, 128), np.random.default_rng(0)
    noise = rng.normal(size=W.shape)
    for share, wanted in ((0.01, 0.017), (0.1, 0.17)):
        moved = W + share * noise * np.linalg.norm(W) / np.linalg.norm(noise)
        assert relative(np.linalg.pinv(W), np.linalg.pinv(moved)) == pytest.approx(wanted, rel=0.3)


# -- scale and gate ---------------------------------------------------------------------------------------------------

def settled(**how):
    """A dense net whose V has nearly become the inverse."""
    trial = Trial(dense_net, lambda: ReciprocalOracle(**how))
    trial.run()
    return trial


def carried(trial, layer, d):
    x = trial.tape.seen(layer)[0]
    return layer.feedback.carry(layer, d, x, trial.tape)


@pytest.mark.parametrize("rescale", ["none", "match", "preserve", "clip"])
def test_rescaling(rescale):
    trial = settled(rescale=rescale, most=0.9)
    for layer in trial.rule.layers:
        d = np.random.default_rng(0).normal(size=(1, layer.n_out, 8)) * np.logspace(-3, 3, 8)
        d[..., 2] = 0
        W, V = layer.weight.value, layer.feedback.matrix.value
        e, plain = carried(trial, layer, d), V.T @ d
        into, out, found = (np.linalg.norm(z, axis=1)[0] for z in (d, plain, e))
        if rescale == "none":
            assert np.array_equal(e, plain)
        elif rescale == "match":
            assert np.allclose(e, plain * np.linalg.norm(W) / np.linalg.norm(V), rtol=1e-12, atol=0)
            assert np.linalg.norm(layer.feedback.effective(layer)) == pytest.approx(np.linalg.norm(W), rel=1e-12)
        elif rescale == "preserve":
            assert np.allclose(found, into, rtol=1e-12, atol=0) and not e[..., 2].any()
        else:
            assert np.allclose(found, np.minimum(out, 0.9 * into), rtol=1e-12, atol=0)
            assert (out > 0.9 * into).any()


def test_the_gain_that_matches_is_measured_by_activity():
    for make in (dense_net, map_net, stride_net):
        trial = Trial(make, Reciprocal, optimise=lambda arena: SGD(arena, 0.0))
        trial.step(0)
        for layer in trial.rule.layers:
            W, given = layer.weight.value, layer.feedback
            assert given.power.value == pytest.approx((given.uses * W * W).sum(), rel=1e-12)


def chain_of(unit):
    return lambda seed=0: ready(Sequential(fc1=Dense(9), act1=unit(), fc2=Dense(7), act2=unit(), fc3=Dense(4)), (6,),
                                seed)


@pytest.mark.parametrize("unit", [Tanh, Sigmoid, LeakyReLU, ReLU])
def test_gates_are_powers_of_the_slope(unit):
    for gate in ("multiply", "none", "divide") if unit is not ReLU else ("multiply",):
        trial = Trial(chain_of(unit), lambda gate=gate: ReciprocalOracle(gate=gate, rescale="none"))
        trial.run()
        top, middle, _ = deltas(trial)[::-1]
        layers = weighted(trial.net)
        e = top @ layers[2].feedback.matrix.value
        slope = trial.net.layers[3].slope(rows(trial.tape.seen(layers[2])[0])) * 1.0
        wanted = {"multiply": slope * e, "none": e, "divide": e / slope.clip(0.1)}[gate]
        assert np.allclose(middle, wanted, rtol=1e-12, atol=1e-18)
        if gate != "multiply":
            assert not layers[2].feedback.become_exact(layers[2])


@pytest.mark.parametrize("unit", [ReLU, Clip, lambda: Clip(low=-1), lambda: LeakyReLU(0)])
def test_a_gate_that_divides_refuses_a_slope_of_0_for_the_walk_multiplies_by_it(unit):
    for gate in ("none", "divide"):
        for rule in (Reciprocal, ReciprocalOracle):
            with pytest.raises(BuildError, match=f"act1: a .*, whose slope is 0 .* gate {gate} can .*gate='multiply'"):
                rule(gate=gate).attach(chain_of(unit)())
    assert Reciprocal().attach(chain_of(unit)())


def test_gates_see_through_reshapes_and_nothing_else():
    def flat(seed):
        return ready(Sequential(conv=Conv2d(3, 3, stride=2), act=Tanh(), flat=Flatten(), fc=Dense(6), act2=Tanh(),
                                back=Reshape((2, 1, 3)), conv2=Conv2d(4, 1), flat2=Flatten()), (5, 4, 2), seed)
    trial = Trial(flat, lambda: Reciprocal(gate="none", rescale="none", start="random"))
    trial.run()
    _, middle, _ = deltas(trial)
    last = weighted(trial.net)[-1]
    e = last.adjoint(trial.tape.error.reshape(2, 2, 4, 1, 4), last.feedback.matrix.value, (2, 2, 3, 1, 4))
    assert np.allclose(middle, rows(e.reshape(2, -1, 4)), rtol=1e-12, atol=0)
    for gate in ("none", "divide"):
        with pytest.raises(BuildError, match="pool: a MaxPool2d"):
            Reciprocal(gate=gate).attach(map_net(0))
        with pytest.raises(BuildError, match="where the way divides"):
            Reciprocal(gate=gate).attach(NETS["residual"](0))
    def pooled(seed):
        return ready(Sequential(conv=Conv2d(3, 3), act=Tanh(), pool=MaxPool2d(2), flat=Flatten(), fc=Dense(2)),
                     (4, 4, 1), seed)
    assert Reciprocal().attach(pooled(0))


# -- contract, options, precision -------------------------------------------------------------------------------------

def test_the_size_of_w_is_measured_and_kept_and_no_optimiser_has_it():
    trial = Trial(dense_net, Reciprocal)
    size = trial.rule.layers[0].feedback.power
    assert "fc2.power" in trial.rule.arrays() and trial.rule.arrays()["fc2.power"] is size.value
    assert {p.path for p in trial.rule.state.params} == {"fc2.matrix", "fc3.matrix"}


@pytest.mark.parametrize("how", ["momentum", "decay", "adam"])
def test_the_size_of_w_is_known_at_once_whatever_steps_v(how):
    def optimiser(arena):
        return Adam(arena, lr=1e-3) if how == "adam" else SGD(arena, 1.0, **{how: 0.5})
    trial = Trial(dense_net, lambda: Reciprocal(optimiser=optimiser), optimise=lambda arena: SGD(arena, 0.0))
    for step in range(3):
        trial.step(step)
        for layer in trial.rule.layers:
            assert layer.feedback.power.value == pytest.approx((layer.weight.value ** 2).sum(), rel=1e-12)


def test_the_oracle_of_no_weight_is_none_and_of_nan_is_nan():
    for lam in (0, 0.1):
        rule = ReciprocalOracle(lam=lam)
        net = dense_net(0)
        weighted(net)[1].weight.value[...] = 0
        rule.attach(net)
        assert not rule.layers[0].feedback.matrix.value.any()
        with np.errstate(all="ignore"):
            weighted(net)[1].weight.value[0, 0] = np.nan
            rule.invert(rule.layers[0], rule.layers[0].feedback)
        assert np.isnan(rule.layers[0].feedback.matrix.value).any()


def test_the_oracle_computes_in_double_precision():
    W = spectrum(6, 10, low=1e-3).astype(np.float32)
    net = Sequential(low=Dense(10), high=Dense(6)).build(2, 0, np.float32)
    net.layers[1].weight.value[...] = W
    for lam in (0, 1e-6):
        V = ReciprocalOracle(lam=lam, relative=False).attach(net).layers[0].feedback.matrix.value
        assert V.dtype == np.float32 and relative(V.T, tikhonov(W.astype(float), lam)) < 1e-6


def test_an_oracle_without_a_clock_says_so():
    trial = Trial(dense_net, ReciprocalOracle)
    trial.run()
    trial.rule.attach(trial.net, 0)
    with pytest.raises(BuildError, match="ReciprocalOracle: no optimiser to count .*; call rule.follow"):
        trial.rule.learn(trial.net, trial.tape)


VARIANTS = ["rf", "rf-sleep:sleep=3", "rf-sleep:sleep=2,drive=white,rows=4", "rf:drive=white,rows=5,start=random",
            "rf:drive=activity", "rf:rows=3,rescale=clip", "rf:rescale=preserve,steps=2"]
CHAINS = {"dense": dense_net, "stride": stride_net, "residual": NETS["residual"]}


@pytest.mark.parametrize(("name", "drawn"), [
    ("rf", False), ("rf-sleep:drive=white,rows=4", True), ("rf-sleep:rows=3", True), ("rf-sleep:rows=9", False),
    ("rf-sleep:drive=activity", False), ("rf:drive=white", False), ("rf:start=random", True)])
def test_the_seed_decides_what_starts_at_random_or_is_dreamt(name, drawn):
    one, two = (Trial(dense_net, lambda: registry.make(name), seed=seed, net_seed=0) for seed in (0, 1))
    two.seed = 0                                        # what is left of it is the rule's own
    for trial in one, two:
        trial.rule.phase(trial.net, Batches(trial, 0))
    assert one.rule.drawn == drawn == (differ(one.rule.arrays(), two.rule.arrays()) != "")


@pytest.mark.parametrize("name", VARIANTS)
def test_the_contract(name, contract):
    assert contract(lambda: registry.make(name), seeds=(0,)).count == 5 * 15 + 3


@pytest.mark.parametrize("gate", ["none", "divide"])
def test_the_contract_of_other_gates(gate, contract):
    report = contract(lambda: Reciprocal(gate=gate), CHAINS, seeds=(0,))
    assert report.count == 2 * 16 and list(report.refused) == ["residual"]


@pytest.mark.parametrize(("how", "clauses"), [("", 15), (":lam=0.5,rescale=none,relative=false", 15),
                                              (":refresh=3", 15), (":refresh=0", 16)])
def test_the_contract_of_the_oracle(how, clauses, contract):
    """Without refresh W is read at `attach` alone, as dynamic inversion's start is: then it is free of transport."""
    report = contract(lambda: registry.make(f"rf-exact{how}"), {"dense": dense_net}, seeds=(0, 1))
    assert report.count == 2 * clauses


def test_the_oracle_refuses_maps_and_says_what_takes_them():
    with pytest.raises(BuildError, match=r'conv2: a Conv2d, .*; use Reciprocal\(\) \("rf"\)'):
        net = Sequential(conv=Conv2d(2, 3), conv2=Conv2d(2, 3), flat=Flatten()).build((4, 4, 1))
        ReciprocalOracle().attach(net)


@pytest.mark.parametrize("text, says", [
    ("rf:drive=pink", "Reciprocal: drive 'pink'; expected basis or white or activity"),
    ("rf:start=one", "start 'one'; expected zero or random"), ("rf:steps=-1", "steps -1; expected a whole number"),
    ("rf:wake=0", "wake 0; expected a whole number of at least 1"),
    ("rf:rows=1.5", "rows 1.5; expected a whole number"),
    ("rf:rows=0", "rows 0; expected a whole number of at least 1"),
    ("rf:steps=0", "steps 0 and sleep 0, from zero; .*start='random'"),
    ("rf:lam=-0.1", "lam -0.1; expected a finite number of at least 0"), ("rf:eta=big", "eta 'big'"),
    ("rf:rescale=all", "rescale 'all'; expected match or none or preserve or clip"),
    ("rf:gate=add", "gate 'add'; expected multiply or none or divide"),
    ("rf:relative=2", "relative 2; expected true or"),
    ("rf:most=0", "most 0"), ("rf-exact:refresh=-1", "refresh -1; expected a whole number of at least 0")])
def test_wrong_options_are_refused_in_words(text, says):
    with pytest.raises(SettingError, match=says):
        registry.make(text)


def single(factory):
    """All that three steps in single precision leave."""
    def build(seed):
        return Sequential(a=Dense(9), t=Tanh(), b=Dense(7), u=Tanh(), c=Dense(4)).build(6, seed, np.float32)
    trial = Trial(build, factory)
    for step in range(3):
        trial.step(step)
    return trial.state()


def test_options_of_numpy_are_those_of_python():
    how = {"steps": 2, "sleep": 3, "wake": 2, "eta": 0.01, "lam": 0.1, "rows": 3, "most": 0.5}
    wide = {name: {int: np.int64, float: np.float64}[type(x)](x) for name, x in how.items()}
    one, two = (single(lambda how=how: Reciprocal(drive="white", rescale="clip", **how)) for how in (how, wide))
    assert not differ(two, one) and all(array.dtype == np.float32 for array in two.values())
    rule = Reciprocal(**wide)
    assert {name: type(getattr(rule, name)) for name in how} == {name: type(x) for name, x in how.items()}


def test_v_is_stepped_by_plain_gradient_descent_unless_another_optimiser_is_given():
    plain = Trial(dense_net, Reciprocal)
    assert plain.rule.optimiser.settings()["lr"] == 1.0 and plain.rule.optimiser.nbytes == 0
    given = Trial(dense_net, lambda: Reciprocal(optimiser=lambda arena: SGD(arena, 1.0, momentum=0.5)))
    assert given.rule.optimiser.settings()["momentum"] == 0.5


def test_single_precision_reaches_the_inverse_to_its_own_rounding():
    net = mlp(64, 48, 10).build(64, 0, np.float32)
    rule = Reciprocal(lam=0, rescale="none", steps=400).attach(net, 0)
    rule.follow(SGD(net.arena, 0.1))
    tape = Trial(dense_net, Backprop).begin(0)
    rule.learn(net, tape)
    layer = rule.layers[0]
    W, V = layer.weight.value, layer.feedback.matrix.value
    assert V.dtype == np.float32 == layer.feedback.power.value.dtype
    kappa2 = np.linalg.cond(W.astype(np.float64)) ** 2
    assert relative(V.T, np.linalg.pinv(W.astype(np.float64))) < 1e-7 * kappa2 * 10


@pytest.mark.parametrize("name", ["rf:rescale=match", "rf:rescale=preserve,gate=divide", "rf-exact"])
def test_single_precision_agrees_with_double(name):
    single, double = single_and_double(lambda seed: mlp(6, 9, 7, 4, seed=seed), lambda: registry.make(name),
                                       lambda trial: after_steps(trial).gradients())
    assert all(g.dtype == np.float32 for g in single.values()) and not differ(single, double, 1e-4)


# -- it learns --------------------------------------------------------------------------------------------------------

WIDTHS = 64, 48, 32, 16, 10


def test_it_teaches_hidden_layers():
    inputs, labels = teacher(1500)
    found = {name: trained(registry.make(name), mlp(*WIDTHS), (inputs, labels), lr=0.2, epochs=6, drop=None,
                           optimise=SGD) for name in ("rf", "rf-exact", "frozen")}
    assert found["rf"] > found["frozen"] + 0.1 and found["rf-exact"] > found["frozen"] + 0.1, found


def best(name, lrs=(0.1, 0.2, 0.5, 1.0), epochs=20):
    return min(100 * (1 - trained(registry.make(name), mlp(*WIDTHS), teacher(), lr=lr, epochs=epochs, drop=None,
                                  optimise=SGD)) for lr in lrs)


@pytest.mark.long
def test_on_the_teachers_task_it_lies_between_backprop_and_feedback_alignment():
    """Training error in %, 20 epochs of SGD; in another draw of the task 15.5 to 18.7, backprop 12.7, FA 19.4."""
    found = {name: best(name) for name in ("backprop", "fa", "rf", "rf-exact", "rf-exact:refresh=100", "rf-sleep",
                                           "rf:drive=white,rows=50")}
    print(found)
    for name in list(found)[2:]:
        assert found["backprop"] + 1 < found[name] < found["fa"] and 12 < found[name] < 24, found


def test_a_net_that_learned_has_feedback_nearer_to_the_inverse_than_to_chance():
    net = mlp(20, 16, 12, 5)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(500, 20))
    trained(Reciprocal(), net, (inputs, inputs[:, :5].argmax(1)), lr=0.1, epochs=4, optimise=SGD)
    for layer in weighted(net)[1:]:
        W = layer.weight.value
        wanted = tikhonov(W, 0.1 * (W ** 2).sum() / min(W.shape)).T
        assert angle(layer.feedback.matrix.value, wanted) < 8 < angle(layer.feedback.matrix.value, W)

"""Equilibrium propagation: what it settles to, and what its contrast is the gradient of."""
import numpy as np
import pytest

from nplearn.columns import outside
from nplearn.errors import BuildError, SettingError
from nplearn.layers import (
    AvgPool2d,
    BatchNorm,
    Clip,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LocallyConnected2d,
    MaxPool2d,
    Normalise,
    ReLU,
    Reshape,
    Sequential,
    SteepSigmoid,
    Subsample,
    Tanh,
    stages,
    weighted,
)
from nplearn.layers.activation import Activation
from nplearn.losses import SoftmaxCrossEntropy, SquaredError
from nplearn.metrics import Probe
from nplearn.optim import SGD
from nplearn.rules import (
    NEEDS_CHAIN,
    NO_TRANSPORT,
    SAMPLES_APART,
    Backprop,
    DirectFeedbackAlignment,
    EquilibriumPropagation,
    FeedbackAlignment,
    Frozen,
    KolenPollack,
    ProductFeedbackAlignment,
    Reciprocal,
    WeightMirror,
    registry,
)
from nplearn.runs import Settings
from nplearn.tape import Tape
from nplearn.testing.trial import NETS, Trial, common_factor, differ, ready, residual_net
from tests.oracles.equilibrium_propagation import (
    adjoint_gradients,
    backward_steps,
    clipped_euler,
    potential,
    step_by_step,
)
from tests.rules.smoke import prototypes, trained

N = 6


def dense_net(seed=0, activation=SteepSigmoid, size=0.35, top=True, widths=(6, 8, 7, 3)):
    """6-8-7-3; Gaussian weights of deviation size / sqrt(n) and small biases; the output settles, or is read out."""
    named = {}
    for i, n in enumerate(widths[1:], start=1):
        named |= {f"fc{i}": Dense(n), f"act{i}": activation()}
    if not top:
        del named[f"act{len(widths) - 1}"]
    return drawn(ready(Sequential(**named), (widths[0],), seed), seed, size)


def conv_net(pool, seed=0, top=True):
    """A map of 6 x 4, convolution to 2 maps, pooling by 2, 3 outputs."""
    net = Sequential(conv=Conv2d(2, 3), pool=pool(2), act=SteepSigmoid(), flatten=Flatten(), fc=Dense(3),
                     **({"out": SteepSigmoid()} if top else {}))
    return drawn(ready(net, (6, 4, 1), seed), seed, 0.35)


def drawn(net, seed, size):
    rng = np.random.default_rng(seed)
    for layer in weighted(net):
        W = layer.weight.value
        W[...] = size * rng.normal(size=W.shape) / layer.fans(layer.n_out)[0] ** 0.5
        layer.bias.value[...] = 0.1 * rng.normal(size=layer.bias.value.shape)
    return net


class Identity(Activation):
    def f(self, x):
        return 1 * x

    def slope(self, y):
        return 0 * y + 1


def passed(net, rule, loss=None, seed=0, n=N):
    """A tape that a batch has passed, the free phase done."""
    rng = np.random.default_rng(seed)
    inputs, labels = rng.normal(size=(n, *outside(net.in_shape))), rng.integers(net.out_shape[0], size=n)
    tape = Tape(net, loss or SquaredError()).begin(inputs, labels, seed=(seed, 0))
    tape.run(rule)
    return tape


def of(net, loss=None, **options):
    """{path: gradient}"""
    rule = EquilibriumPropagation(**{"free_steps": 100, "nudged_steps": 100, **options}).attach(net, 3)
    rule.assign(net, passed(net, rule, loss))
    return gradients(net)


def gradients(net):
    return {p.path: p.grad.copy() for p in net.arena.params}


def numeric(net, loss=None, h=1e-5):
    """{path: gradient} of the settled output's loss, by central differences: of entries drawn for each array."""
    rule, rng = EquilibriumPropagation(free_steps=100).attach(net, 3), np.random.default_rng(5)
    found = {}
    for p in net.arena.params:
        flat, slopes = p.value.reshape(-1), np.full(p.value.size, np.nan)
        for i in rng.permutation(p.value.size)[:3]:
            values = []
            for side in (h, -2 * h):
                flat[i] += side
                values.append(passed(net, rule, loss).values.mean())
            flat[i] += h
            slopes[i] = (values[0] - values[1]) / (2 * h)
        found[p.path] = slopes.reshape(p.value.shape)
    return found


def error(found, wanted):
    """The largest of the relative errors of the arrays, of the entries that are wanted."""
    def one(a, b):
        known = ~np.isnan(b)
        return abs(a - b)[known].max() / abs(b[known]).max()
    return max(one(found[path], wanted[path]) for path in wanted)


def unrest(rule, state):
    return max(rule.settling.unrest(state).values())


# -- the free phase ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("build", [dense_net, lambda: dense_net(top=False), lambda: conv_net(AvgPool2d),
                                   lambda: conv_net(MaxPool2d)], ids=["dense", "read-out", "average", "largest"])
def test_the_free_phase_comes_to_rest_and_stays(build):
    rule = EquilibriumPropagation(free_steps=300).attach(build())
    tape = passed(rule.net, rule, SoftmaxCrossEntropy() if rule.settling.reads_out else None)
    state = rule.free(tape)
    assert unrest(rule, state) <= 1e-15
    after = state
    for _ in range(50):
        after = rule.settling.sweep(after)
    assert all(abs(a - b).max() <= 1e-15 for a, b in zip(after.s, state.s, strict=True))


def test_what_is_left_of_the_motion_is_small_against_beta_and_says_so():
    rule = EquilibriumPropagation(free_steps=2).attach(dense_net())
    early = max(rule.unrest(passed(rule.net, rule)).values())
    rule.free_steps = 40
    assert max(rule.unrest(passed(rule.net, rule)).values()) < 1e-2 * rule.beta < early


@pytest.mark.parametrize("top", [True, False])
def test_a_probe_says_how_far_each_layer_is_from_rest(top):
    """By the states of one free phase and of another that is a step longer."""
    net = dense_net(top=top)
    inputs, labels = np.random.default_rng(0).normal(size=(N, 6)), np.arange(N) % 3
    loss, states = SquaredError() if top else SoftmaxCrossEntropy(), []
    for steps in (4, 5):
        rule = EquilibriumPropagation(free_steps=steps).attach(net)
        tape = Tape(net, loss).begin(inputs, labels)
        rule.forward(tape.input, tape)
        states.append(rule.free(tape).s[1:])
    report = Probe(net, EquilibriumPropagation(free_steps=4).attach(net), loss, inputs, labels).measure()
    wanted = [abs(a - b).max() for a, b in zip(*states, strict=True)]
    assert [layer["unrest"] for layer in report[:len(wanted)]] == wanted and min(wanted) > 1e-9
    assert all("unrest" not in layer for layer in report[len(wanted):]) and len(wanted) == 2 + top


@pytest.mark.parametrize("pool", [AvgPool2d, MaxPool2d])
def test_every_state_is_driven_by_the_slope_of_phi(pool):
    """Central differences of Phi, pooling included: the largest of a window is that of the moment."""
    net = drawn(ready(Sequential(a=Conv2d(3, 3), p=pool(2), t=Identity(), b=Conv2d(2, 2), q=pool(2), u=Identity(),
                                 flat=Flatten(), c=Dense(3), v=Identity()), (8, 4, 2)), 0, 1.0)
    rule = EquilibriumPropagation(free_steps=2).attach(net)
    state = rule.free(passed(net, rule))
    driven = rule.settling.sweep(state).s               # sigma is the identity: the drive itself
    rng = np.random.default_rng(0)
    for i in range(1, len(state.s)):
        v, values = rng.normal(size=state.s[i].shape), []
        for side in (1e-5, -1e-5):
            moved = [s + side * v if j == i else s for j, s in enumerate(state.s)]
            values.append(potential(stages(net), moved, passed(net, rule)))
        assert (values[0] - values[1]) / 2e-5 == pytest.approx((driven[i] * v).sum(), abs=5e-9)


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_where_it_rests_is_where_the_clipped_dynamics_of_2017_rest(beta):
    net = dense_net(activation=Clip, size=0.45)
    for layer in weighted(net):
        layer.bias.value += 0.3
    rule = EquilibriumPropagation(free_steps=600, nudged_steps=600).attach(net)
    tape = passed(net, rule)
    state = rule.nudged(rule.free(tape), beta, tape) if beta else rule.free(tape)
    assert ((state.s[1] > 0) & (state.s[1] < 1)).any() and ((state.s[1] == 0) | (state.s[1] == 1)).any()
    for start in (0.0, 1.0, 0.4):
        s = clipped_euler(weighted(net), tape.input, tape.target, beta, start, 0.3, 1500)
        assert all(abs(a - b).max() <= 4e-15 for a, b in zip(s, state.s, strict=True))


def test_two_states_may_alternate_for_ever_and_damping_settles_them():
    net = dense_net(size=0.0)
    for layer in weighted(net):
        layer.weight.value -= 3.0
        layer.bias.value += 3.0
    wild, tame = (EquilibriumPropagation(free_steps=500, damping=m).attach(net) for m in (0.0, 0.7))
    assert unrest(wild, wild.free(passed(net, wild))) > 0.5
    rest = tame.free(passed(net, tame))
    assert unrest(tame, rest) <= 1e-15
    assert unrest(wild, rest) <= 1e-14        # the fixed points are the same


def test_damping_is_the_part_of_every_state_that_stays():
    net = dense_net()
    plain, damped = (EquilibriumPropagation(free_steps=1, damping=m).attach(net) for m in (0.0, 0.7))
    state = plain.free(passed(net, plain))
    pairs = zip(state.s, plain.settling.sweep(state).s, damped.settling.sweep(state).s, strict=True)
    assert all(abs(0.7 * old + 0.3 * new - found).max() <= 1e-15 for old, new, found in pairs)


def test_what_the_net_says_is_the_settled_output_with_or_without_a_tape():
    for build, loss in ((dense_net, SquaredError()), (lambda: dense_net(top=False), SoftmaxCrossEntropy())):
        rule = EquilibriumPropagation().attach(build())
        tape = passed(rule.net, rule, loss)
        state = rule.free(tape)
        wanted = state.v[-1] if rule.settling.reads_out else state.s[-1]
        assert (tape.output == wanted).all() and (rule.forward(tape.input) == wanted).all()
        assert abs(rule.net.forward(tape.input) - wanted).max() > 1e-3
        assert len(state.s) == (3 if rule.settling.reads_out else 4)


def test_no_state_outlives_its_batch():
    rule = EquilibriumPropagation(free_steps=5).attach(dense_net())
    tape = passed(rule.net, rule)
    first, output = None, tape.output
    for _ in range(2):
        rule.assign(rule.net, tape)
        passed(rule.net, rule, seed=1)
        tape = passed(rule.net, rule)
        first = first or gradients(rule.net)
        assert (tape.output == output).all()
    rule.assign(rule.net, tape)
    assert not differ(gradients(rule.net), first)


# -- the contrast -----------------------------------------------------------------------------------------------------

def test_the_adjoint_at_the_fixed_point_is_the_gradient_of_the_settled_loss():
    """The reference of the next laws, against numbers."""
    net = dense_net()
    rule = EquilibriumPropagation(free_steps=300).attach(net)
    tape = passed(net, rule)
    wanted = adjoint_gradients(stages(net), rule.free(tape).s, tape.error, 200)
    assert error(wanted, numeric(net)) <= 1e-8


def errors(net, betas, reference=None, **options):
    if reference is None:
        rule = EquilibriumPropagation(free_steps=300).attach(net)
        tape = passed(net, rule)
        reference = adjoint_gradients(stages(net), rule.free(tape).s, tape.error, 400)
    return [error(of(net, beta=beta, **options), reference) for beta in betas]


@pytest.mark.parametrize(("symmetric", "betas"), [(True, (0.3, -0.3)), (False, (0.3,))])
@pytest.mark.parametrize(("free_steps", "nudged_steps"), [(1, 3), (2, 1), (5, 4)])
def test_the_gradient_is_the_contrast_of_so_many_sweeps_from_zero_and_so_many_nudged_ones(free_steps, nudged_steps,
                                                                                          symmetric, betas):
    net = dense_net()
    found = of(net, beta=0.3, free_steps=free_steps, nudged_steps=nudged_steps, symmetric=symmetric)
    tape = passed(net, Backprop().attach(net))
    wanted = step_by_step(weighted(net), lambda v: 1 / (1 + np.exp(-4 * (v - 0.5))), tape.input, tape.target, betas,
                          free_steps, nudged_steps)
    assert not differ(found, {path: g.reshape(found[path].shape) for path, g in wanted.items()}, 1e-11)


def test_a_symmetric_nudge_is_wrong_by_the_square_of_beta():
    off = errors(dense_net(), (1e-1, 1e-2, 1e-3))
    assert off[1] < 1e-3 and off[0] / off[1] == pytest.approx(100, rel=0.1) == off[1] / off[2]


def test_a_one_sided_nudge_is_wrong_by_beta():
    off = errors(dense_net(), (1e-2, 1e-3, 1e-4), symmetric=False)
    assert off[0] < 0.1 and off[0] / off[1] == pytest.approx(10, rel=0.1) == off[1] / off[2]


def test_step_by_step_the_nudged_phase_is_backprop_through_the_free_one():
    """(s^{k+1} - s^k) / beta = -N q^(k); where a layer moves at second order alone, absolutely."""
    net, beta = dense_net(), 1e-5
    rule = EquilibriumPropagation(free_steps=400).attach(net)
    tape = passed(net, rule)
    state = rule.free(tape)
    for k, q in enumerate(backward_steps(stages(net), state.s, tape.error, 6)):
        after = rule.settling.sweep(state, -beta * tape.count * rule.error(state, tape))
        largest = max(abs(x).max() for x in q[1:])
        for i in range(1, 4):
            moved = (after.s[i] - state.s[i]) / (beta * tape.count)
            assert abs(moved + q[i]).max() <= 1e-4 * max(abs(q[i]).max(), largest)
            assert moved.any() == (k >= 3 - i)          # the nudge takes a step for every layer
        state = after


@pytest.mark.parametrize("pool", [AvgPool2d, MaxPool2d])
def test_with_convolution_and_pooling_the_same_laws_hold(pool):
    net = conv_net(pool)
    wanted = numeric(net)
    two, one = errors(net, (1e-1, 1e-2), wanted), errors(net, (1e-2, 1e-3), wanted, symmetric=False)
    assert two[1] < 1e-3 and two[0] / two[1] == pytest.approx(100, rel=0.1)
    assert one[0] < 0.1 and one[0] / one[1] == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("build", [lambda: dense_net(top=False), lambda: conv_net(MaxPool2d, top=False)],
                         ids=["dense", "conv"])
def test_a_read_out_gets_the_losss_own_gradient_and_the_rest_that_of_the_settled_loss(build):
    net, loss = build(), SoftmaxCrossEntropy()
    wanted = numeric(net, loss)
    assert error(of(net, loss, beta=1e-3), wanted) <= 5e-6
    off = [error(of(net, loss, beta=beta), wanted) for beta in (0.3, 0.03)]
    assert off[0] / off[1] == pytest.approx(100, rel=0.15)
    one = [error(of(net, loss, beta=beta, symmetric=False), wanted) for beta in (1e-2, 1e-3)]
    assert one[0] / one[1] == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_read_out_learns_at_the_nudged_states(symmetric):
    net, loss = dense_net(top=False), SoftmaxCrossEntropy()
    rule = EquilibriumPropagation(symmetric=symmetric, beta=0.5).attach(net)
    tape = passed(net, rule, loss)
    rule.assign(net, tape)
    found, layer, free = gradients(net), weighted(net)[-1], rule.free(tape)
    ends = [rule.nudged(free, sign * 0.5, tape) for sign in ((1, -1) if symmetric else (1,))]
    wanted = [layer.outer(state.s[-1], loss(state.v[-1], tape.labels)[1]) for state in ends]
    mean, at_rest = sum(wanted) / len(ends), layer.outer(free.s[-1], tape.error)
    assert abs(found[layer.weight.path] - mean).max() <= 1e-14 and abs(at_rest - mean).max() > 1e-5


def test_the_mean_of_both_one_sided_contrasts_is_the_symmetric_one():
    net, found = dense_net(), {}
    for seed in range(8):
        rule = EquilibriumPropagation(symmetric=False, random_sign=True).attach(net)
        tape = passed(net, rule)
        tape.seed = (seed, 0)
        sign = rule.signs(tape)
        assert sign == rule.signs(tape) and sign in ((1,), (-1,))
        rule.assign(net, tape)
        found[sign] = gradients(net)
    plain = {"free_steps": 40, "nudged_steps": 12}
    assert not differ(found[1,], of(net, symmetric=False, **plain))
    both = {path: (found[1,][path] + found[-1,][path]) / 2 for path in found[1,]}
    assert not differ(both, of(net, **plain), 1e-12)
    assert differ(found[-1,], found[1,], 1e-3)


# -- through other feedback -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("top", [True, False])
def test_through_a_matrix_equal_to_w_it_is_the_same_to_the_bit_and_through_another_it_is_not(top):
    net, loss = dense_net(top=top), None if top else SoftmaxCrossEntropy()
    wanted = of(net, loss)
    rule = EquilibriumPropagation(FeedbackAlignment, free_steps=100, nudged_steps=100).attach(net, 3)
    rule.assign(net, passed(net, rule, loss))
    assert differ(gradients(net), wanted, 1e-2)
    for layer in rule.layers:
        layer.feedback.become_exact(layer)
    rule.assign(net, passed(net, rule, loss))
    assert not differ(gradients(net), wanted)


def test_separate_weights_that_get_the_same_contrast_become_the_forward_ones():
    trial = Trial(dense_net, lambda: EquilibriumPropagation(KolenPollack, free_steps=10, nudged_steps=6),
                  loss=SquaredError(), optimise=lambda arena: SGD(arena, 0.05, 0.9, decay=0.02))
    before = {layer: layer.weight.value - layer.feedback.matrix.value for layer in trial.rule.layers}
    for step in range(20):
        trial.step(step)
    c = common_factor(20, lambda *_: 0.05, lambda *_: 0.02, 0.9)
    for layer, D in before.items():
        assert abs(layer.weight.value - layer.feedback.matrix.value - c * D).max() <= 1e-12 * abs(D).max()


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_path_of_two_steps_gets_the_contrast_that_w_gets(symmetric):
    """dR = B' dW"""
    net = dense_net()
    rule = EquilibriumPropagation(ProductFeedbackAlignment(expand=2, path="direct"), symmetric=symmetric).attach(net)
    rule.assign(net, passed(net, rule))
    for layer in weighted(net):
        wanted = layer.widen(layer.weight.grad, layer.feedback.lift)
        assert abs(layer.feedback.lower.grad - wanted).max() <= 1e-11 * abs(wanted).max()


# -- claims, refusals, options ----------------------------------------------------------------------------------------

SETTLING = {"sigmoid": dense_net, "average": lambda seed: conv_net(AvgPool2d, seed),
            "largest": lambda seed: conv_net(MaxPool2d, seed), "residual": residual_net}
READING = {"dense": NETS["dense"], "map": NETS["map"], "residual": residual_net}


@pytest.mark.parametrize("name", ["ep", "ep:symmetric=false", "ep:symmetric=false,random_sign=true", "ep:damping=0.5"])
def test_the_contract_holds_where_the_output_settles(name, contract):
    report = contract(lambda: registry.make(name), SETTLING, seeds=(2,), loss=SquaredError())
    assert report.count == 45 and list(report.refused) == ["residual"]


THROUGH = {"ep": Backprop, "ep-fa": FeedbackAlignment, "ep-kp": KolenPollack, "ep-wm": WeightMirror,
           "ep-pfa": lambda: ProductFeedbackAlignment(expand=2, path="direct"),
           "ep-pfa-c": lambda: ProductFeedbackAlignment(expand=2, path="collapsed"), "ep-rf": Reciprocal}


@pytest.mark.parametrize("name", THROUGH)
def test_the_contract_holds_with_a_read_out(name, contract):
    def make():
        return EquilibriumPropagation(THROUGH[name](), free_steps=12, nudged_steps=5)
    assert contract(make, READING, seeds=(1,)).count in (30, 32)


def test_one_layer_that_is_read_out_learns_by_the_delta_rule():
    net = Sequential(flatten=Flatten(), fc=Dense(4)).build((3, 2, 2), 0, np.float64)
    found = of(net, SoftmaxCrossEntropy())
    rule = Backprop().attach(net)
    rule.assign(net, passed(net, rule, SoftmaxCrossEntropy()))
    assert not differ(found, gradients(net), 1e-14)


def test_claims_follow_the_feedback():
    assert EquilibriumPropagation().claims == {NEEDS_CHAIN, SAMPLES_APART}
    assert EquilibriumPropagation(FeedbackAlignment).claims == {NEEDS_CHAIN, SAMPLES_APART, NO_TRANSPORT}


def test_nets_that_do_not_settle_are_refused_in_words():
    def attach(*layers, through=Backprop):
        EquilibriumPropagation(through).attach(Sequential(*layers).build((4, 4, 1), 0))
    with pytest.raises(BuildError, match=r"1: a BatchNorm, among states that settle; expected weighted layers"):
        attach(Conv2d(3, 3), BatchNorm(), Tanh(), Flatten(), Dense(2))
    with pytest.raises(BuildError, match=r"3: a Dropout, among"):
        attach(Flatten(), Dense(3), Tanh(), Dropout(0.5), Dense(2))
    with pytest.raises(BuildError, match=r"1: no nonlinearity behind it; .*; put one there, such as Clip"):
        attach(Flatten(), Dense(3), Dense(4), ReLU(), Dense(2))
    with pytest.raises(BuildError, match=r"3: feedback that is the output error"):
        attach(Flatten(), Dense(3), ReLU(), Dense(2), through=DirectFeedbackAlignment)


@pytest.mark.parametrize("layer", [Dense(5), Conv2d(3, 3), LocallyConnected2d(3, 2), Flatten(), Reshape((8, 2, 3)),
                                   MaxPool2d(2), AvgPool2d(2), GlobalAvgPool()], ids=lambda layer: type(layer).__name__)
def test_where_states_settle_a_layer_doubles_what_is_doubled_and_sends_down_what_its_value_weighs(layer):
    """f(2x) = 2 f(x) but for the bias, of each sample alone; and <f(x), d> = <x, backward(d)>: pooling has its Phi."""
    net = layer.build((16,) if type(layer) is Dense else (4, 4, 3), 0, np.float64)
    x = np.random.default_rng(0).normal(size=(2, *net.in_shape, 3))
    tape = Tape(net, mode="train")
    y = net.forward(x, tape)
    d = np.random.default_rng(1).normal(size=y.shape)
    assert layer.settles and abs(net.forward(2 * x, tape.again()) - 2 * y).max() <= 1e-13 * abs(y).max()
    assert np.array_equal(net.forward(x[:1], tape.again()), y[:1])
    net.reach(True)
    assert (net.backward(d, tape.walk(collects=False)) * x).sum() == pytest.approx((d * y).sum(), rel=1e-11)


@pytest.mark.parametrize("layer", [Dropout(0.5), BatchNorm(), Normalise(), Tanh(), Sequential(), Subsample(3, 2)])
def test_of_other_layers_nobody_says_so(layer):
    assert not layer.settles


@pytest.mark.parametrize(("options", "says"), [
    ({"beta": 0}, "EquilibriumPropagation: beta 0, .*; expected beta above 0"), ({"beta": -0.1}, "beta -0.1"),
    ({"damping": 1}, "damping 1, .*damping below 1"), ({"damping": -0.5}, "damping -0.5; expected a finite number"),
    ({"random_sign": True}, "random_sign True; .*not both of the last true.*one nudge is symmetric=false"),
    ({"symmetric": "False"}, "symmetric 'False'; expected true or false"), ({"random_sign": 2}, "random_sign 2"),
    ({"free_steps": 0}, "free_steps 0; expected a whole number"), ({"nudged_steps": 1.5}, "nudged_steps 1.5"),
    ({"through": 3}, "through 3; expected a rule with the plain walk")])
def test_wrong_options_are_refused_in_words(options, says):
    with pytest.raises(SettingError, match=says):
        EquilibriumPropagation(**options)


# -- what holds for all -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("build", [dense_net, lambda: conv_net(AvgPool2d), lambda: conv_net(MaxPool2d)])
def test_how_the_batch_is_cut_changes_nothing(build):
    cut, whole = build(), build()
    whole.column_bytes = 0
    assert not differ(of(whole), of(cut), 1e-11)


def test_single_precision_agrees_with_double_at_a_nudge_that_is_not_too_small():
    found = {}
    for dtype in (np.float32, np.float64):
        net = drawn(dense_net().build(6, 0, dtype), 0, 0.35)
        found[dtype] = of(net, free_steps=60, nudged_steps=30)
        assert all(g.dtype == dtype for g in found[dtype].values())
    assert not differ(found[np.float32], found[np.float64], 1e-3)


def test_a_probe_compares_with_backprop_in_the_feed_forward_net():
    net = dense_net()
    rule = EquilibriumPropagation(beta=1e-3, free_steps=200, nudged_steps=200).attach(net)
    inputs, labels = np.random.default_rng(0).normal(size=(N, 6)), np.arange(N) % 3
    report = Probe(net, rule, SquaredError(), inputs, labels).measure()
    assert all(0 <= line["gradient_angle"] < 60 and 0 <= line["delta_angle"] < 60 for line in report)
    tape = passed(net, rule)
    walk = tape.walk(records=True)
    rule.assign(net, walk)
    q = adjoint_gradients(stages(net), rule.free(tape).s, tape.error, 400, deltas=True)
    for layer, wanted in zip(weighted(net), q, strict=True):
        assert abs(walk.deltas[layer][0] - wanted).max() <= 1e-4 * abs(wanted).max()


def test_the_settings_it_was_published_with_build_a_net_that_it_takes():
    net = Settings.for_rule("ep").build((28, 28, 1), 10)
    rule = registry.make("ep").attach(net)
    rule.assign(net, passed(net, rule, SoftmaxCrossEntropy()))
    assert net.arena.grad.any()


# -- training ---------------------------------------------------------------------------------------------------------

def trained_on_prototypes(rule, seed, epochs, lr=3e-3):
    net = Sequential(fc1=Dense(64), a1=Clip(0.5), fc2=Dense(64), a2=Clip(0.5), fc3=Dense(10), a3=Clip(0.5))
    net.build(20, seed, np.float64)
    for layer in weighted(net):
        layer.weight.value *= 0.7
        layer.bias.value[...] = 0.5
    return trained(rule, net, *prototypes(), lr=lr, epochs=epochs, loss=SquaredError(), seed=seed)


def test_hidden_layers_learn():
    rule = EquilibriumPropagation(free_steps=15, nudged_steps=6)
    assert trained_on_prototypes(rule, 0, 6) > trained_on_prototypes(Frozen(), 0, 6) + 0.2      # .58 and .22


@pytest.mark.long
def test_on_prototypes_it_is_as_good_as_it_was_when_it_was_specified():
    """.765 .709 .806 with draws of another generator; a shallow net .55 to .61."""
    found = [trained_on_prototypes(EquilibriumPropagation(beta=0.2, free_steps=40, nudged_steps=12), seed, 25)
             for seed in range(3)]
    assert np.mean(found) == pytest.approx(0.76, abs=0.05) and min(found) > 0.66

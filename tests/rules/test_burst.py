"""BurstCCN: silent without a teacher, feedback alignment to first order in its strength, and bounded beyond."""
import sys

import numpy as np
import pytest

from nplearn.columns import one_hot, outside, rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    LocallyConnected2d,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    weighted,
)
from nplearn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError
from nplearn.nets import mlp
from nplearn.optim import SGD
from nplearn.rules import EXACT_TOP, NO_TRANSPORT, Burst, FeedbackAlignment, registry
from nplearn.runs import Settings
from nplearn.tape import Tape
from nplearn.testing.trial import Batches, Trial, common_factor, dense_net, differ, ready, residual_net
from tests.fake_device import FakeCupy, crossings
from tests.rules.smoke import prototypes, trained

N = 6


def sigmoid_net(seed=0, act=Sigmoid, out=Sigmoid):
    """6-9-7-4"""
    named = {"fc1": Dense(9), "act1": act(), "fc2": Dense(7), "act2": act(), "fc3": Dense(4)}
    return ready(Sequential(**named, **({"act3": out()} if out else {})), (6,), seed)


def relu_net(seed=0):
    return sigmoid_net(seed, ReLU)


def conv_net(seed=0):
    """Each layer has a stride, a padding and a kernel of its own; pooling in front of units and behind them."""
    return ready(Sequential(conv=Conv2d(4, 3, stride=2, padding=2), act1=Sigmoid(), pool1=AvgPool2d(2, 1),
                            conv2=Conv2d(3, 2, padding="valid"), pool2=MaxPool2d(2, 1), act2=ReLU(),
                            local=LocallyConnected2d(3, 2), act3=Sigmoid(), flatten=Flatten(), fc=Dense(5),
                            act4=Sigmoid()), (7, 9, 2), seed)


def norm_net(seed=0):
    return ready(Sequential(conv=Conv2d(4, 3), norm=BatchNorm(), act1=Sigmoid(), pool=MaxPool2d(2), flatten=Flatten(),
                            fc1=Dense(7), norm2=BatchNorm(), act2=Sigmoid(), fc2=Dense(5), act3=Sigmoid()),
                 (6, 7, 2), seed)


NETS = {"sigmoid": sigmoid_net, "relu": relu_net, "conv": conv_net, "norm": norm_net}
TRIAL = {"nets": NETS, "loss": SquaredError()}


def passed(net, rule, teacher, loss=None, seed=0):
    """A tape whose targets are the output and `teacher` times a random direction."""
    rng = np.random.default_rng(seed)
    tape = Tape(net, loss or SquaredError()).begin(rng.normal(size=(N, *outside(net.in_shape))),
                                                   np.zeros((N, *net.out_shape)), seed=(seed, 0))
    tape.run(rule)
    tape.labels = tape.output + teacher * rng.normal(size=tape.output.shape)
    tape.values, tape.error = tape.loss(tape.output, tape.labels)
    return tape


def deltas(net, rule, tape):
    """{path: delta} and {path: gradient}"""
    walk = tape.walk(records=True)
    rule.assign(net, walk)
    return ({layer.path: walk.deltas[layer][0] for layer in weighted(net)},
            {p.path: p.grad.copy() for p in net.arena.params})


def error(found, wanted):
    """The largest of the relative errors."""
    return max(abs(found[path] - x).max() / abs(x).max() for path, x in wanted.items())


def aligned(net, burst):
    """Feedback alignment through the same Y."""
    Y = {layer: layer.feedback.effective(layer).copy() for layer in burst.layers}
    rule = FeedbackAlignment().attach(net)
    for layer, B in Y.items():
        layer.feedback.matrix.value[...] = B
    return rule


def by_burst_and_by_alignment(build, teacher, **options):
    net = build(1)
    burst = Burst(**options).attach(net, 2)
    tape = passed(net, burst, teacher)
    found = deltas(net, burst, tape)
    return found, deltas(net, aligned(net, burst), tape)


# -- laws -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{}, {"y": "symmetric"}, {"y": "tied"}, {"learns": "kp"}, {"top": "bounded"}],
                         ids=str)
@pytest.mark.parametrize("name", NETS)
def test_without_a_teacher_every_delta_and_gradient_is_zero_to_the_bit(name, options):
    net = NETS[name](1)
    rule = Burst(**options).attach(net, 2)
    found, gradients = deltas(net, rule, passed(net, rule, 0))
    assert not any(x.any() for x in (*found.values(), *gradients.values()))
    assert not any(state.grad.any() for state in rule.states())


@pytest.mark.parametrize("p_b", [0.5, 0.2])
@pytest.mark.parametrize("name", NETS)
def test_the_output_is_that_of_backprop_and_its_bursts_move_linearly_with_the_error(name, p_b):
    net = NETS[name](1)
    rule = Burst(p_b=p_b).attach(net, 2)
    tape = passed(net, rule, 0.3)
    top = weighted(net)[-1].path
    found = deltas(net, rule, tape)[0][top]
    walk = tape.walk(exact=True, records=True)
    net.backward(walk.error, walk)
    assert np.array_equal(found, walk.deltas[weighted(net)[-1]][0])
    e, t = tape.output, tape.labels
    p = p_b * (1 + (t - e) * (1 - e))
    assert abs(found + (p * e - p_b * e) / (p_b * N)).max() <= 1e-12 * abs(found).max()


CASES = [(sigmoid_net, {}), (sigmoid_net, {"p_b": 0.2}), (sigmoid_net, {"y": "tied", "scale": 1.0, "p_b": 0.7}),
         (conv_net, {}), (conv_net, {"y": "tied", "scale": 1.0}), (norm_net, {})]


@pytest.mark.parametrize("net, options", CASES, ids=[f"{net.__name__} {options}" for net, options in CASES])
def test_it_is_feedback_alignment_with_an_error_of_second_order_in_the_teacher(net, options):
    off = []
    for teacher in (1e-1, 1e-2, 1e-3):
        found, wanted = by_burst_and_by_alignment(net, teacher, **options)
        off.append(error(found[0], wanted[0]))
    assert off[0] < 1e-2
    assert off[0] / off[1] == pytest.approx(100, abs=5) and off[1] / off[2] == pytest.approx(100, abs=5)


def test_so_it_is_with_relus_whose_slope_is_divided_by_their_rate():
    """Where a rate is near 0 its slope over it is large, and the law begins at smaller teachers."""
    off = []
    for teacher in (1e-4, 1e-5):
        found, wanted = by_burst_and_by_alignment(relu_net, teacher)
        off.append(error(found[0], wanted[0]))
    assert off[0] < 1e-2 and off[0] / off[1] == pytest.approx(100, abs=5)


def test_a_weaker_teaching_strength_is_a_smaller_teacher():
    off = []
    for teaching in (0.1, 0.01, 0.001):
        found, wanted = by_burst_and_by_alignment(sigmoid_net, 1, teaching=teaching)
        off.append(error(found[0], wanted[0]))
    assert off[0] / off[1] == pytest.approx(100, abs=5) and off[1] / off[2] == pytest.approx(100, abs=5)


def test_with_y_of_w_it_is_backprop_to_second_order():
    for net in (sigmoid_net(1), conv_net(1)):
        rule = Burst(y="tied", scale=1).attach(net)
        tape = passed(net, rule, 1e-3)
        found = deltas(net, rule, tape)[1]
        walk = tape.walk(exact=True)
        net.backward(walk.error, walk)
        wanted = {p.path: p.grad.copy() for p in net.arena.params}
        assert error(found, wanted) < 1e-6


def test_a_sigmoid_centred_by_its_logit_would_be_right_to_first_order_only():
    """Unless p_b is 1/2 it has a slope's slope where it stands: the reason for 2 p_b sigmoid(2 v / p_b)."""
    p_b = 0.2
    def naive(v):
        return 1 / (1 + np.exp(-(v / (p_b * (1 - p_b)) + np.log(p_b / (1 - p_b)))))
    off = []
    for teacher in (1e-1, 1e-2, 1e-3):
        net = sigmoid_net(1)
        rule = Burst(p_b=p_b).attach(net, 2)
        rule.probability = naive
        tape = passed(net, rule, teacher)
        found = deltas(net, rule, tape)[0]
        off.append(error(found, deltas(net, aligned(net, rule), tape)[0]))
    assert off[0] / off[1] == pytest.approx(10, rel=0.1) and off[1] / off[2] == pytest.approx(10, rel=0.1)


def test_the_probability_is_a_sigmoid_of_slope_one_about_p_b():
    rule, v = Burst(p_b=0.2), np.linspace(-3, 3, 41)
    assert abs(rule.probability(v) - 0.4 / (1 + np.exp(-2 * v / 0.2))).max() < 1e-15
    assert rule.probability(np.zeros(1)) == 0.2
    h = 1e-6
    assert (rule.probability(h) - rule.probability(-h)) / (2 * h) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("p_b", [0.5, 0.2])
@pytest.mark.parametrize("name", ["sigmoid", "relu"])
def test_a_hidden_delta_never_exceeds_the_units_rate_of_events(name, p_b):
    net = NETS[name](1)
    rule = Burst(p_b=p_b, scale=50).attach(net, 2)
    tape = passed(net, rule, 1)
    found, reached = deltas(net, rule, tape)[0], 0
    for i, act in ((1, "act1"), (2, "act2")):
        e = tape.seen(net.children()[act])[0]
        assert (abs(N * found[f"fc{i}"]) <= e * (1 + 1e-15)).all()
        reached = max(reached, (abs(N * found[f"fc{i}"])[e > 0] / e[e > 0]).max())
    assert reached > 0.9


@pytest.mark.parametrize("patterns", [5, 3])
def test_q_learns_to_cancel_y_without_a_teacher_where_there_were_events(patterns):
    """8 units, 5 outputs: with rates of full rank Q -> p_b Y, with fewer patterns on their span."""
    net = ready(Sequential(fc1=Dense(8), act1=Sigmoid(), fc2=Dense(5), act2=Sigmoid()), (5,))
    h = rows(net.layers[1].f(net.layers[0].forward(np.eye(5)[None]))).T
    net.layers[2].weight.value[...] = (6 * np.eye(5) - 3) @ np.linalg.pinv(h)     # each pattern drives an output
    rule = Burst(learns="q", q="random", quiet=400, lr_q=1.0, p_b=0.3).attach(net, 2)
    rule.follow(SGD(net.arena, 0.1))
    class Same:
        step = 0
        def __next__(self):
            return Tape(net, SquaredError()).begin(np.eye(5)[:patterns], np.zeros(patterns, int))
    Y, Q = (net.layers[2].feedback.arrays()[name].value for name in "YQ")
    fixed, weights = Y.copy(), net.arena.value.copy()
    assert abs(Q - 0.3 * Y).max() > 0.1
    rule.phase(net, Same())
    e = rows(net.forward(net.columns(np.eye(5))))[:patterns]
    assert abs(e @ (Q - 0.3 * Y)).max() < 1e-14
    assert (abs(Q - 0.3 * Y).max() < 1e-14) == (patterns == 5)
    assert np.array_equal(Y, fixed) and np.array_equal(net.arena.value, weights)


def test_w_and_y_come_together_under_kp_and_q_goes_with_y():
    how = {"lr": 0.05, "momentum": 0.9, "decay": 0.02}
    trial = Trial(sigmoid_net, lambda: Burst(learns="kp"), loss=SquaredError(),
                  optimise=lambda arena: SGD(arena, **how))
    def differences():
        return {layer.path: layer.weight.value - layer.feedback.Y.value for layer in trial.rule.layers}
    before = differences()
    for step in range(50):
        trial.step(step)
    c = common_factor(50, lambda *_: 0.05, lambda *_: 0.02, 0.9)
    assert 0.5 < c < 0.95
    for path, D in differences().items():
        assert abs(D - c * before[path]).max() < 1e-12 * abs(before[path]).max()
    for layer in trial.rule.layers:
        assert np.array_equal(layer.feedback.Q.value, layer.feedback.Y.value / 2) and layer.weight.grad.any()


# -- a step against the formulas --------------------------------------------------------------------------------------

def by_rows(net, rule, x, t, p_b):
    """The published update p_b d, by rows and with sigmoids: [dW, ...], [outer(u, e) / N, ...] from the lowest up."""
    layers, e, s = weighted(net), [x], lambda a: 1 / (1 + np.exp(-a))
    for layer in layers:
        e.append(s(e[-1] @ layer.weight.value.T + layer.bias.value[:, 0]))
    p, found, q = p_b * (1 + (t - e[-1]) * (1 - e[-1])), [], []
    for i in range(len(layers) - 1, -1, -1):
        b = p * e[i + 1]
        found.append((b - p_b * e[i + 1]).T @ e[i] / -len(x))
        if i:
            Y, Q = (layers[i].feedback.arrays()[name].value for name in "YQ")
            u = b @ Y - e[i + 1] @ Q
            q.append(e[i + 1].T @ u / len(x))
            p = 2 * p_b * s(2 / p_b * u * (1 - e[i]))
    return found[::-1], q[::-1]


@pytest.mark.parametrize("options", [{}, {"q": "random"}, {"learns": "q", "q": "random"}, {"p_b": 0.3, "learns": "q"}],
                         ids=str)
def test_a_step_is_the_papers_by_rows(options):
    net = sigmoid_net(1)
    rule, p_b = Burst(**options).attach(net, 2), options.get("p_b", 0.5)
    tape = passed(net, rule, 0.4)
    rule.assign(net, tape)
    updates, cancelling = by_rows(net, rule, rows(tape.input), rows(tape.labels), p_b)
    for layer, wanted in zip(weighted(net), updates, strict=True):
        assert abs(p_b * layer.weight.grad - wanted).max() < 1e-14
    for layer, wanted in zip(rule.layers, cancelling, strict=True):
        if rule.learned:
            assert abs(layer.feedback.Q.grad + wanted).max() < 1e-14 and wanted.any()


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), SigmoidCrossEntropy()], ids=["softmax", "sigmoid"])
def test_without_a_nonlinearity_on_top_the_rates_are_the_probabilities_of_the_loss(loss):
    net = sigmoid_net(1, ReLU, None)
    rule, bounded = (Burst(top=top, p_b=0.3, teaching=0.5).attach(net, 2) for top in ("linear", "bounded"))
    labels = np.arange(N) % 4
    tape = Tape(net, loss).begin(np.random.default_rng(0).normal(size=(N, 6)), labels)
    rule.attach(net, 2)
    tape.run(rule)
    e, t = loss.probability(tape.output), one_hot(tape.labels, 4, np.float64)
    found = deltas(net, rule, tape)[0]
    assert abs(found["fc3"] - (e - t) / N).max() < 1e-16
    b, (Y, Q) = 0.3 * (e + 0.5 * (t - e)), rule.layers[-1].feedback.both(rule.layers[-1])
    u, h = Y.T @ b - Q.T @ e, tape.seen(net.children()["act2"])[0]
    k = (h > 0) / (h + 1e-30)
    p = 0.6 / (1 + np.exp(-2 * u * k / 0.3))
    assert abs(found["fc2"] - (0.3 - p) * h / (0.3 * 0.5 * N)).max() < 1e-14
    bounded.attach(net, 2)
    p = 0.6 / (1 + np.exp(-2 * 0.5 * (t - e) / e))
    found = deltas(net, bounded, tape)[0]
    assert abs(found["fc3"] - (0.3 - p) * e / (0.3 * 0.5 * N)).max() < 1e-14


def test_a_bounded_top_under_a_sigmoid_knows_its_slope():
    net = sigmoid_net(1)
    rule = Burst(top="bounded").attach(net, 2)
    tape = passed(net, rule, 1e-3)
    e = tape.output
    wanted = tape.error * e * (1 - e)
    assert abs(deltas(net, rule, tape)[0]["fc3"] - wanted).max() < 1e-6 * abs(wanted).max()


# -- quiet batches ----------------------------------------------------------------------------------------------------

def test_with_quiet_batches_q_learns_on_them_alone():
    trial = Trial(sigmoid_net, lambda: Burst(learns="q", quiet=2, q="random", lr_q=0.1), loss=SquaredError())
    start = {path: array.copy() for path, array in trial.rule.arrays().items()}
    trial.run()
    trial.assign()
    trial.optimiser.step()
    trial.rule.learn(trial.net, trial.tape)
    assert not differ(trial.rule.arrays(), start)
    batches = Batches(trial, 1)
    trial.rule.phase(trial.net, batches)
    moved = {path for path, array in trial.rule.arrays().items() if differ({path: array}, {path: start[path]})}
    assert moved == {"fc2.Q", "fc3.Q"} and batches.drawn == 2


def test_a_q_that_cancels_stays_where_it_is_without_a_teacher_and_not_with_one():
    for quiet, moves in ((3, False), (0, True)):
        trial = Trial(sigmoid_net, lambda quiet=quiet: Burst(learns="q", quiet=quiet, lr_q=0.1), loss=SquaredError())
        start = {path: array.copy() for path, array in trial.rule.arrays().items()}
        trial.step(0)
        assert bool(differ(trial.rule.arrays(), start)) is moves


def test_running_statistics_do_not_move_in_quiet_batches():
    trial = Trial(norm_net, lambda: Burst(learns="q", quiet=2), loss=SquaredError())
    before = {name: array.copy() for name, array in trial.forward_state().items()}
    trial.rule.phase(trial.net, Batches(trial, 1))
    assert not differ(trial.forward_state(), before)


def test_q_has_plain_sgd_of_its_own_and_kp_the_twin_of_ws():
    q, kp, own = (Trial(sigmoid_net, lambda o=o: Burst(**o), loss=SquaredError()).rule for o in (
        {"learns": "q", "lr_q": 0.25}, {"learns": "kp"}, {"learns": "q", "optimiser": lambda arena: SGD(arena, 3.0)}))
    assert q.optimiser.now == {"lr": 0.25, "momentum": 0, "decay": 0} and not q.optimiser.slots
    assert kp.optimiser.now["momentum"] == 0.9 and kp.optimiser.slots and own.optimiser.now["lr"] == 3


# -- feedback, settings, refusals --------------------------------------------------------------------------------------

def test_y_starts_as_told_and_q_with_it():
    def both(**options):
        net = mlp(20, (30,), "sigmoid").build(10, 1, np.float64)
        layer = weighted(net)[1]
        return layer, *Burst(p_b=0.25, **options).attach(net, 2).layers[0].feedback.both(layer)
    layer, Y, Q = both(scale=0.3)
    assert Y.std() == pytest.approx(0.3, rel=0.1) and np.array_equal(Q, 0.25 * Y)
    layer, Y, Q = both(y="symmetric", scale=2)
    assert np.array_equal(Y, 2 * layer.weight.value) and np.array_equal(Q, Y / 4)
    layer.weight.value += 1
    assert np.array_equal(layer.feedback.effective(layer), Y)
    layer, Y, Q = both(y="tied", scale=2)
    layer.weight.value += 1
    assert np.array_equal(layer.feedback.effective(layer), 2 * layer.weight.value) and not layer.feedback.fixed()
    layer, Y, Q = both(q="random", scale=2)
    assert abs(np.corrcoef(Y.ravel(), Q.ravel())[0, 1]) < 0.2 and Q.std() == pytest.approx(0.5, rel=0.1)


def test_exact_feedback_is_w_with_a_q_that_cancels_it():
    net = sigmoid_net(1)
    rule = Burst(p_b=0.3, q="random").attach(net, 2)
    for layer in rule.layers:
        assert layer.feedback.become_exact(layer)
        assert np.array_equal(layer.feedback.Y.value, layer.weight.value)
        assert np.array_equal(layer.feedback.Q.value, 0.3 * layer.weight.value)


def test_what_is_learned_and_claimed_depends_on_the_options():
    assert not Burst().learned and Burst(learns="q").learned and Burst(learns="kp").learned
    assert NO_TRANSPORT in Burst(y="symmetric").claims and NO_TRANSPORT not in Burst(y="tied").claims
    assert EXACT_TOP in Burst().claims and EXACT_TOP not in Burst(top="bounded").claims


@pytest.mark.parametrize("options, says", [
    ({"y": "none"}, "Burst: y 'none'; expected random or symmetric or tied"),
    ({"q": "zero"}, "q 'zero'; expected cancel or random"), ({"top": "soft"}, "top 'soft'; expected linear or bounded"),
    ({"learns": "y"}, "learns 'y'; expected nothing or q or kp"), ({"p_b": 1}, "p_b 1, .*expected 0 < p_b < 1"),
    ({"teaching": 0}, "teaching above 0"), ({"y": "tied", "q": "random"}, "a tied Y"), ({"quiet": 1}, "quiet batches"),
    ({"quiet": 0.5}, "quiet 0.5"), ({"learns": "q", "lr_q": -1}, "lr_q -1"), ({"scale": "big"}, "scale 'big'")])
def test_a_setting_that_does_not_exist_is_refused(options, says):
    with pytest.raises(SettingError, match=says):
        Burst(**options)


def test_units_without_a_rate_and_nets_that_divide_are_refused():
    for net, says in ((sigmoid_net(0, Tanh), "act1: a Tanh; expected units whose activity is a rate"),
                      (sigmoid_net(0, LeakyReLU), "act1: a LeakyReLU"), (sigmoid_net(0, out=Tanh), "act3: a Tanh"),
                      (ready(Sequential(fc1=Dense(4), fc2=Dense(3), act=Sigmoid()), (5,)), "fc1: no nonlinearity"),
                      (residual_net(0), "Residual"),
                      (ready(Sequential(fc1=Dense(4), act=Sigmoid(), n=BatchNorm(), fc2=Dense(3)), (5,)), "BatchNorm")):
        with pytest.raises(BuildError, match=says):
            Burst().attach(net)


def test_a_linear_output_under_squared_error_has_no_rate_and_is_refused():
    net = sigmoid_net(0, out=None)
    rule = Burst().attach(net)
    with pytest.raises(BuildError, match="fc3: a linear output under SquaredError: no rate; .*end the net in"):
        rule.assign(net, passed(net, rule, 1))


def test_its_home_is_a_net_of_sigmoids_under_squared_error():
    settings = Settings.for_rule("burst", net_options={"hidden": [8]})
    net = settings.build((4, 4, 1), 3)
    assert [type(layer).__name__ for layer in net.layers] == ["Flatten", "Dense", "Sigmoid", "Dense", "Sigmoid"]
    assert settings.loss == "squared" and Burst().attach(net)
    with pytest.raises(SettingError, match="output 'soft'; expected one of relu"):
        mlp(3, output="soft")


# -- how a batch is cut, precision -------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sigmoid", "conv"])
def test_how_the_batch_is_cut_changes_no_gradient_but_by_rounding(name, dtype):
    found = []
    for column_bytes in 0, 2**21:
        def build(seed, bytes=column_bytes):
            net = NETS[name](seed)
            net.build(outside(net.in_shape), seed, dtype)
            net.column_bytes = bytes
            return net
        trial = Trial(build, lambda: Burst(learns="q"), loss=SquaredError())
        trial.run()
        found.append(trial.assign() | {p.path: p.grad.copy() for p in trial.rule.params().values()})
    assert all(g.dtype == dtype and g.any() for g in found[0].values())
    assert not differ(*found, 10000 * np.finfo(dtype).eps)


def test_dropout_masks_both_rates():
    net = ready(Sequential(fc1=Dense(20), act=Sigmoid(), drop=Dropout(0.5), fc2=Dense(4), act2=Sigmoid()), (6,))
    rule = Burst(y="tied", scale=1).attach(net)
    tape = passed(net, rule, 1e-4)
    found = deltas(net, rule, tape)[1]
    walk = tape.walk(exact=True)
    net.backward(walk.error, walk)
    assert error(found, {p.path: p.grad for p in net.arena.params}) < 1e-7


@pytest.mark.parametrize("name", ["burst", "burst:learns=q,q=random", "burst:learns=q,quiet=1,lr_q=0.1",
                                  "burst:learns=kp", "burst:y=tied,scale=1",
                                  "burst:y=symmetric,top=bounded,p_b=0.2,teaching=0.3"])
def test_the_contract_holds(name, contract):
    report = contract(lambda: registry.make(name), **TRIAL)
    per_net, transport = 15, NO_TRANSPORT in registry.make(name).claims
    assert report.count == 2 * (4 * (per_net - 1 + transport) + 3)


def test_nets_of_the_default_contract_are_refused_in_words():
    with pytest.raises(BuildError, match="act1: a Tanh"):
        Burst().attach(dense_net(0))


@pytest.mark.parametrize("options", [{"learns": "q"}, {"learns": "q", "quiet": 1}, {"learns": "kp"},
                                     {"y": "tied", "scale": 1}, {"top": "bounded"}], ids=str)
@pytest.mark.parametrize("name", ["conv", "norm"])
def test_a_step_on_a_device_ends_where_the_hosts_does(name, options, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy())
    found = []
    for where in "cpu", "gpu":
        def build(seed, where=where):
            net = NETS[name](seed)
            return net.build(outside(net.in_shape), seed, np.float64, where)
        trial = Trial(build, lambda: Burst(**options), loss=SquaredError())
        crossings.clear()
        trial.step(0)
        found.append({path: x.get() if where == "gpu" else x for path, x in trial.state().items()})
    assert not differ(*found, 1e-11) and crossings["float"] == 1


# -- training ---------------------------------------------------------------------------------------------------------

def doubled(seed):
    """20-64-64-10 of sigmoids, Xavier's weights times 2."""
    net = mlp(10, (64, 64), "sigmoid", output="sigmoid").build(20, seed, np.float64)
    for layer in weighted(net):
        layer.weight.value *= 2
    return net


def prototypes_under(name, seed=0, lr=1e-2, epochs=60):
    return trained(registry.make(name), doubled(seed), *prototypes(), lr=lr, epochs=epochs, loss=SquaredError(),
                   seed=seed)


def test_in_a_few_epochs_it_teaches_its_hidden_layers():
    assert prototypes_under("burst:scale=0.3", epochs=12) > prototypes_under("frozen", epochs=12) + 0.05


@pytest.mark.long
@pytest.mark.parametrize("name, wanted", [("burst:scale=0.3", 0.842), ("burst:y=tied,scale=1", 0.941)])
def test_bands_on_the_prototypes(name, wanted):
    found = [prototypes_under(name, seed) for seed in range(3)]
    print(found)
    assert np.mean(found) == pytest.approx(wanted, abs=0.05)

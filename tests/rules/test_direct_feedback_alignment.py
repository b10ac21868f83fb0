import numpy as np
import pytest
from hypothesis import given, settings

from nplearn.errors import BuildError, SettingError
from nplearn.feedback import Broadcast, Cut, Through, Transport
from nplearn.layers import (
    ZERO,
    AvgPool2d,
    Conv2d,
    Dense,
    Flatten,
    LocallyConnected2d,
    Port,
    Residual,
    Sequential,
    Tanh,
    residuals,
    weighted,
)
from nplearn.optim import SGD
from nplearn.rules import NO_TRANSPORT, Backprop, DirectFeedbackAlignment, FeedbackAlignment
from nplearn.rules import direct_feedback_alignment as page
from nplearn.testing.strategies import seeds
from nplearn.testing.trial import NETS, Trial, dense_net, differ, map_net, ready, residual_net

FORMS = ["author", "biotorch"]


def dfa(**options):
    return lambda: DirectFeedbackAlignment(**options)


def one_hidden(seed):
    return ready(Sequential(fc1=Dense(7), act=Tanh(), fc2=Dense(4)), (6,), seed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_with_one_hidden_layer_it_is_feedback_alignment_bitwise(form, seed):
    one, two = Trial(one_hidden, dfa(form=form), seed), Trial(one_hidden, FeedbackAlignment, seed)
    two.rule.arrays()["fc2.matrix"][...] = one.rule.arrays()["fc2.matrix"]
    for step in range(20):
        one.step(step)
        two.step(step)
    assert not differ(one.state(), two.state())


@pytest.mark.parametrize("net", NETS)
def test_a_step_succeeds_where_every_adjoint_raises(net):
    trial = Trial(NETS[net], dfa())
    for layer in weighted(trial.net):
        layer.adjoint = None
    trial.step(0)
    assert all(layer.weight.grad.any() for layer in weighted(trial.net))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("net", ["dense", "map"])
def test_gradients_depend_on_no_weight_above_given_the_error(net, form):
    trial = Trial(NETS[net], dfa(form=form))
    trial.run()
    error, before = trial.tape.error, trial.assign()
    layers = weighted(trial.net)
    for above in (2, 1):                                # replace W of all layers from there up
        for layer in layers[above:]:
            layer.weight.value[...] = np.random.default_rng(above).normal(size=layer.weight.value.shape)
        other = trial.tape.again()
        other.run(trial.net)
        other.error = error
        after = trial.assign(other)
        below = [p.path for layer in layers[:above] for p in layer.params().values()]
        assert not differ(after, {path: before[path] for path in below})
    assert differ(after, before)                        # those above did change


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("net", ["dense", "map"])
def test_doubling_one_matrix_doubles_the_gradient_one_layer_down_and_no_other(net, form):
    trial = Trial(NETS[net], dfa(form=form))
    trial.run()
    before = trial.assign()
    layers = weighted(trial.net)
    for below, layer in zip(layers, trial.rule.layers, strict=False):
        layer.feedback.matrix[...] *= 2
        double = {p.path for p in below.params().values()}
        assert not differ(trial.assign(), {path: g * (1 + (path in double)) for path, g in before.items()})
        layer.feedback.matrix[...] /= 2
    assert len(trial.rule.layers) == len(layers) - 1


def tanh_chain(bias):
    def build(seed):
        named = {}
        for i in range(1, 4):
            named[f"fc{i}"], named[f"act{i}"] = Dense(10 - i, bias=bias, init=ZERO), Tanh()
        return ready(Sequential(**named, fc4=Dense(4, bias=bias, init=ZERO)), (5,), seed)
    return build


def moved(trial):
    return [bool(layer.weight.value.any()) for layer in weighted(trial.net)]


def test_from_zero_weights_after_step_t_exactly_the_lowest_t_layers_have_moved():
    trial = Trial(tanh_chain(bias=False), dfa())
    assert moved(trial) == [False] * 4
    for t in range(1, 5):
        trial.step(t)
        assert moved(trial) == [True] * t + [False] * (4 - t)


def test_from_zero_weights_and_biases_all_have_moved_after_two_steps():
    trial = Trial(tanh_chain(bias=True), dfa())
    trial.step(1)
    assert moved(trial) == [True, False, False, False]
    trial.step(2)
    assert moved(trial) == [True] * 4


def test_backprop_from_zero_weights_never_moves():
    trial = Trial(tanh_chain(bias=False), Backprop)
    for t in range(5):
        trial.step(t)
    assert moved(trial) == [False] * 4


# -- the author's form ------------------------------------------------------------------------------------------------

def test_in_the_authors_form_every_unit_of_a_map_has_a_row_of_its_own():
    trial = Trial(map_net, dfa())
    local = weighted(trial.net)[1]
    B = local.feedback.matrix
    size = int(np.prod(local.in_shape))
    assert B.shape == (3, size) and B.dtype == np.float64
    m = size ** -0.5
    assert 0.9 * m < abs(B).max() <= m and abs(B.std() / (m / 3 ** 0.5) - 1) < 0.15
    trial.run()
    x = trial.tape.seen(local)[0]
    g = local.feedback.carry(local, None, x, trial.tape)            # the delta is not even read
    slow = np.zeros(x.shape)
    T, H, C, W, nb = x.shape
    for t, h, c, w, n in np.ndindex(x.shape):
        slow[t, h, c, w, n] = sum(B[k, (h * C + c) * W + w] * trial.tape.error[t, k, n] for k in range(3))
    np.testing.assert_allclose(g, slow, rtol=0, atol=1e-15)


def test_scale_is_the_bound_of_the_uniform_draw():
    one, other = (Trial(dense_net, dfa(scale=s)).rule.arrays() for s in (None, 0.25))
    assert 0.2 < max(abs(B).max() for B in other.values()) <= 0.25
    np.testing.assert_allclose(other["fc2.matrix"], one["fc2.matrix"] * 0.25 * 3, rtol=1e-14)       # 1 / sqrt(9) before


@pytest.mark.parametrize("form", FORMS)
def test_feedback_and_what_it_carries_have_the_precision_of_the_net(form):
    trial = Trial(lambda seed: map_net(seed).build((6, 5, 2), seed, np.float32), dfa(form=form))
    trial.run()
    assert {B.dtype for B in trial.rule.arrays().values()} == {np.dtype(np.float32)}
    assert all(signal(trial, layer).dtype == np.float32 for layer in trial.rule.layers)


# -- BioTorch's form --------------------------------------------------------------------------------------------------

def conv_above(conv, size=(6, 5)):
    return lambda seed: ready(Sequential(first=Conv2d(2, 1), act=Tanh(), conv=conv(), act2=Tanh(), flatten=Flatten(),
                                         fc=Dense(4)), (*size, 3), seed)


@settings(max_examples=5, deadline=None)
@given(seeds())
def test_in_biotorchs_form_the_signal_is_constant_inside_a_map_and_the_sum_over_taps(seed):
    trial = Trial(conv_above(lambda: Conv2d(5, 3, padding=1)), dfa(form="biotorch"), seed % 1000)
    trial.run()
    conv, e = weighted(trial.net)[1], trial.tape.error
    g = conv.feedback.carry(conv, None, trial.tape.seen(conv)[0], trial.tape)
    B = conv.feedback.matrix
    assert B.shape == (4, 3, 3, 2)
    taps = np.einsum("kijc,tkn->tcn", B, e)[:, None, :, None]
    inside, scale = g[:, 1:-1, :, 1:-1], abs(taps).max()
    np.testing.assert_allclose(inside, np.broadcast_to(taps, inside.shape), rtol=0, atol=1e-12 * scale)
    assert abs(g[:, 0] - taps[:, 0]).max() > 1e-3 * scale           # the border differs


def test_in_biotorchs_form_a_stride_of_two_repeats_every_second_position():
    trial = Trial(conv_above(lambda: Conv2d(5, 3, stride=2, padding=1), (8, 8)), dfa(form="biotorch"))
    trial.run()
    conv = weighted(trial.net)[1]
    conv.feedback.matrix[...] = 1
    trial.tape.error = np.ones_like(trial.tape.error)
    g = conv.feedback.carry(conv, None, trial.tape.seen(conv)[0], trial.tape)
    axis = np.array([1, 2] * 3)                         # even positions meet one tap, odd ones two
    wanted = 4 * np.outer(axis, axis)
    assert np.array_equal(g[0, :6, 0, :6, 0], wanted)


def test_in_biotorchs_form_each_position_of_a_locally_connected_layer_has_its_kernel():
    trial = Trial(conv_above(lambda: LocallyConnected2d(5, 3)), dfa(form="biotorch"))
    local = weighted(trial.net)[1]
    assert local.feedback.matrix.shape == (6, 5, 4, 9 * 2)
    trial.step(0)


def test_groups_that_do_not_divide_the_outputs_are_refused_in_biotorchs_form_only():
    def build(seed):
        return conv_above(lambda: Conv2d(4, 3, groups=2))(seed)
    assert Trial(build, dfa(form="biotorch")).rule.arrays()["conv.matrix"].shape == (4, 3, 3, 1)
    def odd(seed):
        chain = Sequential(a=Conv2d(4, 1), b=Conv2d(4, 3, groups=2), flatten=Flatten(), fc=Dense(5))
        return ready(chain, (3, 3, 2), seed)
    with pytest.raises(BuildError, match=r'b: 5 outputs for 2 groups; .*form="author"'):
        Trial(odd, dfa(form="biotorch"))
    Trial(odd, dfa()).step(0)


# -- residual nets ----------------------------------------------------------------------------------------------------

def two_blocks(seed):
    def block():
        return Residual(conv1=Conv2d(4, 3), act=Tanh(), conv2=Conv2d(4, 3))
    return ready(Sequential(conv=Conv2d(4, 3), act=Tanh(), block1=block(), act1=Tanh(), block2=block(), act2=Tanh(),
                            flatten=Flatten(), fc=Dense(3)), (4, 5, 2), seed)


def errors_of_blocks(trial, walk):
    """[(error at the output, error at the input)] of each block, top first."""
    seen = []
    for block in residuals(trial.net):
        def spied(d, tape, backward=block.backward):
            seen.append((d, backward(d, tape)))
            return seen[-1][1]
        block.backward = spied
    trial.rule.assign(trial.net, walk)
    for block in residuals(trial.net):
        del block.backward
    return seen[::-1]


def signal(trial, layer):
    x = trial.tape.seen(layer)[0]
    return layer.feedback.carry(layer, None, x, trial.tape)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("residual", ["biotorch", "pure", "block"])
def test_the_three_meanings_in_residual_nets(residual, form):
    trial = Trial(two_blocks, dfa(residual=residual, form=form))
    trial.run()
    walk = trial.tape.walk(records=True)
    errors, blocks = errors_of_blocks(trial, walk), residuals(trial.net)
    for (above, below), block in zip(errors, blocks, strict=True):
        first, second = weighted(block)
        wanted = signal(trial, first) + above if residual == "biotorch" else signal(trial, first)
        np.testing.assert_allclose(below, wanted, rtol=0, atol=1e-15)
        assert abs(signal(trial, first)).max() > 1e-3
        assert type(block.shortcut.feedback) is (Through if residual == "biotorch" else Cut)
        assert type(second.feedback) is (Transport if residual == "block" else Broadcast)
        if residual == "block":                         # conv1's delta is backprop's of the block's error
            exact = trial.tape.walk(exact=True, records=True)
            block.branch.backward(above, exact)
            assert np.array_equal(exact.deltas[first][0], walk.deltas[first][0])


def test_who_lets_weights_carry_inside_a_block_does_not_claim_that_none_do():
    free = {residual: NO_TRANSPORT in DirectFeedbackAlignment(residual=residual).claims
            for residual in ("biotorch", "pure", "block")}
    assert free == {"biotorch": True, "pure": True, "block": False}


def test_biotorchs_meaning_is_a_running_sum_of_the_signals_above():
    trial = Trial(two_blocks, dfa())
    trial.run()
    layers = weighted(trial.net)
    tape, act = trial.tape, trial.net.layers
    top = signal(trial, layers[5]).reshape(tape.seen(act[5])[0].shape) * act[5].slope(tape.seen(act[5])[0])
    middle = (signal(trial, layers[3]) + top) * act[3].slope(tape.seen(act[3])[0])
    errors = errors_of_blocks(trial, tape.walk())
    np.testing.assert_allclose(errors[0][1], signal(trial, layers[1]) + middle, rtol=0, atol=1e-15)


@pytest.mark.parametrize("residual", ["pure", "block"])
def test_projected_shortcuts_carry_nothing_either_and_still_learn(residual):
    trial = Trial(residual_net, dfa(residual=residual))
    trial.run()
    projected = residuals(trial.net)[1]
    errors = errors_of_blocks(trial, trial.tape.walk())
    np.testing.assert_allclose(errors[1][1], signal(trial, weighted(projected.branch)[0]), rtol=0, atol=1e-15)
    assert type(weighted(projected.shortcut)[0].feedback) is Cut
    assert weighted(projected.shortcut)[0].weight.grad.any()


def test_another_rule_attached_afterwards_finds_open_shortcuts():
    trial = Trial(two_blocks, dfa(residual="pure"))
    trial.rule = Backprop().attach(trial.net)
    trial.run()
    assert not differ(trial.assign(), trial.backprop())
    assert all(type(block.shortcut) is Port for block in residuals(trial.net))


def test_a_block_that_the_rule_does_not_serve_stays_open():
    net = two_blocks(0)
    served = [layer for layer in weighted(net) if not layer.path.startswith("block1")]
    DirectFeedbackAlignment(residual="pure").attach(net, 0, served)
    assert [type(block.shortcut.feedback) for block in residuals(net)] == [Through, Cut]


# -- settings ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, found, known", [
    ({"form": "authors"}, "form 'authors'", "author or biotorch"),
    ({"residual": "none"}, "residual 'none'", "biotorch or pure or block")])
def test_a_setting_that_does_not_exist_is_refused_with_those_that_do(options, found, known):
    with pytest.raises(SettingError, match=f"DirectFeedbackAlignment: {found}; expected {known}"):
        DirectFeedbackAlignment(**options)


def test_a_matrix_that_does_not_fit_into_memory_is_refused_before_it_is_drawn(monkeypatch):
    monkeypatch.setattr(page, "memory_left", lambda: 200)
    with pytest.raises(BuildError, match=r"fc2: a feedback matrix of 4 x 9, 0.0 GiB to draw it; .*form='biotorch'"):
        Trial(dense_net, dfa())
    Trial(dense_net, dfa(form="biotorch"))
    monkeypatch.setattr(page, "memory_left", lambda: 4 * 9 * 24)
    Trial(dense_net, dfa())


def test_memory_left_is_a_number_of_bytes_or_no_limit(monkeypatch):
    assert page.memory_left() > 2**24
    monkeypatch.setattr("builtins.open", lambda *a, **k: (_ for _ in ()).throw(OSError()))
    assert page.memory_left() == float("inf")


def test_a_net_that_puts_out_a_map_is_refused():
    net = Sequential(conv=Conv2d(2, 3), conv2=Conv2d(3, 3)).build((4, 5, 1))
    with pytest.raises(BuildError, match=r"a net whose output is \(4, 5, 3\), 60 numbers; expected one axis"):
        DirectFeedbackAlignment().attach(net)


def test_it_keeps_one_matrix_for_each_layer_that_sends_and_no_optimiser_moves_it():
    trial = Trial(dense_net, dfa(), optimise=lambda arena: SGD(arena, 0.1, momentum=0.9, decay=0.1))
    assert {path: B.shape for path, B in trial.rule.arrays().items()} == {"fc2.matrix": (4, 9), "fc3.matrix": (4, 7)}
    assert trial.rule.state is None and trial.rule.memory() == (4 * 9 + 4 * 7) * 8


# -- a convolution used on maps of two sizes --------------------------------------------------------------------------

def two_sizes(tied):
    def build(seed):
        one = Conv2d(3, 3)
        other = one if tied else Conv2d(3, 3)
        return ready(Sequential(first=Conv2d(3, 3), act1=Tanh(), one=one, act2=Tanh(), pool=AvgPool2d(2), other=other,
                                act3=Tanh(), flatten=Flatten(), fc=Dense(4)), (6, 4, 2), seed)
    return build


def test_in_biotorchs_form_a_convolution_on_two_sizes_gets_the_sum_of_two_that_share_weights_and_feedback():
    tied, apart = (Trial(two_sizes(tied), dfa(form="biotorch")) for tied in (True, False))
    (first, twice, fc), (first_, one, other, fc_) = weighted(tied.net), weighted(apart.net)
    for here, there in ((first, first_), (twice, one), (twice, other), (fc, fc_)):
        for name, param in there.params().items():
            param.value[...] = here.params()[name].value
        if here.sends:
            there.feedback.matrix[...] = here.feedback.matrix
    for trial in tied, apart:
        trial.run()
    found, wanted = tied.assign(), apart.assign()
    for name in ("weight", "bias"):
        parts = wanted.pop(f"one.{name}"), wanted.pop(f"other.{name}")
        np.testing.assert_allclose(found.pop(f"one.{name}"), sum(parts), rtol=0, atol=1e-14 * abs(parts[0]).max())
        assert all(part.any() for part in parts)
    assert not differ(found, wanted)                    # those below and above, to the bit


def test_in_the_authors_form_a_layer_on_two_sizes_is_refused_at_attach():
    net = two_sizes(True)(0)
    with pytest.raises(BuildError, match=r"one: inputs of \(6, 4, 3\) and, at another place, \(3, 2, 3\); expected one "
                                         r"shape.*form=\"biotorch\""):
        DirectFeedbackAlignment().attach(net, 0)
    DirectFeedbackAlignment(form="biotorch").attach(net, 0)
    net.build((4, 4, 2))                                # another build forgets the places of the last
    assert net.layers[2].other_shapes == ((2, 3, 2),)

import numpy as np
import pytest

from nplearn.columns import columns, outside, rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import (
    ON_OFF,
    ON_OFF_FIRST,
    XAVIER,
    Componentwise,
    Conv2d,
    Dense,
    Flatten,
    Gate,
    LocallyConnected2d,
    Sequential,
    Stacked,
    weighted,
)
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.nets import make, vector
from nplearn.optim import SGD, Adam
from nplearn.rules import Backprop
from nplearn.tape import Tape
from nplearn.testing.strategies import noise
from nplearn.testing.trial import Trial
from tests.helpers import assert_backprop_is_the_slope_of_the_loss

K = 3


def map_net(seed=0):
    """A convolution of plain maps, one of vector units, and a dense layer of one unit."""
    return Sequential(conv=Conv2d(K * 4, 3, init=ON_OFF_FIRST), stacked=Stacked(K), gate1=Gate(K),
                      conv2=Componentwise(Conv2d(6, 3, stride=2, init=ON_OFF), K, bias=False), gate2=Gate(K),
                      flatten=Flatten(), fc=Componentwise(Dense(1, init=ON_OFF), K)).build((6, 5, 2), seed, np.float64)


# -- contracts --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, shapes, least", [
    (lambda: Componentwise(Dense(4), K), [(3,), (12,), (15,)], 600),
    (lambda: Componentwise(Dense(5, init=ON_OFF), K, bias=False), [(6,), (12,)], 600),
    (lambda: Componentwise(Conv2d(4, (2, 3), stride=(2, 1), groups=2), K, bias=False), [(9, 4, 2), (12, 5, 4)], 600),
    (lambda: Componentwise(LocallyConnected2d(2, 2), K, bias=False), [(6, 3, 2)], 600),
    (lambda: Gate(K), [(3,), (12,), (15,), (6, 4, 2), (3, 2, 5)], 200),
    (lambda: Stacked(K), [(4, 5, 3), (2, 3, 6)], 200)],
    ids=["dense", "on and off", "convolution", "locally connected", "gate", "stacked"])
def test_they_keep_the_layer_contract(contract, make, shapes, least):
    contract(make, in_shapes=shapes, least=least, examples=20)


def test_the_net_keeps_it_too(contract):
    contract(lambda: vector(K, (6, 4)), in_shapes=[(5,), (2, 3, 1)], examples=10, least=200)


# -- values -----------------------------------------------------------------------------------------------------------

def test_every_component_meets_the_same_weight_and_has_a_bias_of_its_own():
    net = Componentwise(Dense(4), K).build(K * 5, 1, np.float64)
    assert net.out_shape == (K * 4,) and net.weight.value.shape == (4, 5) and net.bias.value.shape == (K * 4, 1)
    net.bias.value[...] = noise(1, (K * 4, 1))
    x, b = noise(0, (6, K, 5)), net.bias.value.reshape(K, 4)
    y = rows(net.forward(columns(x.reshape(6, -1), 2)))
    assert abs(y.reshape(6, K, 4) - (x @ net.weight.value.T + b)).max() < 1e-14


def test_on_maps_components_lie_one_below_the_other():
    net = Componentwise(Conv2d(2, 3), K, bias=False).build((K * 4, 5, 3), 1, np.float64)
    one = Conv2d(2, 3, bias=False).build((4, 5, 3), 1, np.float64)
    one.weight.value[...] = net.weight.value
    x = noise(0, (6, K * 4, 5, 3))
    y = rows(net.forward(columns(x, 2)))
    for k in range(K):
        assert abs(y[:, 4 * k:4 * k + 4] - rows(one.forward(columns(x[:, 4 * k:4 * k + 4], 2)))).max() < 1e-14


@pytest.mark.parametrize("shape", [(K * 4,), (K * 3, 2, 4)])
def test_a_gate_passes_a_whole_vector_or_nothing(shape):
    net, x = Gate(K).build(shape, 1, np.float64), noise(0, (6, *shape))
    stored, y = (rows(a.reshape(*a.shape[:1], -1, a.shape[-1])) for a in (columns(x, 2), net.forward(columns(x, 2))))
    t = np.broadcast_to(net.t, (K, net.in_shape[0] // K, *net.in_shape[1:], 1)).reshape(K, -1)
    a, h = (each.reshape(6, K, -1) for each in (stored, y))
    on = (a * t).sum(axis=1) >= 0
    assert 0.2 < on.mean() < 0.8 and np.array_equal(h, a * on[:, None])


def test_a_gates_signs_are_drawn_in_pairs_from_the_nets_seed():
    one, two, other = (Gate(K).build(8 * K, seed, np.float64).t for seed in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert set(one.ravel()) == {-1, 1} and np.array_equal(one[:, ::2], -one[:, 1::2])


def test_each_gate_of_a_net_has_signs_of_its_own():
    net = vector(K, (8, 8)).build(7, 1, np.float64)
    assert not np.array_equal(*(layer.t for layer in net.layers if isinstance(layer, Gate)))


def test_a_vector_on_the_border_passes():
    net = Gate(K).build(2 * K, 1, np.float64)
    x = np.zeros((1, 2 * K))
    tape = Tape(net).begin(x)
    net.forward(tape.input, tape)
    assert (net.backward(columns(x + 1), tape) == 1).all()


def test_stacked_deals_channels_out_in_order():
    net = Stacked(K).build((2, 4, 2 * K), 0, np.float64)
    x = noise(0, (5, 2, 4, 2 * K))
    y = rows(net.forward(columns(x, 5)))
    assert y.shape == (5, 2 * K, 4, 2)
    for k in range(K):
        assert np.array_equal(y[:, 2 * k:2 * k + 2], x[..., 2 * k:2 * k + 2])


# -- the start --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("build", [lambda: vector(K, (8, 6)).build(7, 1, np.float64), map_net], ids=["dense", "maps"])
def test_at_the_start_off_units_are_minus_their_on_units_and_weights_above_the_first_are_at_0_or_more(build):
    net = build()
    tape = Tape(net).begin(noise(0, (9, *outside(net.in_shape))))
    net.forward(tape.input, tape)
    first, *above = weighted(net)
    assert (first.weight.value < 0).any() and not any((layer.weight.value < 0).any() for layer in above)
    for layer in above:
        h = tape.seen(layer)[0]
        if layer.spatial:
            on, off = h[:, :, ::2], h[:, :, 1::2]
        elif layer.inner.in_shape[0] in (8, 6):
            on, off = h[:, ::2], h[:, 1::2]
        else:
            continue                                    # behind a Flatten pairs are not side by side
        assert on.any() and abs(on + off).max() < 1e-14


def test_so_the_net_is_one_of_either_sign_and_half_the_width():
    net = vector(K, (8, 6)).build(7, 1, np.float64)
    f1, g1, f2, g2, f3 = net.layers[1:]
    def signed(W):
        return W[::2, ::2] - W[::2, 1::2]
    x = noise(0, (9, 7))
    h = f1.weight.value.reshape(K, 8, 7)[:, ::2] @ x.T
    for gate, above in ((g1, f2), (g2, f3)):
        h = h * ((gate.t[:, ::2] * h).sum(axis=0) >= 0)
        h = signed(above.weight.value) @ h
    assert abs(net.predict(x) - h[:, 0].T).max() < 1e-14


def test_the_laws_draw_with_the_deviations_they_say():
    rng = np.random.default_rng(0)
    for law, shape, fans in ((ON_OFF, (200, 300), (300, 200)), (ON_OFF_FIRST, (300, 200), (200, 300)),
                             (ON_OFF, (60, 3, 3, 50), (450, 540))):
        W = law.draw(rng, shape, *fans)
        assert W.shape == shape and W.std() == pytest.approx(law.std(*fans), rel=0.02)
    W = ON_OFF.draw(rng, (4, 6), 6, 4)
    assert (W >= 0).all() and np.array_equal(W[::2, ::2], W[1::2, 1::2]) and np.array_equal(W[::2, 1::2], W[1::2, ::2])
    assert not (W[::2, ::2] * W[::2, 1::2]).any() and ON_OFF.draw(rng, (1, 6), 6, 1).shape == (1, 6)
    assert ON_OFF.draw(rng, (5, 7), 7, 5).shape == (5, 7) == ON_OFF_FIRST.draw(rng, (5, 7), 7, 5).shape


# -- constraints, backprop --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("optimise", [lambda arena: SGD(arena, 1.0, momentum=0.9), lambda arena: Adam(arena, 0.1)],
                         ids=["SGD", "Adam"])
def test_weights_above_the_first_stay_at_0_or_more(optimise):
    trial = Trial(lambda seed: vector(K, (8, 6)).build(7, seed, np.float64), Backprop, optimise=optimise)
    for step in range(5):
        trial.step(step)
        first, *above = weighted(trial.net)
        assert all((layer.weight.value >= 0).all() for layer in above) and (above[0].weight.value == 0).any()
        assert (first.weight.value < 0).any() and (above[0].bias.value < 0).any()


def test_without_the_constraint_they_may_fall_below():
    net = Componentwise(Dense(4), K, nonnegative=False).build(K * 5)
    assert net.weight.project is None and Componentwise(Dense(4), K).build(K * 5).weight.project is not None


@pytest.mark.parametrize("build", [lambda: vector(K, (8, 6)).build(7, 1, np.float64), map_net], ids=["dense", "maps"])
def test_backprop_through_a_vector_net_is_the_derivative_of_its_loss(build):
    net, rng = build(), np.random.default_rng(0)
    net.arena.value += 0.1 * rng.random(net.arena.value.size)           # off the border of gates whose input is zero
    tape = Tape(net, SoftmaxCrossEntropy(), mode="probe")
    tape.begin(rng.normal(size=(6, *outside(net.in_shape))), rng.integers(K, size=6)).run()
    assert_backprop_is_the_slope_of_the_loss(net, tape, rng)


# -- refusals ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layer, shape, says", [
    (Componentwise(Dense(4), K), (7,), "input of shape \\(7,\\); expected 3 comp"), (Gate(K), (7,), "3 components"),
    (Stacked(K), (4, 5, 4), "channels are 3 equal parts"), (Stacked(K), (6,), "channels are 3 equal parts"),
    (Componentwise(Conv2d(2, 3), K), (6, 4, 2), "a bias on maps; .*bias=False")])
def test_what_does_not_fit_is_refused(layer, shape, says):
    with pytest.raises(BuildError, match=says):
        layer.build(shape)


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(SettingError, match="components 0"):
        Gate(0)
    for hidden in ((), (8, 7)):
        with pytest.raises(SettingError, match="vector: hidden .*even widths"):
            vector(K, hidden)


def test_the_net_is_made_by_name_and_its_size_is_the_papers():
    net = make("vector", (28, 28, 1), 10, hidden=[1024, 512]).build((28, 28, 1))
    assert net.out_shape == (10,)
    assert [layer.weight.value.size for layer in weighted(net)] == [784 * 10 * 1024, 1024 * 512, 512]
    assert [layer.bias.value.size for layer in weighted(net)] == [10 * 1024, 10 * 512, 10]
    assert weighted(net)[1].weight.value.std() == pytest.approx(ON_OFF.std(1024, 512), rel=0.02)
    assert Componentwise(Dense(4, init=XAVIER), K).init is XAVIER

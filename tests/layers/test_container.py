import numpy as np
import pytest
from hypothesis import given

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.feedback import Cut
from nplearn.layers import (
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    LocallyConnected2d,
    Port,
    ReLU,
    Residual,
    Sequential,
    Tanh,
    everything,
    residuals,
    weighted,
)
from nplearn.losses import SquaredError
from nplearn.tape import Tape
from nplearn.testing.strategies import chains, noise, ports, residual_blocks, seeds
from tests.helpers import close, on_source


def test_chains_blocks_and_ports_keep_the_layer_contract(contract):
    contract(chains(), least=1400)
    contract(residual_blocks(), least=1200)
    contract(ports(), least=850)


@pytest.mark.long
def test_chains_and_blocks_keep_the_layer_contract_on_many_cases(contract):
    contract(chains(), least=70_000, examples=1000)
    contract(residual_blocks(), least=60_000, examples=1000)


def test_layers_are_named_by_place_or_by_name_and_paths_nest():
    net = Sequential(Flatten(), Sequential(Dense(4), act=ReLU()), fc=Dense(3)).build((5,))
    assert [layer.path for layer in everything(net)] == ["", "0", "1", "1.0", "1.act", "fc"]
    assert [p.path for p in net.arena.params] == ["1.0.weight", "1.0.bias", "fc.weight", "fc.bias"]


@given(seeds())
def test_a_block_is_branch_plus_shortcut_and_so_is_its_error(seed):
    net = on_source(Residual(fc=Dense(7), act=Tanh()), (7,), seed)
    fc = net.layers[1].branch.layers[0]
    x = noise(seed, (3, 7))
    tape = Tape(net).begin(x)
    y = net.forward(tape.input, tape)
    branch = np.tanh(x @ fc.weight.value.T + fc.bias.value.T)
    close(rows(y), x + branch, scale=2)
    d = noise(seed + 1, y.shape)
    down = (rows(d) * (1 - branch ** 2)) @ fc.weight.value
    close(rows(net.backward(d, tape)), rows(d) + down, scale=2)


def test_a_net_prints_its_layers_with_shapes_and_parameters_once_it_is_built():
    net = Sequential(Conv2d(2, 1), block=Residual(act=ReLU()), flat=Flatten())
    assert str(net) == "\n".join(["Sequential", "0: Conv2d", "block: Residual", "  branch: Sequential", "    act: ReLU",
                                  "  shortcut: Port", "flat: Flatten"])
    said = str(net.build((4, 5, 3), 0)).splitlines()
    assert said[:2] == ["Sequential -> 40", "0: Conv2d -> 4x5x2, 8 parameters"]
    assert said[4:] == ["    act: ReLU -> 4x5x2", "  shortcut: Port -> 4x5x2", "flat: Flatten -> 40"]


def test_a_cut_port_leaves_the_branchs_error_alone_and_an_exact_walk_ignores_it():
    net = on_source(Residual(fc=Dense(7)), (7,))
    block = net.layers[1]
    tape = Tape(net).begin(noise(0, (3, 7)))
    y = net.forward(tape.input, tape)
    d = noise(1, y.shape)
    whole = net.backward(d, tape)
    block.shortcut.feedback = Cut()
    close(net.backward(d, tape), whole - d, scale=4)
    assert np.array_equal(net.backward(d, tape.walk(exact=True)), whole)


def test_only_what_has_a_param_below_sends():
    port, top = Port(), Port()
    net = Sequential(port, Conv2d(3, 3), Residual(Conv2d(3, 3), shortcut=top), Flatten(), Dense(4)).build((5, 4, 2))
    assert [layer.sends for layer in weighted(net)] == [False, True, True]
    assert (port.sends, top.sends) == (False, True)
    assert residuals(net) == [net.layers[2]]


def test_a_block_whose_sides_differ_is_refused_with_its_path():
    with pytest.raises(BuildError, match="give a shortcut that changes the shape") as caught:
        Sequential(block=Residual(Conv2d(4, 3))).build((5, 4, 3))
    assert caught.value.where == "block"


@pytest.mark.parametrize("shared, in_shape", [(Dense(5), (7,)), (Conv2d(4, 3), (6, 5, 3)), (Flatten(), (6, 5, 3)),
                                             (LocallyConnected2d(3, 3, stride=2), (6, 5, 3))])
def test_a_layer_at_two_places_of_different_shape_is_refused_at_build(shared, in_shape):
    with pytest.raises(BuildError, match="use a layer of its own") as caught:
        Sequential(first=shared, second=shared).build(in_shape)
    assert caught.value.where == "first" and "second" in str(caught.value)


def test_a_layer_at_two_places_has_one_weight_and_is_listed_once():
    shared = Dense(6)
    net = Sequential(one=shared, act=ReLU(), two=shared).build((6,), dtype=np.float64)
    assert weighted(net) == [shared] and len(net.arena.params) == 2 and shared.path == "one"
    x = noise(0, (4, 6))
    W, b = shared.weight.value, shared.bias.value.T
    close(rows(net.forward(columns(x))), np.maximum(x @ W.T + b, 0) @ W.T + b, scale=1)


def exact_and_numeric(net, in_shape):
    """(gradient, central differences) of a squared error along a random direction of all parameters."""
    rng = np.random.default_rng(3)
    net.build(in_shape, seed=1, dtype=np.float64)
    tape = Tape(net, SquaredError(), mode="probe")
    out = net.out_shape if len(net.out_shape) == 1 else (net.out_shape[0], net.out_shape[2], net.out_shape[1])
    tape.begin(rng.normal(size=(1, *in_shape)), rng.normal(size=(1, *out))).run()
    net.backward(tape.error, tape)
    gradient, value = net.arena.grad.copy(), net.arena.value
    start, u, h = value.copy(), rng.normal(size=value.shape), 1e-6
    found = []
    for step in (h, -h):
        value[...] = start + step * u
        found.append(tape.again().run())
    value[...] = start
    return gradient @ u, (found[0] - found[1]) / (2 * h)


def test_a_layer_used_in_both_arms_of_a_block_meets_its_own_inputs():
    shared = Dense(4)
    exact, numeric = exact_and_numeric(Sequential(Dense(4), Residual(Tanh(), shared, Tanh(), shortcut=shared)), (3,))
    assert abs(exact - numeric) < 1e-7 * abs(numeric)


def test_an_error_that_is_the_same_everywhere_is_still_an_error():
    net = Sequential(Conv2d(1, 3), Residual(Tanh(), Conv2d(1, 3)), GlobalAvgPool())     # one channel, one sample
    exact, numeric = exact_and_numeric(net, (4, 5, 2))
    assert abs(exact - numeric) < 1e-7 * abs(numeric)


def test_a_tangent_from_the_top_can_be_taken_twice_on_one_walk():
    net = Sequential(Dense(4), Residual(Tanh(), Dense(4))).build(3, dtype=np.float64)
    tape = Tape(net, mode="probe").begin(np.ones((2, 3)))
    net.forward(tape.input, tape)
    walk, v = tape.walk(up=True), np.ones((1, 3, 2))
    assert np.array_equal(net.tangent(v, walk), net.tangent(v, walk))

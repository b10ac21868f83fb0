import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.layers import Conv2d, ReLU, Sequential
from nplearn.tape import Tape
from nplearn.testing.strategies import conv2d, noise, seeds
from tests.helpers import agree, channels_first, close, on_source, tensor, walk
from tests.oracles.conv import conv2d as by_loops
from tests.oracles.conv import conv2d_scipy, pads_of
from tests.oracles.matrix import transposes_agree


def test_convolution_keeps_the_layer_contract(contract):
    contract(conv2d(), least=1500)


@pytest.mark.long
def test_convolution_keeps_the_layer_contract_on_many_cases(contract):
    contract(conv2d(), least=80_000, examples=1000)


@given(conv2d(), seeds())
def test_output_is_that_of_explicit_loops(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    x, W = noise(seed, (3, *case.in_shape)), noise(seed + 1, layer.weight.value.shape)
    wanted = by_loops(x, W, layer.stride, layer.padding, layer.dilation, layer.groups)
    close(rows(layer.apply(columns(x), W)), wanted, W.size, scale=np.abs(x).max() * np.abs(W).max())


@given(seeds(), st.sampled_from(["same", "valid", ((1, 0), (2, 1))]), st.integers(1, 3), st.integers(1, 3))
def test_output_is_that_of_scipy_at_stride_1(seed, padding, kh, kw):
    layer = Conv2d(2, (kh, kw), padding=padding).build((5, 4, 3), seed, np.float64)
    x = noise(seed, (2, 5, 4, 3))
    close(rows(layer.apply(columns(x), layer.weight.value)), conv2d_scipy(x, layer.weight.value, padding), 27, scale=4)


@settings(max_examples=10)
@given(conv2d(), seeds())
def test_adjoint_and_outer_are_the_transposes_of_the_matrix_that_apply_is(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    transposes_agree(layer, np.random.default_rng(seed), lambda found, wanted: close(found, wanted, scale=10))


def test_a_kernel_is_not_flipped():
    layer = Conv2d(1, (1, 2), padding="valid", bias=False).build((1, 3, 1), dtype=np.float64)
    layer.weight.value[...] = np.array([1.0, 10.0]).reshape(1, 1, 2, 1)
    assert rows(layer.forward(columns(np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)))).ravel().tolist() == [21, 32]


def test_groups_do_not_meet():
    layer = Conv2d(4, 3, groups=2).build((5, 4, 6), dtype=np.float64)
    x = noise(1, (2, 5, 4, 6))
    other = x.copy()
    other[..., :3] = noise(2, (2, 5, 4, 3))
    y, z = (rows(layer.forward(columns(v))) for v in (x, other))
    assert np.array_equal(y[..., 2:], z[..., 2:]) and not np.allclose(y[..., :2], z[..., :2])


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_same_gives_a_map_of_ceil_n_over_stride_and_puts_the_odd_pad_last(H, W, kernel, stride, dilation):
    layer = Conv2d(2, kernel, stride, "same", dilation).build((H, W, 1))
    assert layer.out_shape == (-(-H // stride), 2, -(-W // stride))
    assert layer.window.pads == pads_of("same", (H, W), layer.kernel, layer.stride, layer.dilation)
    assert all(0 <= after - before <= 1 for before, after in layer.window.pads)


@pytest.mark.parametrize("padding, pads", [("valid", ((0, 0), (0, 0))), (2, ((2, 2), (2, 2))),
                                           ((1, 2), ((1, 1), (2, 2))), (((0, 1), (2, 0)), ((0, 1), (2, 0)))])
def test_padding_is_read_in_all_its_forms(padding, pads):
    assert Conv2d(1, 3, padding=padding).build((6, 5, 2)).window.pads == pads


def test_weights_are_used_once_per_position_and_columns_take_memory_per_sample():
    layer = Conv2d(7, (3, 2), stride=(2, 1), padding="valid").build((9, 6, 4), dtype=np.float32)
    assert layer.uses == 4 * 5
    assert layer.column_bytes == 4 * 2 * 4 * 9 * 6
    assert layer.fans(7) == (24, 42)


@given(seeds())
def test_one_layer_serves_maps_of_two_sizes(seed):
    shared = Conv2d(3, 3, stride=2)
    net = Sequential(first=shared, act=ReLU(), second=shared).build((9, 6, 3), seed, np.float64)
    x = noise(seed, (2, 9, 6, 3))
    W, b = shared.weight.value, shared.bias.value.ravel()
    middle = np.maximum(by_loops(x, W, (2, 2), "same") + b, 0)
    close(rows(net.forward(columns(x))), by_loops(middle, W, (2, 2), "same") + b, W.size, scale=4)
    tape = Tape(net).begin(x)
    y = net.forward(tape.input, tape)
    d = noise(seed + 1, y.shape)
    net.backward(d, tape)
    found, W0, u, h = shared.weight.grad.copy(), W.copy(), noise(seed + 2, W.shape), 1e-6

    def value(step):
        W[...] = W0 + step * u
        return np.vdot(net.forward(columns(x)), columns(rows(d)))
    numeric = (value(h) - value(-h)) / (2 * h)
    assert abs(numeric - np.vdot(found, u)) < 1e-5 * np.linalg.norm(found) * np.linalg.norm(u)


@pytest.mark.parametrize("layer, in_shape, words", [
    (Conv2d(4, 3), (7,), "a map (H, W, C)"),
    (Conv2d(4, 5, padding="valid"), (4, 9, 2), "a map of 4 x 9"),
    (Conv2d(4, 3, groups=3), (6, 5, 3), "3 groups"),
    (Conv2d(6, 3, groups=3), (6, 5, 4), "4 channels in"),
])
def test_what_cannot_fit_is_refused_at_build_with_the_layers_path(layer, in_shape, words):
    with pytest.raises(BuildError) as caught:
        Sequential(conv=layer).build(in_shape)
    assert caught.value.where == "conv"
    assert words in str(caught.value)


@pytest.mark.torch
@given(conv2d(), seeds())
def test_convolution_is_pytorchs(case, seed):
    torch = pytest.importorskip("torch")
    layer = case.make()
    net, x = on_source(layer, case.in_shape, seed), noise(seed, (3, *case.in_shape))
    y, d, dx = walk(net, x, np.random.default_rng(seed))
    (top, bottom), (left, right) = layer.window.pads
    xt, W = tensor(torch, channels_first(x), True), tensor(torch, layer.weight.value.transpose(0, 3, 1, 2), True)
    bias = tensor(torch, layer.bias.value.ravel(), True) if layer.bias else None
    yt = torch.nn.functional.conv2d(torch.nn.functional.pad(xt, (left, right, top, bottom)), W, bias, layer.stride, 0,
                                    layer.dilation, layer.groups)
    yt.backward(tensor(torch, channels_first(d)))
    agree(channels_first(y), yt)
    agree(channels_first(dx), xt.grad)
    agree(layer.weight.grad, W.grad.numpy().transpose(0, 2, 3, 1))
    if layer.bias:
        agree(layer.bias.grad.ravel(), bias.grad)

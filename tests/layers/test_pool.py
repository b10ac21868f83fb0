import numpy as np
import pytest
from hypothesis import given

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.layers import AvgPool2d, GlobalAvgPool, MaxPool2d, Sequential
from nplearn.tape import Tape
from nplearn.testing.strategies import global_pools, noise, pools, seeds
from tests.helpers import agree, channels_first, close, on_source, tensor, walk
from tests.oracles import pool as oracle


def test_pools_keep_the_layer_contract(contract):
    contract(pools(), least=800)
    contract(global_pools(), least=800)


@pytest.mark.long
def test_pools_keep_the_layer_contract_on_many_cases(contract):
    contract(pools(), least=40_000, examples=1000)


@given(pools(), seeds())
def test_output_and_error_are_those_of_explicit_loops(case, seed):
    layer = case.make()
    net, x = on_source(layer, case.in_shape, seed), noise(seed, (3, *case.in_shape))
    y, d, dx = walk(net, x, np.random.default_rng(seed))
    settings = layer.kernel, layer.stride, layer.padding
    if isinstance(layer, MaxPool2d):
        assert np.array_equal(y, oracle.max_pool(x, *settings))
        close(dx, oracle.max_pool_backward(d, x, *settings), scale=4)
    else:
        close(y, oracle.mean_pool(x, *settings), scale=1)
        close(dx, oracle.mean_pool_backward(d, x.shape, *settings), scale=4)


def test_padding_never_wins_a_maximum():
    layer = MaxPool2d(3, 1, 1).build((2, 3, 1), dtype=np.float64)
    assert rows(layer.forward(columns(-1 - np.arange(6.0).reshape(1, 2, 3, 1)))).ravel().tolist() == [-1, -1, -2] * 2


def test_padding_counts_as_zeros_in_a_mean():
    layer = AvgPool2d(2, 2, ((1, 0), (1, 0))).build((1, 1, 1), dtype=np.float64)
    assert layer.forward(np.full((1, 1, 1, 1, 1), 8.0)).ravel().tolist() == [2]


def test_of_equal_maxima_the_first_row_by_row_takes_all():
    net = on_source(MaxPool2d(2), (2, 4, 1))
    tape = Tape(net).begin(np.array([[5.0, 5, 1, 7], [5, 5, 7, 7]]).reshape(1, 2, 4, 1))
    net.forward(tape.input, tape)
    dx = net.backward(np.array([3.0, 4]).reshape(1, 1, 1, 2, 1), tape)
    assert rows(dx)[0, :, :, 0].tolist() == [[3, 0, 0, 4], [0, 0, 0, 0]]
    v = columns(np.arange(1.0, 9).reshape(1, 2, 4, 1))
    assert net.tangent(v, tape.walk(up=True)).ravel().tolist() == [1, 4]


def test_global_mean_is_the_mean_over_the_map():
    x = noise(3, (4, 5, 3, 2))
    layer = GlobalAvgPool().build((5, 3, 2), dtype=np.float64)
    close(rows(layer.forward(columns(x))), x.mean(axis=(1, 2)), scale=1)
    d = noise(4, (4, 2))
    close(rows(layer.backward(columns(d, 2), None)), np.broadcast_to(d[:, None, None] / 15, x.shape), scale=1)


@pytest.mark.parametrize("layer, in_shape, words", [
    (MaxPool2d(2), (8,), "a map"), (GlobalAvgPool(), (8,), "a map"), (AvgPool2d(4), (3, 5, 2), "a map of 3 x 5"),
    (MaxPool2d(2, 1, 2), (4, 5, 2), "padding")])
def test_what_cannot_fit_is_refused_at_build_with_the_layers_path(layer, in_shape, words):
    with pytest.raises(BuildError, match=words) as caught:
        Sequential(pool=layer).build(in_shape)
    assert caught.value.where == "pool"


@pytest.mark.torch
@given(pools(), seeds())
def test_pools_are_pytorchs(case, seed):
    torch = pytest.importorskip("torch")
    layer = case.make()
    net, x = on_source(layer, case.in_shape, seed), noise(seed, (3, *case.in_shape))
    x = np.round(x)                                     # ties: the first of equal maxima takes all, as in PyTorch
    y, d, dx = walk(net, x, np.random.default_rng(seed))
    (top, bottom), (left, right) = layer.window.pads
    xt, largest = tensor(torch, channels_first(x), True), isinstance(layer, MaxPool2d)
    wide = torch.nn.functional.pad(xt, (left, right, top, bottom), value=-np.inf if largest else 0.0)
    pool = torch.nn.functional.max_pool2d if largest else torch.nn.functional.avg_pool2d
    yt = pool(wide, layer.kernel, layer.stride)
    yt.backward(tensor(torch, channels_first(d)))
    agree(channels_first(y), yt)
    agree(channels_first(dx), xt.grad)

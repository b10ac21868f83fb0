import numpy as np
import pytest
from hypothesis import given, settings

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.layers import Conv2d, LocallyConnected2d, Sequential
from nplearn.testing.strategies import locally_connected2d, noise, seeds
from tests.helpers import agree, channels_first, close, on_source, tensor, walk
from tests.oracles.local import locally_connected
from tests.oracles.matrix import transposes_agree


def test_locally_connected_keeps_the_layer_contract(contract):
    contract(locally_connected2d(), least=1600)


@pytest.mark.long
def test_locally_connected_keeps_the_layer_contract_on_many_cases(contract):
    contract(locally_connected2d(), least=80_000, examples=1000)


@given(locally_connected2d(), seeds())
def test_output_is_that_of_explicit_loops(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    x, W = noise(seed, (3, *case.in_shape)), noise(seed + 1, layer.weight.value.shape)
    wanted = locally_connected(x, W, layer.kernel, layer.stride, layer.padding)
    close(rows(layer.apply(columns(x, 1), W)), wanted, W.size, scale=np.abs(x).max() * np.abs(W).max())


@settings(max_examples=10)
@given(locally_connected2d(), seeds())
def test_adjoint_and_outer_are_the_transposes_of_the_matrix_that_apply_is(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    transposes_agree(layer, np.random.default_rng(seed), lambda found, wanted: close(found, wanted, scale=10))


@given(seeds())
def test_the_same_matrix_everywhere_is_a_convolution(seed):
    local = LocallyConnected2d(4, (3, 2), stride=(2, 1)).build((7, 5, 3), seed, np.float64)
    conv = Conv2d(4, (3, 2), stride=(2, 1)).build((7, 5, 3), seed + 1, np.float64)
    local.weight.value[...] = conv.weight.value.reshape(4, -1)
    x = columns(noise(seed, (2, 7, 5, 3)))
    close(local.forward(x), conv.forward(x), 18, scale=4)


def test_each_position_has_a_bias_and_a_matrix_of_its_own():
    layer = LocallyConnected2d(4, 3, stride=2).build((7, 5, 3))
    assert layer.weight.value.shape == (4, 3, 4, 27) and layer.bias.value.shape == (4, 4, 3, 1)
    assert layer.uses == 1 and layer.column_bytes == 0


@pytest.mark.parametrize("layer, in_shape, words", [
    (LocallyConnected2d(4, 3), (7,), "a map"),
    (LocallyConnected2d(4, 5, padding="valid"), (4, 9, 2), "a map of 4 x 9")])
def test_what_cannot_fit_is_refused_at_build_with_the_layers_path(layer, in_shape, words):
    with pytest.raises(BuildError, match=words) as caught:
        Sequential(local=layer).build(in_shape)
    assert caught.value.where == "local"


@pytest.mark.torch
@given(locally_connected2d(), seeds())
def test_locally_connected_is_pytorchs_unfold_and_einsum(case, seed):
    torch = pytest.importorskip("torch")
    layer = case.make()
    net, x = on_source(layer, case.in_shape, seed), noise(seed, (3, *case.in_shape))
    y, d, dx = walk(net, x, np.random.default_rng(seed))
    (top, bottom), (left, right) = layer.window.pads
    h, n, w = layer.out_shape
    xt, W = tensor(torch, channels_first(x), True), tensor(torch, layer.weight.value, True)
    wide = torch.nn.functional.pad(xt, (left, right, top, bottom))
    patches = torch.nn.functional.unfold(wide, layer.kernel, stride=layer.stride)       # (N, C kh kw, H' W')
    patches = patches.reshape(3, case.in_shape[2], *layer.kernel, h, w)
    taps = W.reshape(h, w, n, *layer.kernel, case.in_shape[2])
    yt = torch.einsum("ncijhw,hwoijc->nohw", patches, taps)
    if layer.bias:
        bias = tensor(torch, layer.bias.value[..., 0], True)                            # (H', n, W')
        yt = yt + bias.permute(1, 0, 2)
    yt.backward(tensor(torch, channels_first(d)))
    agree(channels_first(y), yt)
    agree(channels_first(dx), xt.grad)
    agree(layer.weight.grad, W.grad)
    if layer.bias:
        agree(layer.bias.grad[..., 0], bias.grad)

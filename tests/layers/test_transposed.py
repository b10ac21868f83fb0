import numpy as np
import pytest
from hypothesis import given

from nplearn.errors import BuildError
from nplearn.layers import Conv2d, Dense, Sequential, Transposed
from nplearn.testing.strategies import conv2d, noise, seeds, transposed
from tests.helpers import agree, channels_first, on_source, tensor, walk


def test_transposed_keeps_the_layer_contract(contract):
    contract(transposed(), least=1500)


@pytest.mark.long
def test_transposed_keeps_the_layer_contract_on_many_cases(contract):
    contract(transposed(), least=80_000, examples=1000)


@given(transposed(), seeds())
def test_its_operators_are_the_layers_the_other_way(case, seed):
    turned = case.make().build(case.in_shape, seed, np.float64)
    layer, V = turned.layer, turned.weight.value
    y, r = noise(seed, (2, *turned.in_shape, 3)), noise(seed + 1, (2, *layer.in_shape, 3))
    assert np.array_equal(turned.apply(y, V), layer.adjoint(y, V, r.shape))
    assert np.array_equal(turned.adjoint(r, V, y.shape), layer.apply(r, V))
    assert np.array_equal(turned.outer(y, r), layer.outer(r, y))


def test_it_has_a_weight_of_its_own_and_leaves_the_layers_alone():
    layer = Dense(4).build((7,), dtype=np.float64)
    before = layer.weight.value.copy()
    turned = Transposed(layer).build((4,), seed=3, dtype=np.float64)
    assert turned.weight.value.shape == (4, 7) and turned.out_shape == (7,) and turned.n_out == 7
    assert not np.array_equal(turned.weight.value, before) and np.array_equal(layer.weight.value, before)


def test_what_cannot_be_turned_round_is_refused():
    with pytest.raises(BuildError, match="build the net first"):
        Transposed(Dense(3))
    with pytest.raises(BuildError, match="without groups"):
        Transposed(Conv2d(4, 3, groups=2).build((5, 4, 2)))
    with pytest.raises(BuildError, match="give it what the layer puts out") as caught:
        Sequential(back=Transposed(Dense(3).build((5,)))).build((4,))
    assert caught.value.where == "back"


@pytest.mark.torch
@given(conv2d().filter(lambda case: case.make().groups == 1), seeds())
def test_a_turned_convolution_is_pytorchs_transposed_convolution(case, seed):
    torch = pytest.importorskip("torch")
    inner = case.make().build(case.in_shape, seed, np.float64)
    h, n, w = inner.out_shape
    layer = Transposed(inner, bias=False)
    net, y = on_source(layer, (h, w, n), seed), noise(seed, (3, h, w, n))
    out, d, dy = walk(net, y, np.random.default_rng(seed))
    yt, W = tensor(torch, channels_first(y), True), tensor(torch, layer.weight.value.transpose(0, 3, 1, 2), True)
    wide = torch.nn.functional.conv_transpose2d(yt, W, None, inner.stride, 0, 0, 1, inner.dilation)
    (top, bottom), (left, right) = inner.window.pads
    H, width, _ = case.in_shape
    lacking = H + top + bottom - wide.shape[2], width + left + right - wide.shape[3]    # rows that no window reached
    wide = torch.nn.functional.pad(wide, (0, lacking[1], 0, lacking[0]))
    found = wide[:, :, top:top + H, left:left + width]
    found.backward(tensor(torch, channels_first(d)))
    agree(channels_first(out), found)
    agree(channels_first(dy), yt.grad)
    agree(layer.weight.grad, W.grad.numpy().transpose(0, 2, 3, 1))

import numpy as np
import pytest
from hypothesis import given

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.layers import Dense, Flatten, Sequential
from nplearn.testing.strategies import dense, noise, seeds
from tests.helpers import agree, close, on_source, tensor, walk
from tests.oracles.matrix import transposes_agree


def test_dense_keeps_the_layer_contract(contract):
    contract(dense(), least=1600)


@pytest.mark.long
def test_dense_keeps_the_layer_contract_on_many_cases(contract):
    contract(dense(), least=80_000, examples=1000)


@given(dense(), seeds())
def test_operators_are_the_sums_that_einsum_writes(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    W, x = noise(seed, (layer.n, *case.in_shape)), noise(seed + 1, (3, *case.in_shape, 2))
    d = noise(seed + 2, (3, layer.n, 2))
    scale = W.size
    close(layer.apply(x, W), np.einsum("oi,tin->ton", W, x), scale=scale)
    close(layer.adjoint(d, W, x.shape), np.einsum("oi,ton->tin", W, d), scale=scale)
    close(layer.outer(x, d), np.einsum("ton,tin->oi", d, x), scale=scale)
    close(layer.mix(d, noise(seed, (layer.n, 5))), np.einsum("on,toj->tnj", noise(seed, (layer.n, 5)), d), scale=scale)


@given(dense(), seeds())
def test_adjoint_and_outer_are_the_transposes_of_the_matrix_that_apply_is(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    transposes_agree(layer, np.random.default_rng(seed), lambda found, wanted: close(found, wanted, scale=10))


def test_a_step_by_hand():
    layer = Dense(2).build((3,), dtype=np.float64)
    layer.weight.value[...], layer.bias.value[...] = [[1, 2, 3], [4, 5, 6]], [[10], [20]]
    assert rows(layer.forward(columns(np.array([[1.0, 0, -1], [0, 2, 0]])))).tolist() == [[8, 18], [14, 30]]


def test_no_inputs_at_all_give_an_empty_batch():
    layer = Dense(4).build((3,))
    assert layer.forward(np.zeros((1, 3, 0), np.float32)).shape == (1, 4, 0)


def test_a_map_is_refused_with_path_and_remedy():
    with pytest.raises(BuildError, match=r"fc: .*expected \(features,\); put a Flatten before it"):
        Sequential(fc=Dense(4)).build((5, 4, 3))


def test_the_lowest_weighted_layer_computes_no_input_error():
    layer = Dense(4)
    low = Sequential(Flatten(), fc1=layer, fc2=Dense(3)).build((5,), dtype=np.float64)
    assert [part.sends for part in low.layers[1:]] == [False, True]
    _, _, dx = walk(low, noise(0, (6, 5)), np.random.default_rng(1))
    assert not dx.any()


@pytest.mark.torch
@given(dense(), seeds())
def test_dense_is_pytorchs(case, seed):
    torch = pytest.importorskip("torch")
    layer = case.make()
    net, x = on_source(layer, case.in_shape, seed), noise(seed, (5, *case.in_shape))
    y, d, dx = walk(net, x, np.random.default_rng(seed))
    xt, W = tensor(torch, x, True), tensor(torch, layer.weight.value, True)
    bias = tensor(torch, layer.bias.value.ravel(), True) if layer.bias else None
    yt = torch.nn.functional.linear(xt, W, bias)
    yt.backward(tensor(torch, d))
    agree(y, yt)
    agree(dx, xt.grad)
    agree(layer.weight.grad, W.grad)
    if layer.bias:
        agree(layer.bias.grad.ravel(), bias.grad)

import numpy as np
import pytest
from hypothesis import given

from nplearn.layers import ELU, LeakyReLU, ReLU, Sigmoid, Tanh
from nplearn.testing.strategies import activations, noise, seeds
from tests.helpers import agree, close, on_source, tensor, walk

X = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])


def test_activations_keep_the_layer_contract(contract):
    contract(activations(), least=850)


@pytest.mark.long
def test_activations_keep_the_layer_contract_on_many_cases(contract):
    contract(activations(), least=40_000, examples=1000)


@pytest.mark.parametrize("layer, wanted, slope", [
    (ReLU(), [0, 0, 0, 0.5, 2], [0, 0, 0, 1, 1]),
    (LeakyReLU(0.1), [-0.2, -0.05, 0, 0.5, 2], [0.1, 0.1, 0.1, 1, 1]),
    (ELU(2.0), [2 * np.exp(-2) - 2, 2 * np.exp(-0.5) - 2, 0, 0.5, 2], [2 * np.exp(-2), 2 * np.exp(-0.5), 2, 1, 1]),
    (Tanh(), np.tanh(X), 1 / np.cosh(X) ** 2),
    (Sigmoid(), 1 / (1 + np.exp(-X)), np.exp(-X) / (1 + np.exp(-X)) ** 2),
])
def test_values_and_slopes_are_those_of_the_formulas(layer, wanted, slope):
    y = layer.f(X)
    close(y, np.array(wanted, float), scale=1)
    close(layer.slope(y).astype(float), np.array(slope, float), scale=1)


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(), ELU(), Tanh(), Sigmoid()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_inputs_neither_overflow_nor_leave_the_range(layer, dtype):
    y = layer.f(np.array([-1e30, -1e4, 1e4, 1e30], dtype))
    assert np.isfinite(y).all() and np.isfinite(layer.slope(y)).all() and y.dtype == dtype


@pytest.mark.torch
@given(activations(), seeds())
def test_activations_are_pytorchs(case, seed):
    torch = pytest.importorskip("torch")
    layer = case.make()
    twin = {ReLU: torch.relu, Tanh: torch.tanh, Sigmoid: torch.sigmoid,
            LeakyReLU: lambda x: torch.nn.functional.leaky_relu(x, layer.leak),
            ELU: lambda x: torch.nn.functional.elu(x, layer.alpha)}[type(layer)]
    net, x = on_source(layer, case.in_shape, seed), np.round(noise(seed, (4, *case.in_shape)), 1)
    if isinstance(layer, ELU):                          # at 0 exactly its two slopes differ, and so do the conventions
        x += 0.05
    y, d, dx = walk(net, x, np.random.default_rng(seed))
    xt = tensor(torch, x, True)
    yt = twin(xt)
    yt.backward(tensor(torch, d))
    agree(y, yt)
    agree(dx, xt.grad)

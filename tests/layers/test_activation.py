import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.layers import ELU, Clip, LeakyReLU, ReLU, Sigmoid, SteepSigmoid, Tanh
from nplearn.testing.strategies import activations, case, noise, samples, seeds
from tests.helpers import agree, close, on_source, tensor, walk

X = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])


def test_activations_keep_the_layer_contract(contract):
    contract(activations(), least=850)


@pytest.mark.long
def test_activations_keep_the_layer_contract_on_many_cases(contract):
    contract(activations(), least=40_000, examples=1000)


@st.composite
def of_settling_nets(draw):
    """Those that equilibrium propagation is used with."""
    kind, values = draw(st.sampled_from([(Clip, (0.93,)), (Clip, (0.47,)), (Clip, (1.1, -0.52, 0.53)),
                                         (SteepSigmoid, ()), (SteepSigmoid, (2.0, -0.3))]))       # no point on a bound
    return case(kind, draw(samples()), *values)


def test_activations_of_settling_nets_keep_the_layer_contract(contract):
    contract(of_settling_nets(), least=850)


@pytest.mark.parametrize("layer, wanted, slope", [
    (ReLU(), [0, 0, 0, 0.5, 2], [0, 0, 0, 1, 1]),
    (LeakyReLU(0.1), [-0.2, -0.05, 0, 0.5, 2], [0.1, 0.1, 0.1, 1, 1]),
    (ELU(2.0), [2 * np.exp(-2) - 2, 2 * np.exp(-0.5) - 2, 0, 0.5, 2], [2 * np.exp(-2), 2 * np.exp(-0.5), 2, 1, 1]),
    (Tanh(), np.tanh(X), 1 / np.cosh(X) ** 2),
    (Sigmoid(), 1 / (1 + np.exp(-X)), np.exp(-X) / (1 + np.exp(-X)) ** 2),
    (Clip(), [0, 0, 0, 0.5, 1], [0, 0, 0, 1, 0]),
    (Clip(0.5), [0, 0, 0, 0.25, 1], [0, 0, 0, 0.5, 0]),
    (Clip(1.0, -0.5, 0.5), [-0.5, -0.5, 0, 0.5, 0.5], [0, 0, 1, 0, 0]),
    (Clip(0.4, -0.5, 1.0), [-0.5, -0.2, 0, 0.2, 0.8], [0, 0.4, 0.4, 0.4, 0.4]),
    (SteepSigmoid(), 1 / (1 + np.exp(-4 * (X - 0.5))), 4 * np.exp(-4 * (X - 0.5)) / (1 + np.exp(-4 * (X - 0.5))) ** 2),
    (SteepSigmoid(1.0, 0.0), 1 / (1 + np.exp(-X)), np.exp(-X) / (1 + np.exp(-X)) ** 2),
])
def test_values_and_slopes_are_those_of_the_formulas(layer, wanted, slope):
    y = layer.f(X)
    close(y, np.array(wanted, float), scale=1)
    close(layer.slope(y).astype(float), np.array(slope, float), scale=1)


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(), ELU(), Tanh(), Sigmoid(), Clip(), Clip(2.0, -0.5, 0.5),
                                   SteepSigmoid()])
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

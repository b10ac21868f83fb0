import numpy as np
import pytest
from hypothesis import given

from nplearn.columns import columns, rows
from nplearn.layers import BatchNorm
from nplearn.tape import Tape
from nplearn.testing.strategies import batch_norms, noise, seeds
from tests.helpers import agree, channels_first, close, on_source, tensor, walk
from tests.oracles.norm import batch_norm, batch_norm_backward


def test_batch_norm_keeps_the_layer_contract(contract):
    contract(batch_norms(), least=900)


@pytest.mark.long
def test_batch_norm_keeps_the_layer_contract_on_many_cases(contract):
    contract(batch_norms(), least=45_000, examples=1000)


@given(batch_norms(), seeds())
def test_output_and_error_are_those_of_mean_variance_and_jacobian(case, seed):
    layer = case.make()
    net, x = on_source(layer, case.in_shape, seed), noise(seed, (6, *case.in_shape))
    y, d, dx = walk(net, x, np.random.default_rng(seed))
    C = case.in_shape[-1]
    wanted, mean, variance = batch_norm(x, layer.scale.value, layer.shift.value, layer.eps)
    gain = 10 / np.sqrt(variance.min() + layer.eps)
    close(y, wanted, scale=gain)
    down = batch_norm_backward(d.reshape(-1, C), x.reshape(-1, C), layer.scale.value, layer.eps)
    close(dx.reshape(-1, C), down, scale=10 * gain)
    z = (x - mean) / np.sqrt(variance + layer.eps)
    axes = tuple(range(x.ndim - 1))
    close(layer.scale.grad, (d * z).sum(axis=axes), scale=10 * gain)
    close(layer.shift.grad, d.sum(axis=axes), scale=10)


@given(batch_norms(), seeds())
def test_running_statistics_follow_in_mode_train_only_and_serve_inference(case, seed):
    layer = case.make().build(case.in_shape, seed, np.float64)
    mean, variance = np.zeros(len(layer.mean)), np.ones(len(layer.mean))
    for step in range(3):
        x = noise(seed + step, (5, *case.in_shape))
        m = x.size // x.shape[-1]
        layer.forward(columns(x), Tape(layer, mode="probe").begin(x))
        layer.forward(columns(x), Tape(layer, mode="train").begin(x))
        _, batch_mean, batch_variance = batch_norm(x, 1.0, 0.0, layer.eps)
        mean += layer.momentum * (batch_mean - mean)
        variance += layer.momentum * (batch_variance * m / (m - 1) - variance)
    close(layer.mean, mean, scale=1)
    close(layer.variance, variance, scale=1)
    x = noise(seed, (2, *case.in_shape))
    close(rows(layer.forward(columns(x))), (x - mean) / np.sqrt(variance + layer.eps), scale=4)


def test_one_sample_of_features_is_normalised_to_the_shift_without_a_warning():
    layer = BatchNorm().build((4,), dtype=np.float64)
    layer.shift.value[...] = [1, 2, 3, 4]
    x = noise(0, (1, 4))
    y = layer.forward(columns(x), Tape(layer).begin(x))
    assert rows(y).tolist() == [[1, 2, 3, 4]]
    assert np.isfinite(layer.variance).all()


def test_float32_statistics_of_far_off_numbers_keep_their_variance():
    x = (1000 + noise(0, (64, 6, 5, 2))).astype(np.float32)
    layer = BatchNorm().build((6, 5, 2))
    layer.forward(columns(x, 16), Tape(layer).begin(x))
    wanted = x.astype(np.float64).var(axis=(0, 1, 2), ddof=1)
    assert np.abs((layer.variance - 0.9) / 0.1 / wanted - 1).max() < 1e-4       # the mean is rounded at 1000 eps = 1e-4


@pytest.mark.torch
@given(batch_norms(), seeds())
def test_batch_norm_is_pytorchs_with_its_running_statistics(case, seed):
    torch = pytest.importorskip("torch")
    layer = case.make()
    net, C = on_source(layer, case.in_shape, seed), case.in_shape[-1]
    kind = torch.nn.BatchNorm2d if len(case.in_shape) == 3 else torch.nn.BatchNorm1d
    twin = kind(C, eps=layer.eps, momentum=layer.momentum, dtype=torch.float64)
    with torch.no_grad():
        twin.weight.copy_(tensor(torch, layer.scale.value))
        twin.bias.copy_(tensor(torch, layer.shift.value))
    for step in range(2):
        x = noise(seed + step, (7, *case.in_shape))
        y, d, dx = walk(net, x, np.random.default_rng(seed))
        xt = tensor(torch, channels_first(x), True)
        twin.zero_grad()
        yt = twin(xt)
        yt.backward(tensor(torch, channels_first(d)))
        agree(channels_first(y), yt, 1e-11)             # divided by deviations as small as 0.1
        agree(channels_first(dx), xt.grad, 1e-11)
        agree(layer.scale.grad, twin.weight.grad, 1e-11)
        agree(layer.shift.grad, twin.bias.grad)
    agree(layer.mean, twin.running_mean)
    agree(layer.variance, twin.running_var)
    twin.eval()
    agree(channels_first(rows(net.forward(columns(x)))), twin(tensor(torch, channels_first(x))))

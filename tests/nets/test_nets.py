"""The small nets: parameter counts as published, the contract, and whole nets against PyTorch."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplearn.columns import rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import ORTHOGONAL, Tanh, weighted
from nplearn.layers.initial import LAWS
from nplearn.losses import SoftmaxCrossEntropy, SquaredError
from nplearn.nets import lenet, make, mlp, square
from nplearn.tape import Tape
from nplearn.testing.strategies import batch, noise, seeds
from tests.helpers import agree, assert_backprop_is_the_slope_of_the_loss, channels_first, tensor


def count(net):
    return sum(p.value.size for p in net.arena.params)


@pytest.mark.parametrize("net, in_shape, parameters", [
    (lenet(10, 1, 28), (28, 28, 1), 61_706), (lenet(10, 1, 32), (32, 32, 1), 61_706),
    (lenet(10, 3, 32), (32, 32, 3), 128_842), (mlp(10), (28, 28, 1), 669_706), (mlp(10), (784,), 669_706),
    (square(), (28, 28, 1), 5 * 785 * 784),
    (square(widths=(784, 500, 200, 10)), (784,), 785 * 784 + 501 * 500 + 201 * 200 + 110),
    (mlp(3, hidden=()), (4,), 15), (mlp(3, hidden=(5,)), (2, 2, 1), 43)])
def test_parameter_counts_are_the_published_ones(net, in_shape, parameters):
    assert count(net.build(in_shape)) == parameters


@pytest.mark.parametrize("name, in_shape, parameters", [("lenet", (28, 28, 1), 61_706), ("lenet", (32, 32, 3), 128_842),
                                                        ("mlp", (28, 28, 1), 669_706),
                                                        ("square", (3, 2, 2), 5 * 13 * 12)])
def test_nets_are_made_by_name(name, in_shape, parameters):
    assert count(make(name, in_shape, 10).build(in_shape)) == parameters
    assert make(name, in_shape, 7).build(in_shape).out_shape == (7,)


def test_a_name_that_no_net_has_is_refused_with_those_that_exist():
    with pytest.raises(SettingError, match="'lenett'.*mlp, lenet"):
        make("lenett", (28, 28, 1), 10)


@pytest.mark.parametrize("channels, size, path", [(3, 8, "pool2"), (3, 4, "conv2"), (3, 13, "conv3"), (1, 3, "conv2")])
def test_a_net_too_small_for_its_input_says_which_layer_does_not_fit(channels, size, path):
    if channels == 1:                                   # the grey form pads to 32, so give it less than it was told
        net = lenet(10, 1, 28)
    else:
        net = lenet(10, channels, size)
    with pytest.raises(BuildError, match="use a larger input") as caught:
        net.build((size, size, channels))
    assert caught.value.where == path


def test_an_mlps_nonlinearities_are_given_by_name_the_outputs_too():
    net = mlp(3, (5, 4), "sigmoid", output="tanh")
    assert [type(layer).__name__ for layer in net.layers[2::2]] == ["Sigmoid", "Sigmoid", "Tanh"]
    assert type(mlp(3, (5,)).layers[-1]).__name__ == "Dense" and type(mlp(3, (), output=Tanh).layers[-1]) is Tanh
    for option in ("activation", "output"):
        with pytest.raises(SettingError, match=f"mlp: {option} 'soft'; expected one of relu"):
            mlp(3, **{option: "soft"})


def test_an_mlps_weights_are_drawn_by_the_law_of_that_name():
    for init in "orthogonal", ORTHOGONAL:
        W = mlp(4, (6, 6), init=init).build((6,), 0).layers[3].weight.value
        np.testing.assert_allclose(W @ W.T, np.eye(6) * (W @ W.T)[0, 0], atol=1e-6)
    assert not mlp(4, (6,), init="zero").build((6,), 0).layers[1].weight.value.any()
    assert set(LAWS) == {law.name for law in LAWS.values()}
    with pytest.raises(SettingError, match="init 'xaver'; expected one of xavier, torch"):
        mlp(init="xaver")


def test_square_nets_have_square_orthogonal_weights_and_the_first_outputs_are_the_classes():
    net = square(3, widths=(9, 7, 5)).build(9, 1, np.float64)
    shapes = [layer.weight.value.shape for layer in weighted(net)]
    assert shapes == [(9, 9), (7, 7), (5, 5)] and net.out_shape == (3,)
    for layer in weighted(net):
        W = layer.weight.value
        assert abs(W @ W.T - np.eye(len(W))).max() < 1e-14


def test_nets_keep_the_layer_contract(contract):
    contract(lambda: square(3, 6, hidden=1), in_shapes=[(6,), (1, 2, 3)], examples=5, least=350)
    contract(lambda: mlp(5, (7, 6), Tanh), in_shapes=[(4,), (3, 2, 4)], examples=5, least=350)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 22)])
def test_the_gradient_of_a_lenet_is_the_derivative_of_its_loss(channels, size):
    """Central differences of step 1e-6: at 1e-4 thousands of relu and max-pool kinks lie between the points."""
    rng = np.random.default_rng(2)
    net = lenet(4, channels, size).build((size, size + 1, channels), seed=1, dtype=np.float64)
    tape = Tape(net, SquaredError(), mode="probe")
    tape.begin(rng.normal(size=(2, size, size + 1, channels)), rng.normal(size=(2, 4)), seed=3).run()
    assert_backprop_is_the_slope_of_the_loss(net, tape, rng)


def twin_lenet(torch, net, channels, size):
    """LeNet's layers in PyTorch, weights copied over from ours."""
    nn, (c1, c2, c3, f1, f2) = torch.nn, weighted(net)
    if channels == 1:
        convs = [nn.Conv2d(1, 6, 5, padding=(32 - size) // 2), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)]
        tail = [nn.Flatten(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, f2.n)]
    else:
        convs = [nn.Conv2d(channels, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 128, 3)]
        tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, f2.n)]
    twin = nn.Sequential(convs[0], nn.ReLU(), nn.MaxPool2d(2), convs[1], nn.ReLU(), nn.MaxPool2d(2),
                         convs[2], nn.ReLU(), *tail).double()
    theirs = [m for m in twin if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        for ours, layer in zip((c1, c2, c3, f1, f2), theirs, strict=True):
            W = ours.weight.value
            layer.weight.copy_(tensor(torch, W.transpose(0, 3, 1, 2) if W.ndim == 4 else W))
            layer.bias.copy_(tensor(torch, ours.bias.value.ravel()))
    return twin, theirs


def compare(torch, net, twin, theirs, x, labels, columns_of=None):
    """One pass and walk of both: output, loss, every gradient to 1e-12 of the largest."""
    tape = Tape(net, SoftmaxCrossEntropy()).begin(x, labels)
    value = tape.run()
    net.backward(tape.error, tape)
    output = twin(tensor(torch, channels_first(x)))
    loss = torch.nn.functional.cross_entropy(output, torch.tensor(labels))
    loss.backward()
    agree(rows(tape.output), output)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    for ours, layer in zip(weighted(net), theirs, strict=True):
        wanted = layer.weight.grad.numpy()
        if ours is weighted(net)[0] and columns_of is not None:
            wanted = columns_of(wanted)
        agree(ours.weight.grad, wanted.transpose(0, 2, 3, 1) if wanted.ndim == 4 else wanted)
        agree(ours.bias.grad.ravel(), layer.bias.grad)


@pytest.mark.torch
@settings(max_examples=3)
@given(st.sampled_from([(1, 28, 12), (1, 32, 7), (3, 32, 16)]), seeds())
def test_lenet_is_pytorchs(form, seed):
    torch = pytest.importorskip("torch")
    channels, size, n = form
    net = lenet(10, channels, size).build((size, size, channels), seed, np.float64)
    for layer in weighted(net):
        layer.bias.value += 0.1 * noise(seed, layer.bias.value.shape)
    twin, theirs = twin_lenet(torch, net, channels, size)
    compare(torch, net, twin, theirs, *batch(net, seed, n))


@pytest.mark.torch
@settings(max_examples=5)
@given(seeds(), st.sampled_from([(6, 5, 3), (7,)]), st.integers(1, 9))
def test_mlp_is_pytorchs_with_its_columns_in_the_order_height_channel_width(seed, in_shape, n):
    torch = pytest.importorskip("torch")
    nn, net = torch.nn, mlp(4, (9, 8)).build(in_shape, seed, np.float64)

    def theirs_of(W):                                   # columns (H, C, W) -> (C, H, W), as PyTorch flattens
        H, width, C = in_shape
        return W.reshape(len(W), H, C, width).swapaxes(1, 2).reshape(len(W), -1)

    def ours_of(W):
        H, width, C = in_shape
        return W.reshape(len(W), C, H, width).swapaxes(1, 2).reshape(len(W), -1)
    flat, (fc1, fc2, fc3) = len(in_shape) == 1, weighted(net)
    layers = [nn.Linear(int(np.prod(in_shape)), 9), nn.Linear(9, 8), nn.Linear(8, 4)]
    twin = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).double()
    with torch.no_grad():
        for ours, layer in zip((fc1, fc2, fc3), layers, strict=True):
            W = ours.weight.value if ours is not fc1 or flat else theirs_of(ours.weight.value)
            layer.weight.copy_(tensor(torch, W))
            layer.bias.copy_(tensor(torch, ours.bias.value.ravel()))
    compare(torch, net, twin, layers, *batch(net, seed, n), None if flat else ours_of)


@given(seeds())
@settings(max_examples=3)
def test_a_lenets_gradient_is_that_of_its_loss(seed):
    net = lenet(4, 3, 22).build((22, 22, 3), seed, np.float64)
    x, labels = batch(net, seed, 6)
    tape = Tape(net, SoftmaxCrossEntropy()).begin(x, labels)
    tape.run()
    net.backward(tape.error, tape)
    gradient, start, h = net.arena.grad.copy(), net.arena.value.copy(), 1e-8       # few kinks lie within h
    u = net.arena.where(lambda p: True) * noise(seed, start.shape)

    def value(step):
        net.arena.value[...] = start + step * u
        return tape.begin(x, labels).run()
    numeric = (value(h) - value(-h)) / (2 * h)
    assert abs(numeric - gradient @ u) < 1e-5 * np.linalg.norm(gradient) * np.linalg.norm(u)

"""Each kernel against its plain body on the host, to rounding; and that it is the kernel which ran."""
import numpy as np
import pytest

from nplearn import layers as L
from nplearn.backend import to_host
from nplearn.kernels import conv, local, norm, pool
from nplearn.kernels.gpu import launch
from nplearn.kernels.gpu import norm as fused
from nplearn.kernels.window import Window
from nplearn.layers import Dense, Sequential
from nplearn.optim import SGD, Adam, AdamW
from nplearn.tape import Tape
from nplearn.testing.strategies import noise
from tests.fake_device import FakeCupy
from tests.gpu.host_kernels import HostKernel
from tests.helpers import close

SHAPES = [(1, 5, 3), (1, 3, 40), (2, 1, 300), (1, 4, 3, 5, 2), (2, 3, 2, 7, 33), (1, 1, 20, 1, 2), (1, 70, 2, 3, 1)]
DTYPES = [np.float32, np.float64]
MAPS = {"tiles": Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
        "overlap": Window((3, 2), (2, 1), ((1, 1), (0, 1)), (1, 1)),
        "steps": Window((2, 2), (3, 3), ((0, 1), (1, 0)), (1, 1)),
        "apart": Window((2, 3), (1, 2), ((1, 1), (2, 2)), (3, 2))}


@pytest.fixture(autouse=True)
def kernels_run(with_kernels):
    before = HostKernel.launches
    yield
    assert HostKernel.launches > before or not isinstance(with_kernels, FakeCupy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_and_affine_maps_per_channel(shape, dtype, with_kernels):
    put = with_kernels.asarray
    x, y = noise(0, shape, dtype), noise(1, shape, dtype)
    C = shape[1] if len(shape) == 3 else shape[2]
    gain, shift = noise(2, C), noise(3, C)
    for found, wanted in zip(norm.sum_and_dot(put(x), put(y)), norm.sum_and_dot(x, y), strict=True):
        assert found.dtype == np.float64
        close(found.get().astype(dtype), wanted.astype(dtype), x.size, scale=x.size ** 0.5)
    close(norm.channel_sum(put(x)).get().astype(dtype), norm.channel_sum(x).astype(dtype), x.size, scale=x.size ** 0.5)
    found = norm.affine(put(x), put(gain), put(shift))
    assert found.dtype == dtype
    close(found.get(), norm.affine(x, gain, shift), 4, scale=10)


def test_sums_are_taken_in_float64_and_in_one_order(with_kernels):
    x = (1 + noise(0, (1, 64, 2, 33, 16)) / 8).astype(np.float32)
    X = with_kernels.asarray(x)
    total, squares = (to_host(v) for v in norm.sum_and_dot(X, X))
    exact = x.astype(np.float64)
    assert np.abs(total / exact.sum(axis=(0, 1, 3, 4)) - 1).max() < 1e-13
    assert np.abs(squares / (exact ** 2).sum(axis=(0, 1, 3, 4)) - 1).max() < 1e-13
    again = norm.sum_and_dot(X, X)
    assert to_host(again[0]).tobytes() == total.tobytes() and to_host(again[1]).tobytes() == squares.tobytes()


def batch_norm_step(device, shape, dtype, offset, mode="train"):
    net = Sequential(dense=Dense(shape[0]), norm=L.BatchNorm()) if len(shape) == 1 else \
        Sequential(conv=L.Conv2d(shape[2], 1), norm=L.BatchNorm())
    net.build(shape, 0, dtype, device)
    layer, put = net.layers[1], net.device.put
    layer.scale.value[...], layer.shift.value[...] = put(noise(4, shape[-1:], dtype)), put(noise(5, shape[-1:], dtype))
    inside = (1, shape[0], 9) if len(shape) == 1 else (1, shape[0], shape[2], shape[1], 9)
    x, d = (3 * noise(6, inside) + offset).astype(dtype), noise(7, inside, dtype)
    tape = Tape(net, mode=mode)
    y = layer.forward(put(x), tape)
    dx, tangent = layer.backward(put(d), tape), layer.tangent(put(d), tape.walk(up=True))
    unseen = layer.forward(put(x))                      # with running statistics
    arrays = y, dx, tangent, layer.scale.grad, layer.shift.grad, layer.mean, layer.variance, unseen
    return [to_host(a).astype(dtype) for a in arrays]


@pytest.mark.parametrize("mode", ["train", "probe"])
@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("shape", [(6,), (4, 5, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_up_and_down(shape, dtype, offset, mode, with_kernels):
    wanted = batch_norm_step("cpu", shape, dtype, offset, mode)
    for found, want in zip(batch_norm_step("gpu", shape, dtype, offset, mode), wanted, strict=True):
        close(found, want, 2 ** 8 if offset == 0 else 2 ** 18, scale=1)     # x itself is rounded at 1000


def test_batch_norm_of_float32_needs_no_centring(with_kernels):
    """A mean of 10,000 deviations: what is left is what rounding x itself costs, not its square."""
    x = (1e4 + noise(0, (1, 8, 3, 8, 16))).astype(np.float32)
    exact = x.astype(np.float64)
    z = exact - exact.mean(axis=(0, 1, 3, 4), keepdims=True)
    z /= np.sqrt((z * z).mean(axis=(0, 1, 3, 4), keepdims=True) + 1e-5)
    ones = with_kernels.asarray(np.ones(3, np.float32))
    found, centre, inverse = fused.normalise(with_kernels.asarray(x), ones, ones * 0, 1e-5)
    assert np.abs(found.get() - z).max() < 1e-6


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pooling_up_and_down_to_the_bit(name, dtype, ties, with_kernels):
    window, put, x = MAPS[name], with_kernels.asarray, noise(0, (2, 6, 3, 8, 5), dtype)
    x = np.sign(x) if ties else x
    y = pool.max_forward(x, window)
    d = np.round(8 * noise(1, y.shape)).astype(dtype)   # whole, so that sums agree to the bit
    X, Y = put(x), pool.max_forward(put(x), window)
    assert np.array_equal(Y.get(), y)
    found = pool.max_backward(put(d), pool.winners(X, Y, window), window)
    assert np.array_equal(found.get(), pool.max_backward(d, (x, y), window))
    assert np.array_equal(found.get(), pool.max_backward(d, pool.winners(x, y, window), window))


def test_max_pooling_passes_on_what_is_not_a_number(with_kernels):
    x = noise(0, (1, 4, 1, 4, 2))
    x[0, 0, 0, 1, 0] = np.nan
    assert np.array_equal(pool.max_forward(with_kernels.asarray(x), MAPS["tiles"]).get(),
                          pool.max_forward(x, MAPS["tiles"]), equal_nan=True)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", [*MAPS, "same"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_windows_are_the_plain_bodys_to_the_bit(name, dtype, groups, with_kernels):
    window = MAPS.get(name, Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)))
    x = noise(0, (6, 4, 8, 5), dtype)
    X = with_kernels.asarray(x)
    assert np.array_equal(conv.windows(X, window, groups).get(), conv.windows(x, window, groups))
    band = slice(1, window.out(6, 8)[0])
    assert np.array_equal(conv.windows(X, window, groups, band).get(), conv.windows(x, window, groups, band))


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_locally_connected_layers_to_the_bit(name, dtype, samples, with_kernels):
    window, put, shape = MAPS[name], with_kernels.asarray, (samples, 6, 3, 8, 5)
    def whole(seed, shape):
        return np.random.default_rng(seed).integers(-3, 4, shape).astype(dtype)
    h, w = window.out(6, 8)
    K = window.kernel[0] * window.kernel[1] * 3
    x, W, d = whole(0, shape), whole(1, (h, w, 4, K)), whole(2, (samples, h, 4, w, 5))
    X, V, D = put(x), put(W), put(d)
    assert np.array_equal(local.apply(X, V, window).get(), local.apply(x, W, window))
    assert np.array_equal(local.outer(X, D, window).get(), local.outer(x, d, window))
    assert np.array_equal(local.adjoint(D, V, shape, window).get(), local.adjoint(d, W, shape, window))
    room = put(np.full(W.shape, 9, dtype))
    assert local.outer(X, D, window, room) is room and np.array_equal(room.get(), local.outer(x, d, window))


ACTIVATIONS = [L.ReLU(), L.LeakyReLU(0.3), L.LeakyReLU(1), L.ELU(), L.ELU(np.float32(0.7)), L.Tanh(), L.Sigmoid(),
               L.Clip(0.5, -0.5, 0.5), L.SteepSigmoid()]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_in_c_are_those_in_python(layer, dtype, with_kernels):
    x, d = noise(0, (1, 5, 301), dtype), noise(1, (1, 5, 301), dtype)
    x[0, 0, :9] = 0
    y = layer.f(x)
    found = layer.times_slope(with_kernels.asarray(d), with_kernels.asarray(y))
    assert found.dtype == dtype
    close(found.get(), layer.times_slope(d, y), 4, scale=5)


OPTIMISERS = {
    "plain": (SGD, {"lr": 0.1}), "decay": (SGD, {"lr": 0.1, "decay": 0.03}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "decay": 0.03}),
    "nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "decay": 0.03, "decay_bias": False}),
    "decoupled": (SGD, {"lr": 0.1, "momentum": 0.5, "decoupled": True, "decay": 0.3}),
    "spared": (SGD, {"lr": 0.1, "momentum": 0.5, "decoupled": True, "decay": 0.3, "decay_bias": False}),
    "adam": (Adam, {"lr": 0.01, "decay": 0.1}), "adam spared": (Adam, {"lr": 0.01, "decay": 0.1, "decay_bias": False}),
    "adamw": (AdamW, {"lr": 0.01, "decay": 0.1}), "adamw spared": (AdamW, {"decay": 0.1, "decay_bias": False})}


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_optimisers_move_as_their_plain_bodies(name, dtype, with_kernels):
    kind, options = OPTIMISERS[name]
    ends = []
    for device in ("cpu", "gpu"):
        net = Sequential(fc1=Dense(9), fc2=Dense(5)).build((6,), 0, dtype, device)
        optimiser = kind(net.arena, **options)
        for step in range(4):
            net.arena.grad[...] = net.device.put(noise(step, net.arena.grad.shape, dtype))
            optimiser.step()
        ends.append([to_host(a) for a in (net.arena.value, *optimiser.slots.values())])
    for found, wanted in zip(*reversed(ends), strict=True):
        close(found, wanted, 16, scale=1)


def test_a_step_over_the_arena_is_one_launch(monkeypatch, with_kernels):
    started = []
    run = launch.run
    monkeypatch.setattr("nplearn.kernels.gpu.optim.run", lambda *a: (started.append(a[1]), run(*a)))
    for kind in (SGD, Adam, AdamW):
        net = Sequential(Dense(900), Dense(300)).build((600,), 0, np.float32, "gpu")
        kind(net.arena, lr=0.1).step()
    assert started == ["sgd", "adam", "adam"]


def test_plain_bodies_serve_where_they_are_asked_for(monkeypatch, with_kernels):
    x = with_kernels.asarray(np.ones((1, 2, 3)))
    assert launch.serves(x) and not launch.serves(x, x.astype("float32")) and not launch.serves(x.astype("int64"))
    assert not launch.serves(x[:0])
    norm.sum_and_dot(x, x)
    monkeypatch.setattr(launch, "PLAIN", True)
    assert not launch.serves(x)

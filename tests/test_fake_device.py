"""One step of several nets through `array_module`, on arrays that no NumPy function and no NumPy array may meet."""
import sys

import numpy as np
import pytest

from nplearn import layers as L
from nplearn.backend import array_module
from nplearn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError
from nplearn.nets import lenet, mlp
from nplearn.tape import Tape
from nplearn.testing.strategies import noise
from tests.fake_device import FakeCupy, crossings, ndarray
from tests.helpers import close


@pytest.fixture
def cupy(monkeypatch):
    module = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def everything():
    return L.Sequential(
        conv=L.Conv2d(4, 3, stride=2, groups=2), norm=L.BatchNorm(), act=L.ELU(), drop=L.Dropout(0.3),
        block=L.Residual(c1=L.Conv2d(4, 3), act=L.LeakyReLU(), c2=L.Conv2d(4, (2, 3), bias=False)),
        pool=L.AvgPool2d(2, 1), local=L.LocallyConnected2d(3, 2), act2=L.Sigmoid(), flatten=L.Flatten(), fc=L.Dense(6),
        act3=L.Tanh(), norm2=L.BatchNorm(), back=L.Reshape((1, 2, 3)), mean=L.GlobalAvgPool(), out=L.Dense(4))


NETS = {"mlp": (lambda: mlp(4, (7, 6)), (5, 4, 2)), "lenet grey": (lambda: lenet(4, 1, 28), (28, 28, 1)),
        "lenet colour": (lambda: lenet(4, 3, 22), (22, 23, 3)), "everything": (everything, (7, 6, 4))}


def test_the_stand_in_refuses_what_a_gpu_refuses(cupy):
    x, host = cupy.asarray(np.ones(3)), np.ones(3)
    assert array_module(x) is cupy and isinstance(x + x, ndarray) and float(x * 2 @ x) == 6
    mistakes = {"x + host": lambda: x + host, "host + x": lambda: host + x, "np.exp": lambda: np.exp(x),
                "np.asarray": lambda: np.asarray(x), "cupy.exp(host)": lambda: cupy.exp(host),
                "np.concatenate": lambda: np.concatenate([x, x]), "x[0] = host": lambda: x.__setitem__(0, host),
                "x += host": lambda: x.__iadd__(host), "np.vdot": lambda: np.vdot(x, x)}
    for name, mistake in mistakes.items():
        try:
            mistake()
        except TypeError:
            continue
        pytest.fail(f"{name} was let through")


def test_what_crosses_over_is_counted(cupy):
    crossings.clear()
    x = cupy.asarray(np.arange(3.0))
    float(x[0]), int(x[1]), bool(x[2] > 1), x.get()
    assert crossings == {"put": 1, "float": 1, "int": 1, "bool": 1, "get": 1}
    assert not hasattr(cupy, "vecdot") and not hasattr(cupy, "RawKernel") and not hasattr(cupy.cuda, "cublas")
    assert not hasattr(x, "item") and not hasattr(x, "tolist")


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), SquaredError(), SigmoidCrossEntropy()],
                         ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("name", NETS)
def test_a_step_never_leaves_the_device_and_ends_where_the_hosts_does(name, loss, cupy):
    make, in_shape = NETS[name]
    x, labels = noise(0, (8, *in_shape)), np.arange(8) % 4
    gradients = []
    for device in ("cpu", "gpu"):
        net = make().build(in_shape, 3, np.float64, device)
        tape = Tape(net, loss).begin(x, labels, seed=5)
        value = tape.run()
        net.backward(tape.error, tape)
        net.tangent(tape.input, tape.walk(up=True))
        held = net.arena.grad
        assert isinstance(held, ndarray) == isinstance(tape.output, ndarray) == (device == "gpu")
        gradients.append((value, held.get() if device == "gpu" else held.copy(), net.predict(x)))
    (v, g, y), (value, gradient, output) = gradients
    assert value == pytest.approx(v, rel=1e-12)
    close(gradient, g, 10 ** 5, scale=1)
    close(output, y, 10 ** 5, scale=1)
    assert g.any()

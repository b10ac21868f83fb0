"""Every kernel is CUDA C++ that NVIDIA's own compiler takes, in both precisions; that needs CuPy and no GPU."""
import numpy as np
import pytest

from nplearn import layers as L
from nplearn.kernels.gpu import activation, columns, launch, local, norm, optim, pool

SLOPES = [L.ReLU(), L.LeakyReLU(), L.ELU(2), L.Tanh(), L.Sigmoid(), L.Clip(), L.SteepSigmoid()]
SOURCES = {**{module.__name__.rpartition(".")[2]: module.SOURCE for module in (columns, local, norm, optim, pool)},
           **{type(layer).__name__: activation.in_c(layer) for layer in SLOPES}}


@pytest.mark.parametrize("architecture", ["75", "90"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SOURCES)
def test_every_kernel_compiles(name, dtype, architecture):
    pytest.importorskip("cupy")
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", exc_type=ImportError)
    code = launch.code(SOURCES[name], np.dtype(dtype))
    program = nvrtc.createProgram(code, f"{name}.cu", (), ())
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture=compute_{architecture}", "-std=c++14"))
    except Exception as error:                          # CuPy's NVRTCError does not say what is wrong
        raise AssertionError(nvrtc.getProgramLog(program)) from error
    assert "__global__" in code and "WINDOW" not in code and "SLOPE" not in code

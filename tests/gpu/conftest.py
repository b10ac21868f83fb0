"""The devices that these tests run on: stand-ins for CuPy, and under the marker `gpu` CuPy itself.

    plain      nothing but NumPy's functions: the plain bodies, and what crosses from device to host
    cublas     and strided batches of products, on bare memory
    kernels    and our kernels, where there is a C++ compiler
    cupy       the real thing
"""
import os
import sys

import pytest

from nplearn.kernels.gpu import gemm, launch
from tests.fake_device import FakeCupy
from tests.gpu.host_kernels import COMPILER, HostKernel


def pytest_collection_modifyitems(items):
    """CuPy from a wheel warns that it found no toolkit, and then needs none."""
    for item in items:
        if "tests/gpu" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore:CUDA path could not be detected"))


def device(name, monkeypatch):
    """The module that stands for CuPy, or a skip; with a stand-in `Device("gpu")` finds it."""
    monkeypatch.setattr(gemm, "TF32", False)
    if name == "cupy":
        assert os.environ.get("CUPY_TF32", "0") == "0", "three digits are no test: unset CUPY_TF32"
        cupy = pytest.importorskip("cupy")
        try:
            found = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            pytest.skip(f"no GPU: {error}")
        if not found:
            pytest.skip("no GPU")
        return cupy
    if name == "kernels" and COMPILER is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(launch, "PLAIN", False)
    module = FakeCupy(cublas=name != "plain", kernels=HostKernel if name == "kernels" else None)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


REAL = pytest.param("cupy", marks=pytest.mark.gpu)


@pytest.fixture(params=["cublas", REAL])
def with_cublas(request, monkeypatch):
    return device(request.param, monkeypatch)


@pytest.fixture(params=["kernels", REAL])
def with_kernels(request, monkeypatch):
    return device(request.param, monkeypatch)


@pytest.fixture(params=["plain", "cublas", "kernels", REAL])
def any_device(request, monkeypatch):
    return device(request.param, monkeypatch)

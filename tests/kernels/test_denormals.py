"""The processor's flush of denormals, each case in a process of its own."""
import os
import platform
import subprocess
import sys

import pytest

HERE = sys.platform == "linux" and platform.machine() == "x86_64"
PRODUCT = "float((np.array([1e-30], np.float32) * np.array([1e-10], np.float32))[0])"       # 1e-40: a denormal


def answer(code, **environment):
    """What a fresh Python prints for the code, as words."""
    env = {k: v for k, v in os.environ.items() if k != "NPLEARN_DENORMALS"} | environment
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


needs_x86 = pytest.mark.skipif(not HERE, reason="the control register is that of x86-64 under glibc")


@needs_x86
def test_a_product_of_small_numbers_is_zero_once_nplearn_is_imported():
    code = f"import nplearn; import numpy as np; from nplearn.kernels import denormals as d; print(d.state, {PRODUCT})"
    assert answer(code) == ["flushed", "0.0"]


def test_the_environment_can_keep_denormals():
    code = f"import nplearn; import numpy as np; from nplearn.kernels import denormals as d; print(d.state, {PRODUCT})"
    state, product = answer(code, NPLEARN_DENORMALS="keep")
    assert state == "kept" and 0 < float(product) < 1.2e-38


@needs_x86
def test_numpy_imported_first_is_late_for_its_threads_and_in_time_for_this_one():
    code = f"import numpy as np; import nplearn; from nplearn.kernels import denormals as d; print(d.state, {PRODUCT})"
    assert answer(code) == ["late", "0.0"]

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


FORTY_EPOCHS = """
import time
import nplearn
import numpy as np
from nplearn import SoftmaxCrossEntropy, Tape
from nplearn.kernels.threads import use_threads
from nplearn.nets import mlp
from nplearn.optim import SGD
from nplearn.rules.registry import make
use_threads(1, False)
net = mlp(10, (200, 100)).build((784,), seed=0)
optimiser, rule = SGD(net.arena, lr=0.01, momentum=0.9), make("fa").attach(net, 0)
tape = Tape(net, SoftmaxCrossEntropy())
rng = np.random.default_rng(0)
inputs, labels = rng.random((64, 784), np.float32), rng.integers(10, size=64)
def epoch(steps=40):
    taken = []
    for _ in range(steps):
        start = time.perf_counter()
        tape.begin(inputs, labels)
        tape.run()
        rule.assign(net, tape)
        optimiser.step()
        taken.append(time.perf_counter() - start)
    return min(taken)
first = min(epoch() for _ in range(5))
net.layers[1].bias.value[:150] = -100                   # three units of four die; their momentum is left to decay
later = [epoch() for _ in range(40)]
velocity = optimiser.slots["momentum"]
tiny = (velocity != 0) & (abs(velocity) < np.finfo(np.float32).tiny)
print(first, min(later[-5:]), int(tiny.sum()))
"""


@needs_x86
@pytest.mark.long
def test_a_net_with_dead_units_keeps_its_step_time_through_forty_epochs():
    """Flushed there are none and the time stays; kept, the same run ends with many (what they cost is the processor's
    affair: from nothing to a hundredfold)."""
    first, last, denormals = map(float, answer(FORTY_EPOCHS))
    assert denormals == 0 and last < 1.3 * first
    _, _, kept = map(float, answer(FORTY_EPOCHS, NPLEARN_DENORMALS="keep"))
    assert kept > 1000

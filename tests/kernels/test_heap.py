"""The heap keeps what a step frees: page faults of a second round of large arrays, each case in its own process."""
import os
import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource
import nplearn
import numpy as np
from nplearn.kernels import heap
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def rounds(n):
    for _ in range(n):
        arrays = [np.ones(500_000) for _ in range(8)]
rounds(3)
before = faults()
rounds(5)
print(heap.keep(), faults() - before)
"""


def run(**environment):
    found = subprocess.run([sys.executable, "-c", ROUNDS], env={**os.environ, **environment}, text=True,
                           capture_output=True, check=True)
    took, faults = found.stdout.split()
    return took == "True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc's allocator")
def test_a_second_round_finds_its_pages_unless_the_environment_says_otherwise():
    took, faults = run()
    left, many = run(NPLEARN_HEAP="system")
    assert not left
    if platform.libc_ver()[0] == "glibc":
        assert took and faults < 200 and faults < many

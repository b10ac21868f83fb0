import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.backend import Device, array_module, like, permutation, stream, to_host
from nplearn.errors import BuildError, CheckpointError, DataError, NplearnError, SettingError, TrainingError
from nplearn.testing.strategies import seeds

# -- named draws -------------------------------------------------------------------------------------------------------
# The pinned numbers are part of what a seed means: they may never change, with whatever release of NumPy.

def test_streams_are_pinned():
    assert stream(0, "weight", "fc1").bit_generator.random_raw(3).tolist() == [
        1396153501267561768, 11340672489783861594, 13190371979996832628]
    assert stream((7, 3), "pass", "conv1", 0).bit_generator.random_raw(2).tolist() == [
        2681249469738002773, 5445568159368224326]


def test_permutations_are_pinned():
    assert permutation(0, "order", 3, n=10).tolist() == [8, 7, 2, 9, 6, 5, 4, 3, 1, 0]
    assert permutation(5, n=12).tolist() == [4, 2, 7, 9, 8, 0, 6, 11, 5, 3, 1, 10]


@given(seeds(), st.integers(0, 300))
def test_a_permutation_has_every_index_once(seed, n):
    assert sorted(permutation(seed, "order", n=n)) == list(range(n))


def test_a_stream_depends_on_its_key_and_not_on_what_was_drawn_before():
    alone = stream(1, "b").random(5)
    stream(1, "a").random(1000)
    assert np.array_equal(stream(1, "b").random(5), alone)
    keys = [(1, "b"), (1, "c"), (2, "b"), (1, "b", 0), (1,), ((1, "b"),), (1, "bc"), (1, "b", "c"), ("1", "b"), (12,),
            (1, 2)]
    draws = {tuple(stream(*key).random(2)) for key in keys}
    assert len(draws) == len(keys)


def test_a_key_read_back_from_a_log_or_from_numpy_draws_the_same():
    wanted = stream((3, 4), "a", 5).random()
    assert stream([3, 4], "a", 5).random() == wanted
    assert stream((np.int64(3), np.uint8(4)), np.str_("a"), np.int32(5)).random() == wanted
    with pytest.raises(TypeError):
        stream(0.5, "a")


@pytest.mark.parametrize("n", [2, 7])
def test_permutations_of_all_seeds_are_spread_evenly(n):
    first = np.bincount([permutation(seed, "order", n=n)[0] for seed in range(2000)], minlength=n)
    assert np.abs(first - 2000 / n).max() < 5 * (2000 / n) ** 0.5


# -- arrays and devices ------------------------------------------------------------------------------------------------

def test_host_arrays_are_numpys_and_go_nowhere():
    x = np.ones(3)
    assert array_module(x) is np and to_host(x) is x and like(x, np.zeros(2)) is x
    assert Device().put(x) is x and Device("cpu").xp is np


@pytest.mark.parametrize("name", ["tpu", "", "CPU", "cpu:0", "cpu:", "gpu:", "gpu:x", "gpu:-1", "gpu:1.5", "gpu:0:1",
                                  "gpu:²"])
def test_a_device_that_does_not_exist_is_refused(name):
    with pytest.raises(SettingError, match="cpu, gpu or gpu:N"):
        Device(name)


@pytest.mark.parametrize("name", ["gpu", "gpu:0", "gpu:3"])
def test_without_cupy_the_gpu_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)      # an import of it fails
    with pytest.raises(SettingError, match=r"CuPy is not installed.*\.\[gpu12\].*\.\[gpu13\]"):
        Device(name)


class Cupy:
    """As much of CuPy as finding a device asks for."""

    ndarray = type("ndarray", (), {})

    def __init__(self, count):
        def devices():
            if isinstance(count, Exception):
                raise count
            return count
        self.used = []
        device = type("Device", (), {"__init__": lambda this, index: setattr(this, "index", index),
                                     "use": lambda this: self.used.append(this.index)})
        self.cuda = type("cuda", (), {"runtime": type("runtime", (), {"getDeviceCount": staticmethod(devices)}),
                                      "Device": device})


def test_a_gpu_is_chosen_by_its_index(monkeypatch):
    cupy = Cupy(2)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert Device("gpu:1").xp is cupy and Device("gpu").index == 0 and cupy.used == [1, 0]
    with pytest.raises(SettingError, match=r"2 GPU\(s\).*an index below 2"):
        Device("gpu:2")


def test_a_missing_driver_is_said_in_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", Cupy(RuntimeError("no CUDA-capable device")))
    with pytest.raises(SettingError, match="no usable GPU.*no CUDA-capable device.*nvidia-smi"):
        Device("gpu")


# -- errors ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [NplearnError, BuildError, SettingError, DataError, CheckpointError, TrainingError])
def test_an_error_says_where_what_was_found_what_was_expected_and_what_to_do(kind):
    parts = "fc2", "a 10 x 512 matrix", "512 x 512", "attach after build()"
    error = kind(*parts)
    assert str(error) == "fc2: a 10 x 512 matrix; expected 512 x 512; attach after build()."
    assert (error.where, error.got, error.expected, error.do) == parts
    again = error.__reduce__()
    assert str(again[0](*again[1])) == str(error) and isinstance(error, NplearnError)

"""Whether a run may go on from a checkpoint, and what its bits depend on. Oracle: sentences worked out by hand."""
import doctest
import json
import types

import numpy as np
import pytest
import threadpoolctl

from nplearn import resume
from nplearn.errors import CheckpointError
from nplearn.kernels.gpu import gemm, launch
from nplearn.resume import compare, compare_settings, copy_into, record_differences, run_record


def test_every_difference_between_arrays_is_reported_at_once():
    expected = {"a": np.zeros((2, 3), np.float32), "b": ((4,), np.float64), "c": np.zeros(1), "d": np.zeros(())}
    compare(expected, {"a": ((2, 3), "f4"), "b": np.zeros(4), "c": np.ones(1), "d": np.ones(())}, "run.npz")
    with pytest.raises(CheckpointError) as caught:
        compare(expected, {"a": ((3, 2), "f4"), "b": np.zeros(4, "f4"), "d": np.zeros(1), "e": np.zeros(1)}, "run.npz")
    assert caught.value.where == "run.npz" and caught.value.got.split(", ") == [
        "a is 3 x 2 float32 instead of 2 x 3 float32", "b is 4 float32 instead of 4 float64", "c is missing",
        "d is 1 float64 instead of 0-d float64", "e is surplus"]


def test_every_difference_between_settings_is_reported_at_once():
    expected = {"net": {"name": "lenet", "sizes": (3, 4)}, "rate": float("nan"), "log": {"every": 1}, "seed": 0}
    found = json.loads(json.dumps(expected))
    compare_settings(expected, found, "run.npz")
    found |= {"net": {"name": "mlp", "sizes": [3, 5]}, "log": {"every": 2, "to": "x"}, "logs": 1}
    del found["seed"]
    with pytest.raises(CheckpointError) as caught:
        compare_settings(expected, found, "run.npz", ignore=["log"])
    assert caught.value.got == ("net.name is mlp instead of lenet, net.sizes is [3, 5] instead of [3, 4], "
                                "seed is missing, logs is surplus")
    compare_settings(expected, found, "run.npz", ["net.name", "net.sizes", "log.every", "log.to", "logs", "seed"])


def test_arrays_are_copied_in_place_all_or_none():
    one, two = np.zeros((2, 3), np.float32), np.zeros((3, 4)).T
    arrays = {"net/one": np.random.default_rng(1).normal(size=(2, 3)).astype("f4"),
              "net/two": np.arange(12.0).reshape(4, 3), "net2/x": np.zeros(1)}
    copy_into({"one": one, "two": two}, arrays, "net/")
    assert one.tobytes() == arrays["net/one"].tobytes() and np.array_equal(two, arrays["net/two"])
    one[...] = 7
    with pytest.raises(CheckpointError, match="net/three is missing, net/two is surplus"):
        copy_into({"one": one, "three": two}, arrays, "net/")
    assert np.all(one == 7)


def test_the_record_names_what_bits_depend_on():
    with threadpoolctl.threadpool_limits(1):
        then = run_record()
    with threadpoolctl.threadpool_limits(2):
        now = run_record()
    assert then == json.loads(json.dumps(then)) and then["numpy"] == np.__version__ and then["device"] == "cpu"
    assert record_differences(then, then) == []
    assert record_differences(then, now) == ["BLAS threads was 1 and is now 2"]
    assert record_differences({"a": 1}, {"b": 2}) == ["a was 1 and is now absent", "b was absent and is now 2"]


def test_the_record_of_a_gpu_names_it_and_its_switches(monkeypatch):
    monkeypatch.setattr(gemm, "TF32", False)
    monkeypatch.setattr(launch, "PLAIN", False)
    monkeypatch.delenv("CUPY_TF32", raising=False)
    runtime = types.SimpleNamespace(getDeviceProperties=lambda index: {"name": b"GPU %d" % index},
                                    runtimeGetVersion=lambda: 12080)
    cupy = types.SimpleNamespace(__version__="13.4", cuda=types.SimpleNamespace(runtime=runtime))
    record = run_record(types.SimpleNamespace(xp=cupy, index=1))
    assert (record["device"], record["cupy"], record["CUDA"]) == ("GPU 1", "13.4", 12080)
    assert record_differences(record, {**record, "device": "GPU 2"}) == ["device was GPU 1 and is now GPU 2"]
    for module, name in ((gemm, "TF32"), (launch, "PLAIN")):
        monkeypatch.setattr(module, name, not getattr(module, name))
    monkeypatch.setenv("CUPY_TF32", "1")
    then, now = record, run_record(types.SimpleNamespace(xp=cupy, index=1))
    assert now == json.loads(json.dumps(now))
    assert record_differences(then, now) == [
        "NPLEARN_TF32 was False and is now True", "NPLEARN_KERNELS was own and is now plain",
        "CUPY_TF32 was 0 and is now 1"]
    assert not any("TF32" in key or "KERNELS" in key for key in run_record())


def test_the_examples_in_the_docstrings_are_true():
    failed, ran = doctest.testmod(resume)
    assert failed == 0 and ran > 3

"""The benchmark: what it counts, how it takes turns, what it says of a race. No test reads a clock's verdict."""
import importlib
import importlib.util
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from nplearn import SoftmaxCrossEntropy
from nplearn.cli import guarded
from nplearn.errors import SettingError
from nplearn.layers import Conv2d, Flatten, MaxPool2d, ReLU, Sequential, weighted
from nplearn.metrics.cost import cost
from nplearn.nets import mlp
from nplearn.rules import Backprop

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLES = os.path.join(ROOT, "examples")


@pytest.fixture(autouse=True)
def as_a_script_finds_them(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


def module(name):
    return importlib.import_module(name)


def params(net):
    return sum(p.value.size for layer in weighted(net) for p in layer.params().values())


# -- nets and steps ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "millions"), [
    ("mlp", 128 * (2 * 784 + 3 * 1000 + 3 * 10) * 1000 / 1e6), ("small8", 8 * (2 * 784 + 3 * 10) * 100 / 1e6),
    ("lenet", 128 * (2 * 28**2 * 6 * 75 + 3 * (100 * 16 * 150 + 400 * 120 + 120 * 84 + 840)) / 1e6)])
def test_multiply_adds_are_those_counted_by_hand(name, millions):
    ours = module("benchmark_ours")
    net = ours.BUILD[name]().build(ours.NETS[name].shape)
    assert ours.multiply_adds(net, ours.NETS[name].batch) == pytest.approx(1e6 * millions, rel=1e-12)


@pytest.mark.parametrize(("make", "shape"), [
    (lambda: mlp(10, (6, 5)), (7,)),
    (lambda: Sequential(Conv2d(4, 3, 2, groups=2), ReLU(), MaxPool2d(2), Conv2d(6, 1, padding=1), Flatten(),
                        mlp(10, (3,))), (9, 8, 2)),
    (lambda: module("benchmark_ours").stage(4), (6, 5, 4))])
def test_multiply_adds_are_those_seen_in_a_step(make, shape):
    net, rng = make().build(shape), np.random.default_rng(0)
    batch = rng.normal(size=(3, *shape)).astype(np.float32), rng.integers(10, size=3)
    seen = cost(net, Backprop().attach(net), SoftmaxCrossEntropy(), *batch)
    assert module("benchmark_ours").multiply_adds(net, 3) == seen.total.multiply_adds


def test_a_piece_is_asked_for_the_error_at_its_input_and_learns():
    ours = module("benchmark_ours")
    for net, shape, bare in ((Sequential(Conv2d(3, 3)), (6, 5, 2), True), (ours.stage(4), (6, 5, 4), False)):
        net.build(shape)
        first, asked = weighted(net)[0], []
        adjoint, before = first.adjoint, net.arena.value.copy()
        first.adjoint = lambda d, W, shape, asked=asked, adjoint=adjoint: asked.append(shape) or adjoint(d, W, shape)
        step, work = ours.piece_step(net, 4, bare=bare)
        step()
        assert len(asked) == 1 and np.prod(asked[0]) == 4 * np.prod(shape)
        assert all((p.grad != 0).any() for layer in weighted(net) for p in layer.params().values())
        assert (net.arena.value != before).any() and work == ours.multiply_adds(net, 4)


@pytest.mark.parametrize("rule", ["fa", "kp", "usf", "brsf", "frsf", "pfa-o"])
def test_a_bare_layer_carries_its_error_by_the_rules_feedback(rule):
    net = Sequential(Conv2d(3, 3)).build((6, 5, 2))
    step, _ = module("benchmark_ours").piece_step(net, 4, rule)
    step()
    assert net.layers[0].feedback is not net.layers[0].exact


def test_batches_of_several_sizes_are_updates_of_one_step():
    net, ours = mlp(10, (6,)).build((7,)), module("benchmark_ours")
    step, work = ours.whole_step(net, (5, 3))
    updates, start = [], net.arena.value.copy()
    outer = net.layers[1].outer
    net.layers[1].outer = lambda x, *rest, **how: updates.append(x.size // 7) or outer(x, *rest, **how)
    step()
    assert updates == [5, 3] and work == ours.multiply_adds(net, 8) and (net.arena.value != start).any()


def as_pytorch_has_it(value, like):
    """A Param's value with PyTorch's axes: channels before positions, also within what was flattened or unfolded."""
    if value.ndim == like.ndim == 4:
        return value.transpose(0, 3, 1, 2)
    if like.shape == (64, 128, 1600):
        return value.reshape(64, 128, 25, 64).swapaxes(2, 3).reshape(like.shape)
    if like.shape == (64, 128):
        return value[..., 0].swapaxes(1, 2).reshape(like.shape)
    if like.shape == (120, 400):
        return value.reshape(120, 5, 16, 5).swapaxes(1, 2).reshape(like.shape)
    return value.reshape(like.shape)


@pytest.mark.torch
def test_pytorchs_nets_compute_the_same():
    torch, ours, rng = pytest.importorskip("torch"), module("benchmark_ours"), np.random.default_rng(0)
    for name, (shape, *_) in ours.NETS.items():
        net, theirs = ours.BUILD[name]().build(shape), module("benchmark_rivals").torch_model(name).eval()
        assert len(net.arena.params) == len(list(theirs.parameters()))
        with torch.no_grad():
            for mine, their in zip(net.arena.params, theirs.parameters(), strict=True):
                if mine.kind != "weight":
                    mine.value[...] = rng.uniform(0.5, 1.5, mine.value.shape)
                their[...] = torch.from_numpy(np.array(as_pytorch_has_it(mine.value, their)))
            x = rng.normal(size=(2, *shape)).astype(np.float32)
            y, yours = net.predict(x), theirs(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy()
        np.testing.assert_allclose(np.moveaxis(y, -1, 1), yours, atol=1e-4 * abs(y).max(), err_msg=name)   # deep nets


@pytest.mark.torch
def test_a_pytorch_process_imports_nothing_of_nplearn():
    pytest.importorskip("torch")
    code = ("import sys, benchmark_worker; step, _ = benchmark_worker.make('torch', 'conv64', 'channels_last', 1); "
            "print([name for name in sys.modules if name.startswith('nplearn')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([EXAMPLES, ROOT])})
    assert done.returncode == 0 and done.stdout == "[]\n", done.stderr


@pytest.mark.torch
def test_biotorch_takes_a_step_in_each_of_its_modes():
    pytest.importorskip("biotorch.module.biomodule")
    rivals, nets = module("benchmark_rivals"), module("benchmark_nets")
    for mode in nets.BIOTORCH:
        rivals.biotorch_step(mode, 1)()


# -- taking turns -----------------------------------------------------------------------------------------------------

RIVAL = """
import time
from beside_it import seconds

def make(name):
    if name == "broken":
        raise KeyError("no\\nsuch")
    count = [0]
    def step():
        count[0] += 1
        print("noise")
        if name == "tired" and count[0] > 5:
            raise ValueError("enough")
        time.sleep(seconds[name])
    return step
"""


@pytest.fixture
def rival(tmp_path):
    """A file with rivals that sleep, which imports a file beside it; returns a function name -> Candidate."""
    (tmp_path / "rival.py").write_text(RIVAL)
    (tmp_path / "beside_it.py").write_text("seconds = {'quick': 0.002, 'slow': 0.02, 'tired': 0, 'a:b,c=1': 0}")
    return lambda name: module("benchmark_race").Candidate("also", str(tmp_path / "rival.py"), name)


def test_candidates_take_turns_and_the_slower_takes_longer(rival):
    run = module("benchmark_race").race([rival("quick"), rival("slow")], rounds=2, threads=1, patience=0)
    quick, slow = run.timings[rival("quick")], run.timings[rival("slow")]
    assert len(quick.seconds) == len(slow.seconds) == 2 and quick.best >= 0.002 and slow.best >= 0.02
    assert quick.work == 0 and quick.memory > 1 and run.refused == {} and run.quiet in (None, 0, 1, 2)


def test_who_may_refuse_is_left_out_and_who_may_not_is_an_error(rival):
    race = module("benchmark_race").race
    run = race([rival("quick"), rival("broken")], 1, 1, 0, optional={rival("broken")})
    assert list(run.timings) == [rival("quick")] and run.refused == {rival("broken"): r"KeyError: 'no\nsuch'"}
    with pytest.raises(SettingError, match=r"candidate rival.py:broken: KeyError: 'no\\nsuch'; expected one that runs"):
        race([rival("broken")], 1, 1, 0)
    with pytest.raises(SettingError, match="candidate rival.py:tired: ValueError: enough; expected one that runs"):
        race([rival("tired")], 3, 1, 0)


def test_a_process_that_ends_is_an_error_and_not_an_answer(rival, monkeypatch, tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text("print('ready 0', flush=True)\n")
    race = module("benchmark_race")
    monkeypatch.setattr(race, "WORKER", str(worker))
    with pytest.raises(SettingError, match="rival.py:quick: it stopped"):
        race.race([rival("quick")], 1, 1, 0)


def test_a_round_waits_until_the_processors_are_idle(monkeypatch, tmp_path):
    race = module("benchmark_race")
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 20 30 400 50 6 7 8 0 0\ncpu0 1\n")
    assert race.ticks(str(stat)) == (81, 531) and race.wait_for_quiet(0, str(stat)) is True
    assert race.wait_for_quiet(0, str(tmp_path / "none")) is None
    monkeypatch.setattr(race, "LOOK", 0)
    readings = iter([(0, 0), (9, 10), (20, 100), (20, 110)])
    monkeypatch.setattr(race, "ticks", lambda stat: next(readings))
    assert race.wait_for_quiet(60) is True and next(readings, None) is None, "the second look was a quiet one"
    readings = iter([(0, 0), (3, 10)])
    assert race.wait_for_quiet(0) is False


# -- what is said of a race -------------------------------------------------------------------------------------------

def test_the_table_gives_each_ratio_of_minima_its_median_and_its_range(capsys):
    race, benchmark = module("benchmark_race"), module("benchmark")
    mine, other, theirs = (race.Candidate(*c) for c in (("ours", "mlp", "backprop"), ("ours", "mlp", "fa"),
                                                        ("torch", "mlp", "default")))
    run = race.Race({benchmark.GEMM: race.Timing([1.0, 2.0, 3.0], 1, 10**11), mine: race.Timing([2, 3, 6], 80, 10**11),
                     other: race.Timing([1, 9, 3], 90, 10**11), theirs: race.Timing([4, 5, 6], 300, 0)},
                    {race.Candidate("ours", "mlp", "dfa"): "no room"}, 2)
    benchmark.tell("mlp", run, {theirs: (mine, theirs), mine: None, other: (other, mine)}, mine, {mine, theirs})
    said = capsys.readouterr().out.strip().splitlines()
    assert said[0].startswith("mlp: 100000.0 million multiply-adds a step, ours 64 samples a second, GEMM 200 Gflop/s; "
                              "2 of 3 rounds began on a")
    assert said[3:] == [
        "| PyTorch default | 4000.000 | backprop / PyTorch default | 0.50 | 0.60 | 0.50-1.00 | 25 | 300 |",
        "| backprop | 2000.000 | - | - | - | - | 50 | 80 |",
        "| fa | 1000.000 | fa / backprop | 0.50 | 0.50 | 0.50-3.00 | - | 90 |", "dfa does not run here: no room"]
    benchmark.NOISY = 0.1
    benchmark.tell("mlp", run, {theirs: (mine, theirs), mine: None, other: (other, mine)}, mine, {mine, theirs})
    assert capsys.readouterr().out.strip().endswith("differ by more than 10%: PyTorch default")


def test_a_race_end_to_end_writes_what_it_found(rival, tmp_path):
    out = tmp_path / "made" / "benchmark.json"
    done = subprocess.run(
        [sys.executable, os.path.join(EXAMPLES, "benchmark.py"), "--net", "small1", "--rules", "fa,fa", "--rounds", "1",
         "--patience", "0", "--threads", "1", "--json", str(out), *2 * ["--also", rival("quick").net + ":a:b,c=1"]],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT})
    assert done.returncode == 0 and done.stderr.replace("noise\n", "") == "", done.stderr
    assert done.stdout.count("\n| rival.py:a:b,c=1 |") == done.stdout.count("\n| fa |") == 1, "named twice, run once"
    found = json.loads(out.read_text())
    assert found["gemm_gflops"] > 0 and 0 < found["peak_share"]["small1"] < 1
    assert list(found["also"]) == ["rival.py:a:b,c=1"] and list(found["rules"]["small1"]) == ["fa"]
    here = {"small1"} if importlib.util.find_spec("torch") else set()
    assert set(found["ratios"]) == set(found["memory_ratio"]) == here and found["channels_last"] == {}
    assert found["biotorch"] == {} and all(value > 0 for value in found["also"].values())


@pytest.mark.parametrize(("options", "words"), [
    (["--nets", "vgg"], "--nets: 'vgg'; expected one of mlp, lenet"), (["--rules", "fb"], "rule: 'fb'"),
    (["--rounds", "0"], "--rounds: 0"), (["--rounds", "x"], "invalid int value: 'x'"),
    (["--threads", "0"], "--threads: 0"), (["--patience", "nan"], "--patience: nan"),
    (["--fast"], "unrecognized arguments: --fast"),
    (["--also", "rival.py:quick"], "--also: 0 nets named; expected one"),
    (["--nets", "mlp,lenet", "--also", "rival.py:quick"], "--also: 2 nets named"),
    (["--net", "mlp", "--also", "rival.py"], "expected FILE.py:NAME"),
    (["--net", "mlp", "--also", "nowhere.py:quick"], "no file nowhere.py"),
    (["--profile", "vgg"], "--profile: 'vgg'"), (["--profile", "mlp:fb"], "rule: 'fb'"),
    (["--growth", "growth.txt"], "--growth: 'growth.txt'; expected a name that ends in .png"),
    (["--json", "figures"], "--json: 'figures'")])
def test_wrong_options_are_refused_in_one_line(options, words, rival, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *options])
    with pytest.raises(SystemExit) as stop:
        guarded(module("benchmark").main)
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and said.startswith("error: ") and "\n" not in said and "; expected " in said
    assert words in said


# -- growth, odd sizes, profile ---------------------------------------------------------------------------------------

def test_the_slope_is_that_of_a_power_law_and_the_figure_is_drawn(tmp_path):
    growth, work = module("benchmark_growth"), np.array([1e6, 4e6, 9e6, 3e8])
    assert growth.slope(work, 3 * work**1.25) == pytest.approx(1.25, abs=1e-9)
    one = {"grows": "batch", "of": "a net", "sizes": [1, 4, 9, 300], "multiply_adds": list(work), "slope": 1.25,
           "ms": list(work**1.25)}
    growth.draw([one] * 4, tmp_path / "growth.png")
    data = (tmp_path / "growth.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and min(struct.unpack(">II", data[16:24])) > 1000


def test_each_series_grows():
    growth = module("benchmark_growth")
    for i, series in enumerate(growth.SERIES):
        work = [growth.point(i, size, 1)[1] for size in series.sizes[:3]]
        assert work == sorted(work) and len(set(work)) == 3 and list(series.sizes) == sorted(series.sizes)


def test_an_odd_size_is_measured_against_its_work_and_flagged_above_twice(capsys):
    odd, Timing = module("benchmark_odd"), module("benchmark_race").Timing
    regular, same, slow = Timing([3.0, 2.0], 1, 200), Timing([0.5], 1, 50), Timing([1.0], 1, 40)
    assert odd.times_suggested(same, regular) == 1 and odd.times_suggested(slow, regular) == 2.5
    assert odd.row("convolution", "kernel 1", slow, 9, 2.5, False).endswith("| 2.50 | SLOWER THAN ITS WORK |")
    assert odd.row("convolution", "3x3", regular, 9, 1, True).endswith("| 1.00 | regular |")
    assert odd.row("convolution", "kernel 5", same, 9, 2.0, False).endswith("| 2.00 |  |")


def test_odd_cases_differ_in_the_work_as_they_say():
    odd = module("benchmark_odd")
    work = {name: odd.case("convolution", name, 1)[1] for name in ("batch 1", "batch 37", "depthwise", "4 groups")}
    products = 3 * 32 * 32 * 32 * 9 * 32                # of one sample: forward, the weights' gradient, the input's
    moved = {name: found - products * times for (name, found), times in zip(work.items(), (1, 37, 4, 32), strict=True)}
    assert all(n > 0 and n % odd.A_BYTE == 0 for n in moved.values()) and moved["batch 37"] < 37 * moved["batch 1"]
    assert moved["depthwise"] < moved["4 groups"] < 128 * moved["batch 1"]         # fewer weights, read once a batch
    step, both = odd.case("784-500-500-10", "batches of 128 and 37 in turn", 1)
    step()
    assert both == odd.case("784-500-500-10", "batch 128", 1)[1] + odd.case("784-500-500-10", "batch 37", 1)[1]


def test_a_profile_adds_up_and_leaves_nothing_wrapped():
    profile = module("benchmark_profile")
    before = {(owner, name): getattr(owner, name) for paths in profile.WRAPPED.values() for path in paths
              for owner, name in profile.places(path)}
    found, plain = profile.profile("lenet", "backprop", 1)
    assert {"products", "columns", "activation", "pooling", "optimiser", "loss", "rest (Python)"} <= found.keys()
    assert all(seconds > 0 for seconds in found.values()) and "BatchNorm" not in found and plain > 0
    assert all(getattr(owner, name) is function for (owner, name), function in before.items())
    said = profile.report("lenet", "backprop", {"products": 0.003, "loss": 0.001}, 0.0035).splitlines()
    assert said[0] == "lenet under backprop, one lane: 4.00 ms, 3.50 ms without the clock"
    assert said[3:] == ["| products | 3.000 | 75.0 |", "| loss | 1.000 | 25.0 |"]


def test_the_innermost_wrapped_call_pays(monkeypatch):
    profile = module("benchmark_profile")
    now = iter([0, 1, 3, 7, 15, 31])
    monkeypatch.setattr(profile.time, "perf_counter", lambda: next(now))
    clock = profile.Clock()
    inner = clock.wrap("columns", lambda: None)
    clock.wrap("products", inner)()                     # starts at 1, the inner at 3, which ends at 7; ends at 15
    clock.tick()
    assert clock.spent == {profile.REST: 1 + 16, "products": 2 + 8, "columns": 4}


def test_a_name_that_is_gone_is_told_and_a_subclasss_own_method_is_found(monkeypatch):
    profile = module("benchmark_profile")
    for path in ("nplearn.kernels.conv:gone", "nplearn.layers:Dense.gone", "nplearn.layers:Gone.forward"):
        monkeypatch.setattr(profile, "WRAPPED", {"products": (path,)})
        with pytest.raises(SettingError, match=f"--profile: {path} does not exist"):
            profile.profile("small1", "backprop", 1)

    class Loud(ReLU):
        def forward(self, x, tape=None):
            return x
    assert (Loud, "forward") in profile.places("nplearn.layers:Activation.forward")
    assert (Loud, "backward") not in profile.places("nplearn.layers:Activation.backward")

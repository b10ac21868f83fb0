"""The examples, each run as a reader would: what they print, what they write, how they are stopped and refused."""
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest

from nplearn import checkpoint

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUICK = ["--seeds", "1", "--epochs", "1"]


def command(example, *options):
    return [sys.executable, os.path.join(ROOT, "examples", example), *map(str, options)]


def run(example, *options, cwd=None):
    env = {**os.environ, "PYTHONPATH": ROOT, "NPLEARN_DATA": ""}
    return subprocess.run(command(example, *options), capture_output=True, text=True, env=env, cwd=cwd)


def module(example):
    spec = importlib.util.spec_from_file_location(example, os.path.join(ROOT, "examples", f"{example}.py"))
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def cells(line):
    return [cell.strip() for cell in line.strip("|\n ").split("|")]


def is_picture(path):
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    return data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 10_000 and width > 600 and height > 400


def results(folder):
    """The runs of results.json, without what a clock said, or a count of the process's memory."""
    runs = json.loads((folder / "results.json").read_text())["runs"]
    for one in runs:
        assert one["cost"].pop("held") > 0
        for record in one["history"]:
            record.pop("step_ms", None)
    return runs


# -- the examples that are read in order ------------------------------------------------------------------------------

def test_backprop_by_hand_ends_where_it_says():
    done = run("01_backprop_by_hand.py")
    assert done.returncode == 0 and done.stderr == "" and done.stdout.endswith("ends above 93 %.\n")
    accuracies = [float(a) for a in re.findall(r"test accuracy ([\d.]+) %", done.stdout)]
    assert len(accuracies) == 5 and accuracies[-1] > 93


def test_feedback_alignment_shows_the_angles_fall():
    done = run("02_feedback_alignment.py")
    rows = [list(map(float, re.findall(r"[\d.]+", line))) for line in done.stdout.splitlines()[2:-1]]
    assert done.returncode == 0 and [row[0] for row in rows] == list(range(9))
    _, accuracy, *weights, fc1, fc2, fc3 = rows[-1]
    assert accuracy >= 90 and max(fc1, fc2) < 60 and fc3 == 0 and min(rows[0][2:6]) > 75
    assert all(end < start for end, start in zip(weights, rows[0][2:4], strict=True))


@pytest.mark.long
def test_a_rule_of_ones_own_passes_and_its_faulty_copy_does_not():
    done = run("03_write_your_own_rule.py")
    assert done.returncode == 0 and "found out" in done.stdout


# -- compare_rules ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of three rules that was never stopped: (process, folder)."""
    out = tmp_path_factory.mktemp("compare") / "out"
    return run("compare_rules.py", *QUICK, "--rules", "backprop,pfa-o,frozen,backprop", "--out", out), out


def test_compare_rules_prints_and_writes_the_table_best_first(compared):
    done, out = compared
    assert done.returncode == 0 and (out / "table.md").read_text().strip() in done.stdout
    header, rule, *rows = (out / "table.md").read_text().splitlines()
    assert cells(header)[:2] == ["rule", "test accuracy, %"] and len(cells(header)) == 9 and set(rule) <= set("|-")
    table = {cells(row)[0]: cells(row)[1:] for row in rows}
    assert len(rows) == 3 and table.keys() == {"backprop", "pfa-o", "frozen (control)"}, "one named twice is run once"
    accuracies = [float(cells(row)[1]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True) and cells(rows[-1])[0] == "frozen (control)"
    assert table["backprop"][1:5] == ["0.0", "0.0", "1.00", "1.00"]
    assert table["frozen (control)"][1:4] == ["-", "-", "-"]
    assert 0 < float(table["pfa-o"][1]) < 90 and 45 < float(table["pfa-o"][2]) < 91
    for run_ in results(out):
        name = run_["rule"] + (" (control)" if run_["rule"] == "frozen" else "")
        assert float(table[name][0]) == pytest.approx(100 * run_["history"][-1]["test_accuracy"], abs=0.051)


def test_compare_rules_writes_every_history_with_angles_per_layer(compared):
    _, out = compared
    found = json.loads((out / "results.json").read_text(), parse_constant=pytest.fail)
    assert found["data"] == {"name": "mnist5k", "source": found["data"]["source"], "records": [4000, 1000]}
    assert found["options"]["epochs"] == 1 and [r["rule"] for r in found["runs"]] == ["backprop", "pfa-o", "frozen"]
    for one in found["runs"]:
        assert one["settings"]["rule"] == one["rule"] and one["memory"] >= 0
        assert [record["epoch"] for record in one["history"]] == [0, 1]
        for record in one["history"]:
            assert [layer["layer"] for layer in record["layers"]] == ["fc1", "fc2", "fc3"]
            measured = record["layers"][0].keys()
            assert {"gradient_angle", "delta_angle", "weight_angle", "norm_ratio", "below_floor"} <= measured
            assert record["layers"][2]["gradient_angle"] == 0
    starts = [one["history"][0]["test_accuracy"] for one in found["runs"]]
    assert starts[0] == starts[1] == starts[2], "all rules start from the same weights"
    assert is_picture(out / "accuracy.png") and is_picture(out / "angles.png")
    assert not [name for _, _, names in os.walk(out) for name in names if name.endswith((".part", ".partial"))]


INTERRUPTED = """
import os, runpy, signal, sys
from nplearn.train import Trainer
update = Trainer.update

def interrupted(self, inputs, labels):
    if self.label.startswith("pfa-o") and self.step == 20:
        os.kill(os.getpid(), signal.SIGINT)
    return update(self, inputs, labels)

Trainer.update, sys.argv = interrupted, sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_ctrl_c_leaves_what_is_finished_and_resume_completes_to_the_same(compared, tmp_path):
    out, env = tmp_path / "out", {**os.environ, "PYTHONPATH": ROOT}
    python, *argv = command("compare_rules.py", *QUICK, "--rules", "backprop,pfa-o,frozen", "--out", out)
    stopped = subprocess.run([python, "-c", INTERRUPTED, *argv], capture_output=True, text=True, env=env)
    assert stopped.returncode == 130 and "Traceback" not in stopped.stderr
    assert f"1 of 3 trainings are finished and stand in {out}; go on with the same command and --resume" in \
        stopped.stdout
    assert results(out) == results(compared[1])[:1]
    assert checkpoint.load(out / "runs/pfa-o-0/checkpoint.npz")[1]["step"] == 21
    assert is_picture(out / "accuracy.png") and is_picture(out / "angles.png") and (out / "table.md").exists()
    done = subprocess.run([python, *argv, "--resume"], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and results(out) == results(compared[1])
    wanted, found = ([cells(line)[:6] for line in (folder / "table.md").read_text().splitlines()]
                     for folder in (compared[1], out))
    assert found == wanted
    other = subprocess.run([python, *argv, "--resume", "--lr", "0.1"], capture_output=True, text=True, env=env)
    assert other.returncode == 2 and "other settings" in other.stderr and results(out) == results(compared[1])


def test_a_comparison_is_made_anew_only_if_asked(tmp_path):
    out = tmp_path / "out"
    (out / "runs" / "backprop-0").mkdir(parents=True)
    (out / "runs" / "backprop-0" / "done.json").write_text("left over")
    (out / "runs" / "mine").write_text("not ours")
    (out / "results.json").write_text("{}")
    argv = "compare_rules.py", *QUICK, "--rules", "backprop", "--out", out
    refused = run(*argv)
    assert refused.returncode == 2 and "--resume to go on with it or --overwrite" in refused.stderr
    assert (out / "results.json").read_text() == "{}"
    done = run(*argv, "--overwrite")
    assert done.returncode == 0 and [one["rule"] for one in results(out)] == ["backprop"]
    assert (out / "runs" / "mine").read_text() == "not ours"
    more = run(*argv, "--resume", "--epochs", 2)
    assert more.returncode == 0 and [record["epoch"] for record in results(out)[0]["history"]] == [0, 1, 2]
    less = run(*argv, "--resume", "--epochs", 1)
    assert less.returncode == 2 and "epochs 2, here 1" in less.stderr


def test_a_rule_that_refuses_the_net_is_named_before_any_training_and_the_others_go_on(tmp_path):
    done = run("compare_rules.py", *QUICK, "--net", "lenet", "--rules", "tp,fa", "--out", tmp_path / "out")
    assert done.returncode == 0 and [one["rule"] for one in results(tmp_path / "out")] == ["fa"]
    assert "tp is not in the table: " in done.stdout and "columns over backprop's are empty" in done.stdout
    none = run("compare_rules.py", *QUICK, "--net", "lenet", "--rules", "tp", "--out", tmp_path / "none")
    assert none.returncode == 2 and "tp is not in the table: " in none.stdout and "Traceback" not in none.stderr


def test_rules_whose_accuracy_still_moves_are_told():
    compare = module("compare_rules")
    def run_of(*accuracies):
        return {"history": [{"test_accuracy": x} for x in accuracies]}
    assert compare.last_move([run_of(0.1, 0.5, 0.8, 0.9, 0.86), run_of(0.1, 0.5, 0.8, 0.8, 0.82)]) == pytest.approx(3)
    assert compare.last_move([run_of(0.1, 0.5)]) == 0


def test_a_rule_that_diverges_is_named_and_the_others_go_on(tmp_path):
    done = run("compare_rules.py", *QUICK, "--rules", "fa:scale=1e30,backprop", "--out", tmp_path / "out")
    assert done.returncode == 0 and [one["rule"] for one in results(tmp_path / "out")] == ["backprop"]
    assert "fa:scale=1e30" in done.stdout and "a loss of" in done.stdout


@pytest.mark.parametrize(("options", "words"), [
    (["--rules", "backprop,fb"], ["rule: 'fb'", "expected one of"]), (["--rules", ""], ["rule: ''"]),
    (["--net", "vgg"], ["net: 'vgg'"]), (["--epochs", "0"], ["--epochs"]), (["--seeds", "-1"], ["--seeds"]),
    (["--data", "mnits"], ["mnits"]), (["--rules", "fa:wide=2"], ["wide=2"])])
def test_compare_rules_refuses_in_one_line(options, words, tmp_path, capsys, monkeypatch):
    compare = module("compare_rules")
    monkeypatch.setattr(sys, "argv", ["compare_rules.py", *options, "--out", str(tmp_path / "out")])
    from nplearn.cli import guarded
    with pytest.raises(SystemExit) as stop:
        guarded(compare.main)
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and said.startswith("error: ") and "\n" not in said and "; expected " in said
    assert all(word in said for word in words) and not (tmp_path / "out").exists()


def test_the_table_stands_without_times_and_without_backprop():
    compare = module("compare_rules")
    layers = [{"gradient_angle": 80.0, "weight_angle": 90.0, "norm_ratio": 1.0, "sends": True}] * 2
    history = [{"layers": layers, "test_accuracy": 0.1}, {"layers": layers, "test_accuracy": 0.5, "step_ms": None}]
    cost = {"multiply_adds": 300, "parameters": 2600, "held": 50}
    text = compare.table({"fa": [{"history": history, "cost": cost}] * 2})
    assert cells(text.splitlines()[2]) == ["fa", "50.0 ± 0.0", "80.0 ± 0.0", "90.0 ± 0.0", "1.00 ± 0.00", "-", "-", "3",
                                           "-"]
    both = compare.table({"fa": [{"history": history, "cost": cost}],
                          "backprop": [{"history": history, "cost": {"multiply_adds": 200, "held": 100}}]})
    assert cells(both.splitlines()[2])[5:] == ["1.50", "-", "3", "0.50"]


def test_a_rule_that_is_at_home_elsewhere_brings_what_it_needs_and_its_options():
    compare = module("compare_rules")
    options = type("Options", (), {"net": None, "data": "mnist5k", "epochs": 3, "lr": 0.02, "device": "cpu"})
    tp, gevb, ep = (compare.settings_for(rule, 0, options) for rule in ("tp", "gevb", "ep"))
    assert (tp.net, tp.optimiser, tp.lr) == ("mlp", "adam", 1e-3)
    assert tp.net_options == {"activation": "tanh", "hidden": [256, 256]} and gevb.net == "vector"
    assert ep.rule == "ep:free_steps=20,nudged_steps=6"
    assert compare.settings_for("ep:free_steps=5", 0, options).rule == "ep:free_steps=5"
    assert compare.settings_for("fa", 0, options).lr == 0.02


def test_settings_of_a_comparison_differ_in_the_decay_of_learned_feedback_alone():
    compare = module("compare_rules")
    options = type("Options", (), {"net": "mlp", "data": "mnist5k", "epochs": 3, "lr": 0.02, "device": "cpu"})
    plain = vars(compare.settings_for("backprop", 1, options))
    for rule in ("fa", "dfa", "usf", "brsf", "frsf", "frozen", "shuffled"):
        assert vars(compare.settings_for(rule, 1, options)) == {**plain, "rule": rule}
    for rule in ("kp", "pfa", "pfa-o", "pfa:expand=3"):
        other = vars(compare.settings_for(rule, 1, options))
        assert {key for key in plain if plain[key] != other[key]} == {"rule", "decay", "decay_steps"}
        assert other["decay"] * other["decay_steps"][2] == pytest.approx(plain["decay"])


# -- the reproductions, on little data --------------------------------------------------------------------------------

def test_the_mnist_reproduction_prints_published_beside_ours_and_goes_on(tmp_path):
    shutil.copytree(os.path.join(ROOT, "datasets", "mnist5k"), tmp_path / "mnist")      # real digits under its name
    options = ["--rules", "backprop,usf", "--data-dir", tmp_path, "--out", tmp_path / "out"]
    done = run("reproduce_pfa_mnist.py", *options, "--epochs", "1")
    assert done.returncode == 0 and "4000 training and 1000 test records" in done.stdout
    rows = {cells(line)[0]: cells(line)[1:] for line in (tmp_path / "out" / "table.md").read_text().splitlines()[2:]}
    assert rows["backprop"][0].endswith("/ 96.75") and rows["usf"][-1] == "31.6, 30.8, 28.1"
    assert all(abs(float(a) - 30) < 5 for a in rows["usf"][3].split(", ") if a != "-")
    again = run("reproduce_pfa_mnist.py", *options, "--epochs", "1")
    assert [cells(line) for line in again.stdout.splitlines() if line.startswith("| ")] == \
        [cells(line) for line in done.stdout.splitlines() if line.startswith("| ")]


def test_the_lenet_reproduction_runs_on_a_few_images_in_cifar_form(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "cifar-10").mkdir()
    for name, n in (("data_batch_1.bin", 60), ("test_batch.bin", 20)):
        records = np.concatenate([np.arange(n)[:, None] % 10, rng.integers(0, 256, (n, 3072))], axis=1)
        (tmp_path / "cifar-10" / name).write_bytes(records.astype(np.uint8).tobytes())
    done = run("reproduce_biotorch_lenet.py", "--rules", "fa,dfa:form=biotorch,pfa-o", "--epochs", "1", "--data-dir",
               tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = {cells(line)[0]: cells(line)[1:] for line in (tmp_path / "out" / "table.md").read_text().splitlines()[2:]}
    assert rows["fa"][0] == "0.001" and rows["dfa:form=biotorch"][2] == "54.21" and rows["pfa-o"][2] == "-"
    assert all(0 <= float(row[1]) <= 100 for row in rows.values())

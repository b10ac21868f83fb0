"""reciprocal_study: each cell is run once, the report says what is missing, looks move nothing, costs are right."""
import importlib
import json
import os

import numpy as np
import pytest

from nplearn.layers import weighted
from nplearn.rules.registry import make
from tests.examples.test_examples import ROOT, is_picture, run

TINY = ("--mnist", "mnist5k", "--images", 200, "--epochs", 1, "--seeds", 1, "--tasks", "mnist-pyramid")


@pytest.fixture(autouse=True)
def as_a_script_finds_them(monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(ROOT, "examples"))


def study(folder, *options, code=0):
    done = run("reciprocal_study.py", *TINY, "--out", folder, *options)
    assert done.returncode == code, done.stderr
    return done


def written(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}


def cells():
    return importlib.import_module("reciprocal_cells")


def trained(rule, part="stale", setting="1", task="mnist-pyramid", images=300):
    """(trainer, its cell's looks): one that has looked, if the part looks."""
    c = cells()
    cell = c.Cell(part, task, rule.partition(":")[0], setting, 0)
    data = c.data_of("mnist5k", None, images, False)
    trainer = c.trainer_of({"rule": rule, "lr": 0.03, **c.USUAL}, cell, data)
    looks = c.LOOKS[part](trainer) if part in c.LOOKS else []
    trainer.fit(1)
    return trainer, looks


# -- running ----------------------------------------------------------------------------------------------------------

def test_a_finished_cell_is_not_run_again_and_the_report_says_what_is_missing(tmp_path):
    rules = "--rules", "backprop,rf-exact"
    study(tmp_path, *rules, "--parts", "search,compare,report")
    before = written(tmp_path)
    assert len(before) == 2 * 6 + 2
    report = (tmp_path / "report.md").read_text()
    assert "14 of 22 trainings are finished" in report and "epochs 1, images 200, mnist mnist5k" in report
    assert "- stale, mnist-pyramid, rf-exact: 5" in report and "compare, mnist-pyramid, rf-exact: 1" not in report
    assert "Nothing of `stale` is finished." in report and "| rf-exact | 1 |" in report
    assert is_picture(tmp_path / "compare-mnist-pyramid.png") and is_picture(tmp_path / "depth.png")
    assert not (tmp_path / "stale.png").exists()
    lost = next(name for name in before if name.startswith("compare"))
    one = json.loads((tmp_path / "cells" / lost).read_text())
    (tmp_path / "cells" / lost).unlink()
    study(tmp_path, *rules, "--parts", "search,compare,stale,report")
    after = written(tmp_path)
    assert {name: time for name, time in after.items() if name in before and name != lost} == {
        name: time for name, time in before.items() if name != lost}
    two = json.loads((tmp_path / "cells" / lost).read_text())
    assert [r["test_accuracy"] for r in two["history"]] == [r["test_accuracy"] for r in one["history"]]
    assert len(after) == 14 + 6 and is_picture(tmp_path / "stale.png")      # exact, five times, and backprop


def test_a_part_waits_for_its_search_and_no_training_begins_when_time_is_up(tmp_path):
    waits = study(tmp_path, "--rules", "rf", "--parts", "compare,report")
    assert "1 trainings wait for the search" in waits.stdout and written(tmp_path) == {}
    assert "## Comparison\n\nNothing of `compare` is finished." in (tmp_path / "report.md").read_text()
    over = study(tmp_path, "--rules", "rf", "--minutes", 0)
    assert "0 minutes are over; go on with the same command" in over.stdout and written(tmp_path) == {}


def test_the_plan_runs_nothing(tmp_path):
    said = study(tmp_path, "--plan").stdout
    assert "hours with 2 processes" in said and written(tmp_path) == {}


@pytest.mark.parametrize(("options", "says"), [
    (("--parts", "serch"), "expected one of search, compare"), (("--rules", "rff"), "expected one of backprop"),
    (("--tasks", "mnist"), "expected one of mnist-pyramid"), (("--seeds", 0), "--seeds: 0; expected 1 or more"),
    (("--workers", 0), "--workers: 0")])
def test_what_does_not_exist_is_refused(tmp_path, options, says):
    assert says in study(tmp_path, *options, code=2).stderr


def test_cells_of_other_settings_are_refused(tmp_path):
    study(tmp_path, "--rules", "backprop", "--parts", "search")
    said = study(tmp_path, "--rules", "backprop", "--parts", "search", "--images", 210, code=2).stderr
    assert "made with other settings: images; expected those of the first run" in said


# -- what it is made of -----------------------------------------------------------------------------------------------

def test_every_rule_gets_as_many_settings_and_every_cell_a_file_of_its_own():
    c, s = cells(), importlib.import_module("reciprocal_study")
    assert {len(contender.trials) for contender in c.CONTENDERS.values()} == {6}
    every = s.plan(s.PARTS, list(c.TASKS), list(c.CONTENDERS), 5)
    assert len({cell.file for cell in every}) == len(every) > 500
    assert all(s.seconds(cell, None, None) > 0 for cell in every)


@pytest.mark.parametrize("task", ["mnist-pyramid", "mnist-5x256", "cifar-fc", "cifar-conv"])
def test_every_rule_of_a_task_serves_its_net(task):
    c = cells()
    shape = (28, 28, 1) if task.startswith("mnist") else (32, 32, 3)
    for name in c.COMPARED:
        if name not in c.TASKS[task].without:
            net = c.TASKS[task].net().build(shape, 0)
            assert len(weighted(net)) == c.TASKS[task].depth
            make(c.CONTENDERS[name].rule(task, 0.1)).attach(net, 0)


def test_multiply_adds_are_those_counted_by_hand():
    c = cells()
    shapes = [(128, 256), (64, 128), (10, 64)]
    walk = 64 * (2 * (784 * 256 + 256 * 128 + 128 * 64 + 640) + 256 * 128 + 128 * 64 + 640)
    inverse = sum(2 * m * m * n + m ** 3 // 3 for m, n in shapes)
    basis = sum(3 * n * n * m + 10 * 2 * m * n + m * n for m, n in shapes)     # apply, adjoint, outer; power iteration

    def spent(rule):
        cell = c.Cell("compare", "mnist-pyramid", rule, "best", 0)
        data = c.data_of("mnist5k", None, 640, False)
        return c.multiply_adds(c.trainer_of({"rule": rule, "lr": 0.1, **c.USUAL}, cell, data))
    assert spent("backprop") == spent("fa") == {"update": walk, "start": 0}
    assert spent("rf-exact") == spent("ndi") == {"update": walk + inverse, "start": 0}
    assert spent("rf-exact:refresh=10")["update"] == pytest.approx(walk + inverse / 10, rel=1e-12)
    assert spent("rf-exact:refresh=0") == {"update": walk, "start": 0}
    assert spent("rf") == {"update": pytest.approx(walk + basis, rel=1e-3), "start": 0}
    sleep = spent("rf-sleep:sleep=6,wake=3")
    assert sleep["update"] == pytest.approx(walk + 2 * basis, rel=1e-3)
    assert sleep["start"] == pytest.approx(6 * basis, rel=1e-3)
    mirror = sum(2 * 128 * m * n for m, n in shapes)
    assert spent("wm") == {"update": walk + mirror, "start": 10 * mirror}


# -- looks ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("part", "rule"), [("stale", "rf-exact:refresh=2"), ("stale", "rf-sleep:sleep=3,wake=2"),
                                            ("loop", "di:steps=5"), ("curvature", "backprop")])
def test_looking_moves_nothing(part, rule):
    seen, looks = trained(rule, part)
    blind, _ = trained(rule, "compare")
    assert looks and np.array_equal(seen.net.arena.value, blind.net.arena.value)


def test_fresh_feedback_is_at_the_inverse_and_stale_feedback_as_far_as_its_weights_have_moved():
    fresh, again, stale = (trained(rule)[1][-1] for rule in ("rf-exact", "rf-exact:refresh=2", "rf-exact:refresh=0"))
    assert fresh["step"] == 4                           # the last of five updates: `again` was refreshed after four
    fresh, again, stale = fresh["layers"], again["layers"], stale["layers"]
    for layer in fresh + again:
        assert layer["moved"] == 0 and layer["off"] < 1e-5 and layer["to_fresh"] == pytest.approx(1, abs=1e-6)
    for layer in stale:
        assert 0 < layer["moved"] < 0.2 and 0.5 < layer["off"] / layer["moved"] < 2.5
        assert 0.5 < layer["to_fresh"] < 1 - 1e-6 and layer["least"] > 0
    assert [layer["layer"] for layer in fresh] == ["fc2", "fc3", "fc4"]
    assert fresh[-1]["to_backprop"] > fresh[0]["to_backprop"] > 0.3        # alignment falls with depth


def test_the_loop_comes_nearer_its_closed_form_with_more_steps():
    few, many = (trained(f"di:steps={n}", "loop")[1][-1]["layers"][0] for n in (10, 100))
    assert many["off"] < few["off"] / 10 and many["to_closed"] > 1 - 1e-6


def test_a_training_that_diverges_is_a_result():
    c = cells()
    cell = {"part": "search", "task": "mnist-pyramid", "rule": "backprop", "setting": "lr=0.3", "seed": 0}
    result = c.run({"cell": cell, "rule": "backprop", "lr": 1e30, **c.USUAL, "epochs": 1, "images": 300,
                    "data": "mnist5k"})
    assert "expected a finite loss" in result["diverged"]
    assert importlib.import_module("reciprocal_study").score(result) == 0

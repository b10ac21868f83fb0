"""reciprocal_study: each cell is run once, whatever stops the study; the report says what is missing or went wrong."""
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from threadpoolctl import threadpool_info

from tests.examples.reciprocal import part_of
from tests.examples.test_examples import ROOT, command, is_picture, run

ENV = {**os.environ, "PYTHONPATH": ROOT}
TINY = ("--mnist", "mnist5k", "--images", 200, "--epochs", 1, "--seeds", 1, "--tasks", "mnist-pyramid")


def study(folder, *options, code=0):
    done = run("reciprocal_study.py", *TINY, "--out", folder, *options)
    assert done.returncode == code, done.stderr
    return done


def written(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}


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


KILLED_WITHIN = 30                                      # seconds


def test_a_killed_study_leaves_no_process_behind_and_goes_on_cell_by_cell(tmp_path):
    options = "--rules", "backprop,fa,rf", "--parts", "search"
    process = subprocess.Popen(command("reciprocal_study.py", *TINY, "--out", tmp_path, *options), env=ENV,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: list(tmp_path.glob("cells/*.json")))
        process.kill()
        process.wait()
        wait_until(lambda: not group_lives(process.pid))
    finally:
        if group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    before = {name: at for name, at in written(tmp_path).items() if name.endswith(".json")}
    study(tmp_path, *options)
    after = written(tmp_path)
    assert before and len(after) == 18 and {name: after[name] for name in before} == before


def wait_until(true):
    end = time.monotonic() + KILLED_WITHIN
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def group_lives(number):
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


TROUBLED = """
import sys
sys.path.insert(0, {examples!r})
import reciprocal_study
from nplearn.cli import guarded
whole = reciprocal_study.run

def run(settings, folder):
    if (settings["cell"]["rule"], settings["lr"]) == ("fa", 0.01):
        raise ZeroDivisionError("a fault of ours")
    return whole(settings | ({{"lr": 1e30}} if settings["lr"] == 0.003 else {{}}), folder) | {{"settings": settings}}

reciprocal_study.run = run
if __name__ == "__main__":
    guarded(reciprocal_study.main)
"""


def test_what_fails_or_diverges_is_named_and_the_others_go_on(tmp_path):
    options = "--rules", "backprop,fa", "--parts", "search,compare,report"
    (tmp_path / "troubled.py").write_text(TROUBLED.format(examples=os.path.join(ROOT, "examples")))
    done = subprocess.run([sys.executable, tmp_path / "troubled.py", *map(str, TINY), "--out", tmp_path, *options],
                          capture_output=True, text=True, env=ENV)
    assert done.returncode == 0, done.stderr
    assert "stopped: 1 trainings failed, 1 trainings wait for the search of their rule" in done.stdout
    before, name = written(tmp_path), "search-mnist-pyramid-fa-lr0.01-0"
    assert len(before) == 13 and f"{name}.failed.txt" in before
    assert "compare-mnist-pyramid-backprop-best-0.json" in before
    report = (tmp_path / "report.md").read_text()
    assert f"next time\n\n- {name}: ZeroDivisionError: a fault of ours" in report and "5 of 6" in report
    assert "- search-mnist-pyramid-backprop-lr0.003-0: " in report and ", diverged, " in report
    study(tmp_path, *options)
    after = written(tmp_path)
    assert len(after) == 14 and f"{name}.failed.txt" not in after and f"{name}.json" in after
    assert {at for file, at in before.items() if file.endswith(".json")} < set(after.values())
    assert "failed" not in (tmp_path / "report.md").read_text()


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info()]


def test_a_training_has_one_blas_thread(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    study, c = part_of("study"), part_of("cells")
    settings = c.described(c.Cell("search", "mnist-pyramid", "fa", "lr=0.01", 0), None,
                           {"epochs": 1, "images": 120, "mnist": "mnist5k"})
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=study.alone) as pool:
        before, (result, error), after = (pool.submit(*job).result() for job in (
            [blas_threads], [study.perform, (settings, None)], [blas_threads]))
    assert result["history"] and not error and set(before) == set(after) == {1}


def test_the_plan_runs_nothing_and_says_every_setting(tmp_path):
    said = study(tmp_path, "--plan").stdout
    assert "hours with 2 processes" in said and written(tmp_path) == {}
    for setting in ("batches of 64", "momentum 0.9, decay 0.0001", "images 200", "MNIST is mnist5k",
                    "10 epochs in compare, 2 in search", "rule kp: kp; decay 0.001; search: lr 0.001,",
                    "rule dtp: dtp:alpha={alpha}; sigma 0.1,", "lr=0.1,alpha=0.5", "pc:steps=8,gamma=0.3; steps 8",
                    "rule rf-sleep: rf-sleep:wake=50; steps 0, sleep 60, wake 50, lam 0.1",
                    "rule backprop-adam: backprop; optimiser adam; search: lr 3.3e-05,",
                    "part stale: 1 seed, 4 epochs"):
        assert setting in said


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

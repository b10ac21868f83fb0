"""A study of reciprocal (pseudoinverse) feedback, for its reviewers: one report with tables and figures.

    python examples/reciprocal_study.py --plan                          what it is made of, what is done, what it takes
    python examples/reciprocal_study.py                                 all of it, or what is not done yet (hours)
    python examples/reciprocal_study.py --minutes 60                    stops between two trainings; goes on next time
    python examples/reciprocal_study.py --parts search,compare --tasks mnist-pyramid --rules backprop,fa,rf
    python examples/reciprocal_study.py --parts report                  the report anew, from what is finished

The study is a list of trainings (reciprocal_cells.py), each with a file of its own in --out/cells: what is finished is
never run again. The search comes first, as the others take the settings that it finds; a part whose search is not
finished waits. Two trainings run side by side, each on one thread. Written to --out: report.md, figures, results.json.
"""
import argparse
import json
import math
import multiprocessing
import os
import signal
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict

from reciprocal_cells import (
    BATCH,
    COMPARED,
    CONTENDERS,
    CURVED,
    EPOCHS,
    LOOPS,
    NEVER,
    ROBUST,
    SEEDS,
    SLEEP,
    STALE,
    STEPS,
    TASKS,
    USUAL,
    Cell,
    run,
)
from reciprocal_report import write, write_report
from tqdm import tqdm

from nplearn import plots
from nplearn.cli import guarded
from nplearn.errors import SettingError
from nplearn.kernels.threads import blas_threads
from nplearn.runs import pick

PARTS = (*SEEDS, "report")


def shown(trial):
    """{"lr": 0.03, "alpha": 0.1} -> "lr=0.03,alpha=0.1"."""
    return ",".join(f"{name}={value:.2g}" for name, value in trial.items())


def plan(parts, tasks, rules, seeds):
    """All cells of these parts in the order in which they are run: a seed of every rule before the next seed."""
    cells = []
    for part in [part for part in SEEDS if part in parts]:
        robust = tasks if part in ("search", "compare") else [ROBUST] if ROBUST in tasks else []
        for seed in range(min(seeds, SEEDS[part])):
            for task in robust:
                cells += [Cell(part, task, rule, setting, seed) for rule, setting in lines(part, task, parts)
                          if rule in rules]
    return cells


def lines(part, task, parts):
    """(rule, setting) of every training of one seed."""
    if part == "search":
        extra = [rule for rule in CURVED if rule not in COMPARED] if task == ROBUST and "curvature" in parts else []
        return [(rule, shown(trial)) for rule in (*COMPARED, *extra) if rule not in TASKS[task].without
                for trial in CONTENDERS[rule].trials]
    return {"compare": [(rule, "best") for rule in COMPARED if rule not in TASKS[task].without],
            "stale": [*((rule, refresh) for rule in ("rf-exact", "rf-sleep") for refresh in STALE),
                      ("backprop", "reference"), ("fa", "reference")],
            "steps": [("rf", f"{steps} {start}") for steps in STEPS for start in ("zero", "random")],
            "curvature": [(rule, "best") for rule in CURVED],
            "loop": [("ndi", setting) for setting in LOOPS]}[part]


def described(cell, best, options):
    """All that decides what comes out of a cell, as JSON. `best`: the trial that the search chose for its rule.

    options  epochs and images: caps, or None; mnist: what to take for MNIST
    """
    task, contender = TASKS[cell.task], CONTENDERS[cell.rule]
    if cell.part == "search":
        trial = next(trial for trial in contender.trials if shown(trial) == cell.setting)
    else:
        trial = best
    rule = contender.rule(cell.task, trial.get("alpha"))
    if cell.part == "stale" and cell.setting != "reference":    # "{epoch}": its updates, put in when they are known
        exact = cell.rule == "rf-exact"
        refresh = {"epoch": "{epoch}", "never": 0 if exact else NEVER}.get(cell.setting, cell.setting)
        rule = f"rf-exact:refresh={refresh}" if exact else f"rf-sleep:sleep={SLEEP},wake={refresh}"
    elif cell.part == "steps":
        steps, start = cell.setting.split()
        rule = f"rf:start={start}," + ("steps=0,sleep=1,wake=10" if steps == "0.1" else f"steps={steps}")
    elif cell.part == "loop":
        rule = LOOPS[cell.setting]
    return {"cell": asdict(cell), "rule": rule, "lr": trial["lr"], **USUAL, **contender.own,
            "epochs": epochs_of(cell, options["epochs"]), "images": options["images"],
            "data": options["mnist"] if task.data == "mnist" else task.data}


def epochs_of(cell, cap):
    task = TASKS[cell.task]
    epochs = {"search": task.search, "compare": task.epochs, **EPOCHS}[cell.part]
    return min(epochs, cap or epochs)


def seconds(cell, cap, images):
    """Estimated seconds of one core, tests and looks with them; caps on epochs and images, or None."""
    task = TASKS[cell.task]
    ms = task.ms.get(cell.rule, task.ms["rf-exact" if cell.rule.startswith("rf") else "backprop"])
    if (cell.part, cell.rule) == ("stale", "rf-sleep"):
        ms = 2.2 + 2 * SLEEP / int({"epoch": 938, "never": NEVER}.get(cell.setting, cell.setting))
    elif cell.part == "steps":
        ms = 2.5 + 1.8 * float(cell.setting.split()[0])
    elif cell.part == "loop" and cell.setting != "closed":
        ms = 3 + 0.18 * float(cell.setting.split()[0])
    whole = 60_000 if task.data == "mnist" else 10_000
    n = min(images or whole, whole) * (5 / 6 if cell.part == "search" else 1)
    looks = {"stale": 0.6, "steps": 0.6, "curvature": 0.8, "compare": 0.1}.get(cell.part, 0)    # ms an update
    test = 0.6 if cell.part == "compare" else 0.3
    return 0.5 + epochs_of(cell, cap) * (n / BATCH * (ms + looks) / 1e3 + test * min(1, n / 10_000))


# -- running them -----------------------------------------------------------------------------------------------------

class Folder:
    """What stands in --out/cells."""

    def __init__(self, out):
        self.path = os.path.join(out, "cells")
        os.makedirs(self.path, exist_ok=True)

    def read(self, cell):
        """The result of a cell, or None."""
        try:
            with open(os.path.join(self.path, cell.file)) as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def write(self, cell, result):
        write(os.path.join(self.path, cell.file), json.dumps(result))

    def finished(self, cell, options):
        """The result of a cell, if it is there; it must be of these settings."""
        result, best = self.read(cell), self.best(cell)
        if result and (best or cell.part == "search"):
            asked = json.loads(json.dumps(described(cell, best, options)))
            other = [key for key in asked if asked[key] != result["settings"].get(key)]
            if other:
                raise SettingError(os.path.join(self.path, cell.file), f"made with other settings: {', '.join(other)}",
                                   "those of the first run", "give the same options, or another --out")
        return result

    def trials(self, task, rule):
        """[(trial, result or None)] of a rule's search."""
        return [(trial, self.read(Cell("search", task, rule, shown(trial), 0))) for trial in CONTENDERS[rule].trials]

    def best(self, cell):
        """The trial of the best accuracy on held-out images, the first of equals; None while the search is not done.

        Stale feedback has the settings of rf-exact both times, so that only the feedback differs.
        """
        trials = self.trials(cell.task, "rf-exact" if (cell.part, cell.rule) == ("stale", "rf-sleep") else cell.rule)
        if cell.part == "search" or not all(result for _, result in trials):
            return None
        return max(trials, key=lambda pair: score(pair[1]))[0]


def score(result):
    """Accuracy after the last epoch; what diverged is worth nothing."""
    return 0.0 if "diverged" in result else result["history"][-1]["test_accuracy"]


def perform(job):
    """In a process of its own: one cell."""
    cell, settings, folder = job
    return cell, run(settings, folder)


def alone():
    """In a process of its own, first: one thread, and no answer to Ctrl-C but that of a training (it stops)."""
    blas_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def go(cells, options, folder):
    """Run what is not finished, part after part; returns why it stopped, in words, or ""."""
    caps, start, stopped = caps_of(options), time.monotonic(), ""
    left = [cell for cell in cells if not folder.finished(cell, caps)]
    if not left:
        return stopped
    weight = {cell: seconds(cell, options.epochs, options.images) for cell in left}
    bar = tqdm(total=sum(weight.values()), unit="s", dynamic_ncols=True, smoothing=0.05,
               bar_format="{desc} {percentage:3.0f} %|{bar}| {elapsed} gone, {remaining} left {postfix}")
    pool = ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn"), initializer=alone)
    running, done = {}, 0
    try:
        while left or running:
            while len(running) < options.workers:
                cell = next((cell for cell in left if cell.part == "search" or folder.best(cell)), None)
                if cell and time.monotonic() - start > 60 * options.minutes:
                    stopped = f"{options.minutes:g} minutes are over"
                if cell is None or stopped:             # without a cell what is left waits for its search
                    break
                left.remove(cell)
                settings = described(cell, folder.best(cell), caps)
                running[pool.submit(perform, (cell, settings, options.data_dir))] = cell
            if not running:
                break
            bar.set_description_str(f"{done} trainings done, now " + ", ".join(
                f"{cell.part} {cell.task} {cell.rule} {cell.setting}" for cell in running.values()))
            for future in wait(running, timeout=5, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                folder.write(*future.result())
                done += 1
                bar.update(weight[cell])
            bar.refresh()
    except BaseException:
        for process in multiprocessing.active_children():       # what is not finished is not kept
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    return stopped or (f"{len(left)} trainings wait for the search of their rule" if left else "")


def caps_of(options):
    return {"epochs": options.epochs, "images": options.images, "mnist": options.mnist}


def show_plan(cells, options, folder):
    """A line a part and task: trainings, how many are done, hours of one core still to go."""
    caps, total = caps_of(options), 0
    print(f"{'part':10} {'task':14} trainings  done  hours of one core to go")
    for part, task in dict.fromkeys((cell.part, cell.task) for cell in cells):
        some = [cell for cell in cells if (cell.part, cell.task) == (part, task)]
        left = [cell for cell in some if not folder.finished(cell, caps)]
        hours = sum(seconds(cell, options.epochs, options.images) for cell in left) / 3600
        total += hours
        print(f"{part:10} {task:14} {len(some):9} {len(some) - len(left):5} {hours:8.2f}")
    print(f"about {total:.1f} hours of one core, {total / options.workers:.1f} hours with {options.workers} "
          "processes on cores of their own (estimated from milliseconds an update, see reciprocal_cells.py)")


def some_of(what, text, known):
    """"a,b" -> ["a", "b"], each of which must be known; "all" is all of them."""
    asked = [name.strip() for name in text.split(",")]
    for name in asked:
        pick(what, name, {**dict.fromkeys(known), "all": None})
    return list(known) if "all" in asked else [name for name in known if name in asked]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="all", help=f"all, or some of {','.join(PARTS)}")
    parser.add_argument("--tasks", default="all", help=f"all, or some of {','.join(TASKS)}")
    parser.add_argument("--rules", default="all", help=f"all, or some of {','.join(CONTENDERS)}")
    parser.add_argument("--seeds", type=int, default=5, help="at most, of each part (default %(default)s)")
    parser.add_argument("--epochs", type=int, help="at most, of each training")
    parser.add_argument("--images", type=int, help="training images at most, to try the study out")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no training is begun any more")
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side (default %(default)s)")
    parser.add_argument("--mnist", default="mnist", help="data set of the MNIST tasks: mnist, mnist5k or a path")
    parser.add_argument("--data-dir", help="where to look for the data sets first")
    parser.add_argument("--out", default="runs/reciprocal_study")
    parser.add_argument("--plan", action="store_true", help="only say what there is to do and how long it takes")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args()
    for name in "seeds", "epochs", "images", "workers":
        value = getattr(options, name)
        if value is not None and value < 1:
            raise SettingError(f"--{name}", f"{value}", "1 or more", "ask for some")
    parts = some_of("part", options.parts, PARTS)
    cells = plan(parts, some_of("task", options.tasks, TASKS), some_of("rule", options.rules, CONTENDERS),
                 options.seeds)
    folder = Folder(options.out)
    if options.plan:
        return show_plan(cells, options, folder)
    if "report" in parts:
        plots.pyplot()                                  # a missing matplotlib should be missed now
    stopped = go(cells, options, folder)
    if stopped:
        print(f"stopped: {stopped}; go on with the same command")
    if "report" in parts:
        every = plan(PARTS, some_of("task", options.tasks, TASKS), some_of("rule", options.rules, CONTENDERS),
                     options.seeds)
        found = {cell: folder.finished(cell, caps_of(options)) for cell in every}
        print(write_report(found, options.out, caps_of(options)))
        print(f"\nWritten to {options.out}: report.md, its figures, results.json")


if __name__ == "__main__":
    guarded(main)

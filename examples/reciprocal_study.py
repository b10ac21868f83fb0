"""A study of reciprocal (pseudoinverse) feedback, for its reviewers: one report with tables and figures.

    python examples/reciprocal_study.py --plan                          all settings, what is done, what it takes
    python examples/reciprocal_study.py                                 all of it, or what is not done yet (hours)
    python examples/reciprocal_study.py --minutes 60                    stops between two trainings; goes on next time
    python examples/reciprocal_study.py --parts search,compare --tasks mnist-pyramid --rules backprop,fa,rf
    python examples/reciprocal_study.py --parts report                  the report anew, from what is finished

The study is a list of trainings, each with a file of its own in --out/cells: what is finished is never run again. The
search comes first, as the others take the settings that it finds; a part whose search is not finished waits. Two
trainings run side by side, each on one thread. One that diverges is a result, and the report says so; one that fails
leaves its error in --out/cells, the others go on, and it is tried again next time. Written to --out: report.md,
figures, results.json.

    reciprocal_cells.py     which rules, data sets and parts: the place to add one
    reciprocal_training.py  one training
    reciprocal_plan.py      what --plan says                        reciprocal_report.py, _figures, _numbers: the report
"""
import argparse
import json
import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

import reciprocal_plan
from reciprocal_cells import CONTENDERS, SEEDS, TASKS, Cell, described, plan, shown
from reciprocal_numbers import score
from reciprocal_report import write, write_report
from reciprocal_training import run
from tqdm import tqdm

from nplearn import plots
from nplearn.cli import guarded
from nplearn.errors import DataError, SettingError
from nplearn.kernels.threads import blas_threads
from nplearn.runs import pick

PARTS = (*SEEDS, "report")


class Folder:
    """What stands in --out/cells: a file of JSON for each finished cell, and the error of each that failed."""

    def __init__(self, out):
        self.path = os.path.join(out, "cells")
        os.makedirs(self.path, exist_ok=True)

    def file(self, cell):
        return os.path.join(self.path, cell.file)

    def errors(self, cell):
        return self.file(cell).removesuffix("json") + "failed.txt"

    def read(self, cell):
        """The result of a cell, or None."""
        try:
            with open(self.file(cell)) as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def write(self, cell, result, error):
        """The result of a cell; where it has none, the error (a traceback)."""
        if error:
            return write(self.errors(cell), error)
        write(self.file(cell), json.dumps(result))
        if os.path.exists(self.errors(cell)):           # of an earlier time
            os.remove(self.errors(cell))

    def failed(self, cell):
        """The last line of the error of a cell, or ""."""
        try:
            with open(self.errors(cell)) as file:
                return file.read().strip().rpartition("\n")[2]
        except FileNotFoundError:
            return ""

    def finished(self, cell, options):
        """The result of a cell, or None. A result that was made with other settings is refused."""
        result, best = self.read(cell), self.best(cell)
        if result and (best or cell.part == "search"):
            asked = json.loads(json.dumps(described(cell, best, options)))
            other = [key for key in asked if asked[key] != result["settings"].get(key)]
            if other:
                raise SettingError(self.file(cell), f"made with other settings: {', '.join(other)}",
                                   "those of the first run", "give the same options, or another --out")
        return result

    def best(self, cell):
        """The trial of the best accuracy on held-out images, the first of equals; None while the search is not done.

        Stale feedback has the settings of rf-exact both times, so that only the feedback differs.
        """
        if cell.part == "search":
            return None
        rule = "rf-exact" if (cell.part, cell.rule) == ("stale", "rf-sleep") else cell.rule
        trials = [(trial, self.read(Cell("search", cell.task, rule, shown(trial), 0)))
                  for trial in CONTENDERS[rule].trials]
        if not all(result for _, result in trials):
            return None
        return max(trials, key=lambda pair: score(pair[1]))[0]


# -- running them -----------------------------------------------------------------------------------------------------

def perform(job):
    """In a process of its own: (result, "") of one cell, or (None, its error).

    Settings or data that are not there would stop every other cell too, and stop the study.
    """
    settings, folder = job
    try:
        return run(settings, folder), ""
    except (DataError, SettingError, OSError):
        raise
    except Exception:
        return None, traceback.format_exc()


def alone():
    """In a process of its own, first: one thread; no answer to Ctrl-C but that of a training (it stops); and no life
    after that of the study."""
    blas_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_the_study, daemon=True).start()


def end_with_the_study():
    multiprocessing.parent_process().join()
    os._exit(1)


def go(cells, options, folder):
    """Run what is not finished, part after part; returns why it stopped, in words, or ""."""
    caps, start, stopped = caps_of(options), time.monotonic(), ""
    left = [cell for cell in cells if not folder.finished(cell, caps)]
    if not left:
        return stopped
    weight = {cell: reciprocal_plan.seconds(cell, options.epochs, options.images) for cell in left}
    bar = tqdm(total=sum(weight.values()), unit="s", dynamic_ncols=True, smoothing=0.05,
               bar_format="{desc} {percentage:3.0f} %|{bar}| {elapsed} gone, {remaining} left {postfix}")
    pool = ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn"), initializer=alone)
    running, done, failed = {}, 0, 0
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
                running[pool.submit(perform, (settings, options.data_dir))] = cell
            if not running:
                break
            bar.set_description_str(f"{done} trainings done, now " + ", ".join(
                f"{cell.part} {cell.task} {cell.rule} {cell.setting}" for cell in running.values()))
            for future in wait(running, timeout=5, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                result, error = future.result()
                folder.write(cell, result, error)
                if error:
                    bar.write(f"failed: {cell.file[:-5]}: {folder.failed(cell)}")
                done, failed = done + (not error), failed + bool(error)
                bar.update(weight[cell])
            bar.refresh()
    except BaseException:
        for process in multiprocessing.active_children():       # what is not finished is not kept
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    waiting = f"{len(left)} trainings wait for the search of their rule" if left and not stopped else ""
    return ", ".join(filter(None, [stopped, f"{failed} trainings failed" if failed else "", waiting]))


def caps_of(options):
    return {"epochs": options.epochs, "images": options.images, "mnist": options.mnist}


def show_plan(cells, options, folder):
    """All settings, and what is there to do."""
    caps = caps_of(options)
    for line in (*reciprocal_plan.settings(cells, options), "",
                 *reciprocal_plan.table(cells, lambda cell: folder.finished(cell, caps), options)):
        print(line)


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
    parser.add_argument("--plan", action="store_true", help="only say all settings, what is done, and what is left")
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
        failed = {cell: folder.failed(cell) for cell in every if folder.failed(cell)}
        print(write_report(found, failed, options.out, caps_of(options)))
        print(f"\nWritten to {options.out}: report.md, its figures, results.json")


if __name__ == "__main__":
    guarded(main)

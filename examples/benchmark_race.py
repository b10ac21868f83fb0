"""A race: every candidate is a process of its own, started first and kept alive; they take turns, one at a time.

A turn is the fastest of a few steps. The order is turned round every second round, and a round begins when the machine
is quiet, or when patience is at its end. What else the machine does so meets all candidates alike; the smallest of all
turns is what a step costs.
"""
import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import NamedTuple

from nplearn.errors import SettingError

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "benchmark_worker.py")
TURN = 0.3                                              # seconds that a turn is meant to take
PAUSE = 0.05                                            # before a turn: BLAS threads of the last poll for work a while
STOPPED = "it stopped"
LOOK, BUSY = 0.06, 0.2                                  # a machine is quiet if for so long less than this share is used


class Candidate(NamedTuple):
    """kind  gemm, ours, torch, biotorch, also, growth or odd        net, how  what its maker is told"""

    kind: str
    net: str = ""
    how: str = ""

    def __str__(self):
        if self.kind == "also":
            return f"{os.path.basename(self.net)}:{self.how}"
        return {"torch": "PyTorch ", "biotorch": "BioTorch "}.get(self.kind, "") + (self.how or self.kind)


class Timing(NamedTuple):
    """seconds  of each round        memory  its peak in MiB        work  multiply-adds of a step, 0 if not counted"""

    seconds: list
    memory: float
    work: int

    @property
    def best(self):
        return min(self.seconds)


class Race(NamedTuple):
    """timings  {Candidate: Timing}     refused  {Candidate: why}     quiet  rounds that began so, None if unknown"""

    timings: dict
    refused: dict
    quiet: int | None


def race(candidates, rounds, threads, patience, optional=()):
    """Let candidates take turns. Those in `optional` may refuse, with any other it is a SettingError."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    racers = {c: subprocess.Popen([sys.executable, WORKER, *c, str(threads)], stdin=subprocess.PIPE, text=True,
                                  stdout=subprocess.PIPE, env={**os.environ, **counts}, start_new_session=True)
              for c in candidates}
    try:
        work, refused = {}, {}
        for candidate, process in racers.items():
            word, _, rest = process.stdout.readline().strip().partition(" ")
            if word == "ready":
                work[candidate] = int(rest)
            elif candidate in optional:
                refused[candidate] = rest or STOPPED
            else:
                raise lost(candidate, rest)
        steps = {c: max(2, min(200, int(TURN / ask(racers, c, 1)[0]))) for c in work}
        seconds, memory, calm = {c: [] for c in work}, {}, []
        for i in range(rounds):
            calm.append(wait_for_quiet(patience))
            for c in work if i % 2 == 0 else reversed(work):
                time.sleep(PAUSE)
                taken, memory[c] = ask(racers, c, steps[c])
                seconds[c].append(taken)
        timings = {c: Timing(seconds[c], memory[c], work[c]) for c in work}
        return Race(timings, refused, None if None in calm else sum(calm))
    finally:
        for process in racers.values():
            process.kill()
            process.communicate()


def ask(racers, candidate, n):
    """(seconds, MiB): the fastest of n steps."""
    process = racers[candidate]
    with suppress(BrokenPipeError):                     # it has ended: the answer, or that there is none, says so
        process.stdin.write(f"{n}\n")
        process.stdin.flush()
    word, _, rest = process.stdout.readline().strip().partition(" ")
    if word in ("", "refused"):
        raise lost(candidate, rest)
    return float(word), float(rest)


def lost(candidate, why):
    return SettingError(f"candidate {candidate}", (why or STOPPED).rstrip("."), "one that runs",
                        "mend it, or leave it out")


def wait_for_quiet(patience, stat="/proc/stat"):
    """True once the machine is quiet, False after `patience` seconds, None where nothing tells."""
    until = time.monotonic() + patience
    while True:
        before = ticks(stat)
        if before is None:
            return None
        time.sleep(LOOK)
        after = ticks(stat)
        used, all_ = (b - a for a, b in zip(before, after, strict=True))
        if used <= BUSY * all_:
            return True
        if time.monotonic() > until:
            return False


def ticks(stat):
    """(used, all) of all processors since the machine was started; None where the file does not exist."""
    try:
        with open(stat) as file:
            counts = list(map(int, file.readline().split()[1:9]))
    except OSError:
        return None
    return sum(counts) - counts[3] - counts[4], sum(counts)         # the fourth is idle, the fifth waits for a disk

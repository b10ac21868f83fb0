"""Plant each fault in a copy of the sources and run the tests that should notice; survivors are listed.

    python -m tests.seeded_faults.run                  all of them
    python -m tests.seeded_faults.run mirror targets   those of faults_mirror.py and faults_targets.py
    python -m tests.seeded_faults.run --list

First each set of named tests is run once on the copy as it is: one that does not pass there would kill every fault, so
the run stops with status 2 and plants nothing. Tests that run past the limit say nothing where a fault does not
expect it (`hangs`): the machine may be busy. These are listed apart, as TIMEOUT, and are not killed: try a longer
--limit.

Ends with status 1 if a fault survives or times out, or if its place in the source is not found exactly once.
"""
import argparse
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tests.seeded_faults as package

ROOT = Path(__file__).resolve().parents[2]
COPIED = "nplearn", "tests", "examples", "datasets", "setup.cfg", "pyproject.toml", "README.md"
KILLED, SURVIVES, TIMEOUT, BROKEN = "killed", "SURVIVES", "TIMEOUT", "BROKEN"


def families():
    """{family: [Fault]} of every module faults_FAMILY.py beside this one."""
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name.startswith("faults_")]
    return {name.removeprefix("faults_"): importlib.import_module(f"{package.__name__}.{name}").FAULTS
            for name in sorted(names)}


def planted(source, fault):
    """The source with the fault in it; ValueError unless its place is found exactly once."""
    if source.count(fault.old) != 1 or fault.old == fault.new:
        raise ValueError(f"{fault.file} has {source.count(fault.old)} places that read {fault.old!r}")
    return source.replace(fault.old, fault.new)


def passes(tests, copy, limit):
    """Whether the tests pass on the copy; None if they take longer than the limit, ValueError if they cannot run."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=limit,
                              env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"})
    except subprocess.TimeoutExpired:
        return None
    if done.returncode not in (0, 1):
        raise ValueError(f"pytest {tests}: status {done.returncode}\n{done.stdout[-1000:]}{done.stderr}")
    return done.returncode == 0


def idle(faults, copy, limit):
    """The named tests that do not pass without a fault, and so can kill none: [(tests, why)]."""
    found = []
    for tests in dict.fromkeys(fault.tests for fault in faults):
        try:
            passed = passes(tests, copy, limit)
        except ValueError as error:
            found.append((tests, str(error)))
            continue
        if not passed:
            found.append((tests, f"longer than {limit:g} s" if passed is None else "fails"))
    return found


def fate(fault, copy, limit):
    """Plants the fault in the copy, runs its tests, mends it: (KILLED, SURVIVES, TIMEOUT or BROKEN, why)."""
    file = copy / fault.file
    whole = file.read_text()
    try:
        file.write_text(planted(whole, fault))
        passed = passes(fault.tests, copy, limit)
    except ValueError as error:
        return BROKEN, str(error)
    finally:
        file.write_text(whole)
    if passed is None:
        return (KILLED, "hangs, as expected") if fault.hangs else (TIMEOUT, f"longer than {limit:g} s")
    return (SURVIVES if passed else KILLED), ""


def survey(chosen, copy, limit):
    """Reports the fate of every fault in {family: [Fault]}; the exit status."""
    faults = [fault for family in chosen.values() for fault in family]
    for tests, why in (unfit := idle(faults, copy, limit)):
        print(f"without a fault: {tests}: {why}", flush=True)
    if unfit:
        print(f"{len(faults)} faults not planted: their tests do not all pass without one")
        return 2
    fates = dict.fromkeys((KILLED, SURVIVES, TIMEOUT, BROKEN), 0)
    for family, some in chosen.items():
        for fault in some:
            start = time.monotonic()
            found, why = fate(fault, copy, limit)
            fates[found] += 1
            print(f"{family:12}  {found:8}  {fault.name}{why and ': '}{why}  ({time.monotonic() - start:.0f} s)",
                  flush=True)
    print(f"{len(faults)} faults in {len(chosen)} families, {fates[KILLED]} killed, {fates[SURVIVES]} survive, "
          f"{fates[TIMEOUT]} ran out of time, {fates[BROKEN]} not planted")
    return int(fates[KILLED] < len(faults))


def duplicate(copy):
    """The sources and tests, in the folder `copy`."""
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, copy / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = families()
    parser.add_argument("families", nargs="*", help=f"some of {', '.join(known)}; all if none is given")
    parser.add_argument("--list", action="store_true", help="only say what would be planted")
    parser.add_argument("--limit", type=float, default=300, help="seconds for the tests of one fault")
    options = parser.parse_args()
    unknown = sorted(set(options.families) - set(known))
    if unknown:
        parser.error(f"no faults_{unknown[0]}.py; there are {', '.join(known)}")
    chosen = {name: faults for name, faults in known.items() if not options.families or name in options.families}
    if options.list:
        for family, faults in chosen.items():
            for fault in faults:
                print(f"{family:12}  {fault.name}  ({fault.file})")
        return
    with tempfile.TemporaryDirectory() as folder:
        duplicate(copy := Path(folder) / "copy")
        sys.exit(survey(chosen, copy, options.limit))


if __name__ == "__main__":
    main()

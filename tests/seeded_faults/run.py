"""Plant each fault in a copy of the sources and run the tests that should notice; survivors are listed.

    python -m tests.seeded_faults.run                  all of them
    python -m tests.seeded_faults.run mirror targets   those of faults_mirror.py and faults_targets.py
    python -m tests.seeded_faults.run --list

Ends with status 1 if a fault survives, or if its place in the source is not found exactly once.
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


def killed(fault, copy, limit):
    """Plants the fault in the copy, runs its tests, mends it; True if they failed."""
    file = copy / fault.file
    whole = file.read_text()
    file.write_text(planted(whole, fault))
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *fault.tests.split()]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=limit,
                              env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"})
    except subprocess.TimeoutExpired:
        return True                                     # a fault that hangs the tests is noticed
    finally:
        file.write_text(whole)
    if done.returncode not in (0, 1):
        raise ValueError(f"pytest {fault.tests}: status {done.returncode}\n{done.stdout[-1000:]}{done.stderr}")
    return done.returncode == 1


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
    survivors, broken, n = [], [], sum(map(len, chosen.values()))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        copy.mkdir()
        for name in COPIED if not options.list else ():
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / name)
        for family, faults in chosen.items():
            for fault in faults:
                if options.list:
                    print(f"{family:12}  {fault.name}  ({fault.file})")
                    continue
                start = time.monotonic()
                try:
                    dead = killed(fault, copy, options.limit)
                except ValueError as error:
                    broken.append(fault)
                    print(f"{family:12}  BROKEN    {fault.name}: {error}", flush=True)
                    continue
                if not dead:
                    survivors.append(fault)
                print(f"{family:12}  {'killed' if dead else 'SURVIVES':8}  {fault.name}  "
                      f"({time.monotonic() - start:.0f} s)", flush=True)
    if not options.list:
        print(f"{n} faults planted in {len(chosen)} families, {n - len(survivors) - len(broken)} killed, "
              f"{len(survivors)} survive, {len(broken)} not planted")
    sys.exit(1 if survivors or broken else 0)


if __name__ == "__main__":
    main()

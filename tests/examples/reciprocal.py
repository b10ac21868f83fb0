"""The modules of the study reciprocal_study.py, for its tests."""
import importlib
import os
import sys

from tests.examples.test_examples import ROOT

EXAMPLES = os.path.join(ROOT, "examples")


def part_of(name):
    """The module examples/reciprocal_NAME.py, found as the study finds it."""
    if EXAMPLES not in sys.path:
        sys.path.append(EXAMPLES)
    return importlib.import_module(f"reciprocal_{name}")

"""The layer contract: the laws that every layer obeys, tried on drawn shapes, cuts, precisions and settings.

The laws stand in `layer_laws.py`; what a case is, and how numbers are compared, in `layer_run.py`.
"""
from collections import Counter
from functools import partial

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nplearn.errors import SettingError
from nplearn.testing.layer_laws import CONTRACT
from nplearn.testing.layer_run import Run
from nplearn.testing.strategies import Case, chunkings, dtypes, seeds


def check_layer(layer, in_shapes=None, examples=None):
    """Hold a layer to the contract; returns a Report, and `int(report)` is how many checks ran.

    layer      a function of nothing that makes a fresh, unbuilt layer; or a strategy of `Case`s
    in_shapes  shapes of a sample as in rows, (features,) or (H, W, C): a list of them, or a strategy
    examples   how many cases Hypothesis draws (its profile decides unless given)

        check_layer(lambda: Dense(7), in_shapes=[(5,), (1,)])
        check_layer(strategies.conv2d())
    """
    cases = layer
    if not isinstance(layer, st.SearchStrategy):
        if in_shapes is None:
            raise SettingError("check_layer", "no in_shapes", "shapes of a sample, as [(5,), (8, 6, 3)]", "give some")
        shapes = in_shapes if isinstance(in_shapes, st.SearchStrategy) else st.sampled_from(list(in_shapes))
        says = type(layer()).__name__
        cases = shapes.map(lambda shape: Case(says, layer, tuple(shape)))
    report = Report()

    @settings(settings.default, max_examples=examples or settings.default.max_examples, database=None, deadline=None,
              report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
    @given(cases, chunkings(), dtypes(), seeds())
    def holds(case, cut, dtype, seed):
        try:
            run = Run(case, cut, dtype, seed, report)
        except Exception as error:
            raise AssertionError(f"{case}, batch cut {cut}: no pass: {type(error).__name__}: {error}") from error
        _hold(run)

    with np.errstate(over="raise", invalid="raise", divide="raise", under="ignore"):
        holds()
    idle = [law for law in report.expected if not report.laws[law]]
    assert not idle, f"{report.layer}: these laws apply and never ran a check: {', '.join(idle)}"
    most = (report.laws["derivatives"] + report.laws["used twice"]) / 4
    assert report.kinks < most, f"{report.layer}: {report.kinks} points had no derivative, fewer than {most} may"
    return report


class Report:
    """How many checks ran: `laws` by law, `int(report)` in all; `kinks` counts points that had no derivative."""

    def __init__(self):
        self.names, self.laws, self.expected, self.examples, self.kinks = set(), Counter(), set(), 0, 0

    @property
    def layer(self):
        return ", ".join(sorted(self.names))

    def __int__(self):
        return sum(self.laws.values())

    def __repr__(self):
        return f"{self.layer}: {int(self)} checks of {len(self.laws)} laws in {self.examples} examples"


def _hold(run):
    report = run.report
    report.examples += 1
    report.names.add(run.name)
    for law, (applies, check) in CONTRACT.items():
        if applies(run):
            report.expected.add(law)
            try:
                check(partial(checked, run, law), run)
            except AssertionError:
                raise
            except Exception as error:
                raise AssertionError(f"law broken, {law}: {run}: {type(error).__name__}: {error}") from error


def checked(run, law, holds, says):
    """One check: counted, and an AssertionError that says what broke where unless it holds."""
    run.report.laws[law] += 1
    assert holds, f"law broken, {law}: {run}: {says}"

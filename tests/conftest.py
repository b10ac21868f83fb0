"""Hypothesis profiles, strict floating point, and the count of contract checks at the end of a session."""
import numpy as np
import pytest

from nplearn.testing import check_layer, register_profiles

PROFILE = register_profiles()
REPORTS = pytest.StashKey()


def pytest_configure(config):
    config.stash[REPORTS] = {}


@pytest.fixture(autouse=True)
def strict_floating_point():
    with np.errstate(over="raise", invalid="raise", divide="raise", under="ignore"):
        yield


@pytest.fixture
def contract(request):
    """contract(strategy of cases, least=...): check_layer, its count kept for the summary; fewer than `least` fail."""
    def hold(cases, in_shapes=None, least=1, examples=None):
        report = check_layer(cases, in_shapes, examples)
        request.config.stash[REPORTS][f"{request.node.nodeid.rpartition('::')[2]} ({report.layer})"] = report
        assert int(report) >= least, f"{report}: {least} are declared"
        return report
    return hold


def pytest_terminal_summary(terminalreporter, config):
    reports = config.stash[REPORTS]
    if reports:
        total = sum(map(int, reports.values()))
        terminalreporter.section(f"layer contract: {total} checks, profile {PROFILE}")
        for name, report in sorted(reports.items()):
            kinks = f", {report.kinks} points without a derivative" if report.kinks else ""
            terminalreporter.write_line(f"{name}: {int(report)} checks of {len(report.laws)} laws, "
                                        f"{report.examples} examples{kinks}")

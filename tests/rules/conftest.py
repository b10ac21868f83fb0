"""How many checks of the rule contract ran, at the end of a session."""
import pytest

from nplearn.testing.rules import check_rule

REPORTS = pytest.StashKey()


@pytest.fixture
def contract(request):
    """check_rule, its count kept for the summary."""
    def hold(rule, *args, **how):
        report = check_rule(rule, *args, **how)
        request.config.stash.setdefault(REPORTS, {})[request.node.name] = report
        return report
    return hold


def pytest_terminal_summary(terminalreporter, config):
    reports = config.stash.get(REPORTS, {})
    if reports:
        terminalreporter.section(f"rule contract: {sum(map(int, reports.values()))} checks on {len(reports)} rules")
        for name, report in reports.items():
            terminalreporter.write_line(f"{name}: {report.count} checks of {len(report.clauses)} clauses")

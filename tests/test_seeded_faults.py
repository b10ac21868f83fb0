"""Planted faults: each has its place, the README counts them, and what plants them tells a kill from an accident."""
import re
import subprocess

import pytest

from tests.seeded_faults import run
from tests.seeded_faults.fault import Fault

FAMILIES = run.families()
TOY = {"toy.py": "def double(x):\n    return 2 * x\n",
       "test_toy.py": "from toy import double\n\n\ndef test_double():\n    assert double(1) == 2\n",
       "test_fails.py": "def test_always():\n    assert False\n",
       "test_blind.py": "from toy import double\n\n\ndef test_zero():\n    assert double(0) == 0\n"}
THRICE = Fault("thrice", "toy.py", "2 * x", "3 * x", "test_toy.py")
LOOPS = Fault("loops", "toy.py", "    return", "    while True: pass\n    return", "test_toy.py")


@pytest.fixture
def toy(tmp_path):
    for name, text in TOY.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def clock(monkeypatch, toy):
    """No waiting: what loops is past its time at once."""
    true = subprocess.run

    def timed(command, timeout, **options):
        if "while True" in (toy / "toy.py").read_text():
            raise subprocess.TimeoutExpired(command, timeout)
        return true(command, timeout=timeout, **options)
    monkeypatch.setattr(subprocess, "run", timed)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_fault_has_one_place_and_tests_that_exist(family):
    for fault in FAMILIES[family]:
        assert run.planted((run.ROOT / fault.file).read_text(), fault)
        files = [word for word in fault.tests.split() if word.startswith("tests/")]
        assert files and all((run.ROOT / file.partition("::")[0]).exists() for file in files), fault
    assert len(set(FAMILIES[family])) == len(FAMILIES[family])


def test_the_readme_says_how_many_there_are():
    said = re.search(r"plants\s+(\d+) small faults", (run.ROOT / "README.md").read_text())
    assert int(said[1]) == sum(map(len, FAMILIES.values()))


def test_a_fault_is_killed_or_survives_and_is_mended(toy, capsys):
    assert run.survey({"toy": [THRICE]}, toy, 300) == 0
    assert "toy           killed    thrice" in capsys.readouterr().out
    assert run.survey({"toy": [THRICE, THRICE._replace(tests="test_blind.py")]}, toy, 300) == 1
    assert "1 killed, 1 survive, 0 ran out of time, 0 not planted" in capsys.readouterr().out
    assert (toy / "toy.py").read_text() == TOY["toy.py"]


def test_tests_that_fail_without_a_fault_kill_none(toy, capsys):
    assert run.survey({"toy": [THRICE, THRICE._replace(tests="test_fails.py")]}, toy, 300) == 2
    said = capsys.readouterr().out
    assert "without a fault: test_fails.py: fails" in said and "killed" not in said


def test_tests_that_do_not_exist_stop_the_run(toy, capsys):
    assert run.survey({"toy": [THRICE._replace(tests="test_gone.py")]}, toy, 300) == 2
    assert "without a fault: test_gone.py: pytest test_gone.py: status 4" in capsys.readouterr().out


def test_running_out_of_time_is_no_kill_unless_it_is_expected(toy, clock, capsys):
    assert run.survey({"toy": [LOOPS]}, toy, 300) == 1
    assert "TIMEOUT   loops: longer than 300 s" in (said := capsys.readouterr().out) and "0 killed" in said
    assert run.survey({"toy": [LOOPS._replace(hangs=True)]}, toy, 300) == 0
    assert "killed    loops: hangs, as expected" in capsys.readouterr().out
    assert (toy / "toy.py").read_text() == TOY["toy.py"]


def test_tests_too_slow_without_a_fault_stop_the_run(toy, clock, capsys):
    (toy / "toy.py").write_text(TOY["toy.py"] + "# while True\n")
    assert run.survey({"toy": [THRICE]}, toy, 300) == 2
    assert "without a fault: test_toy.py: longer than 300 s" in capsys.readouterr().out


def test_a_fault_without_its_place_is_reported(toy, capsys):
    assert run.survey({"toy": [THRICE._replace(old="4 * x")]}, toy, 300) == 1
    assert "toy           BROKEN    thrice: toy.py has 0 places" in capsys.readouterr().out

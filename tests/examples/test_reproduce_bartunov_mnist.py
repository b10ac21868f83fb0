"""reproduce_bartunov_mnist: what it writes, how it goes on, and what its search looks through."""
import json
import re

from tests.examples.test_examples import cells, module, run

SCRIPT = "reproduce_bartunov_mnist.py"


def lines(folder):
    return [cells(line) for line in (folder / "table.md").read_text().splitlines()[2:]]


def test_a_table_of_all_rules_that_have_run_and_goes_on(tmp_path):
    first = run(SCRIPT, "--data", "mnist5k", "--rules", "sdtp-par,backprop", "--epochs", 1, "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    assert [line[:2] for line in lines(tmp_path)] == [["backprop", "1"], ["sdtp-par", "1"]]
    assert [line[-1] for line in lines(tmp_path)] == ["1.48", "3.52"]
    before = json.loads((tmp_path / "results.json").read_text())
    again = run(SCRIPT, "--data", "mnist5k", "--rules", "backprop", "--epochs", 2, "--out", tmp_path)
    assert again.returncode == 0, again.stderr
    after = json.loads((tmp_path / "results.json").read_text())
    assert [line[:2] for line in lines(tmp_path)] == [["backprop", "2"], ["sdtp-par", "1"]]
    assert after["backprop"][:2] == before["backprop"] and after["sdtp-par"] == before["sdtp-par"]
    assert after["backprop"][2]["test_accuracy"] > 0.5


def test_every_rule_has_settings_that_can_be_made_and_the_schedule_of_its_name():
    example = module("reproduce_bartunov_mnist")
    data = example.load("mnist5k")
    for name, chosen in example.RULES.items():
        rule = example.trainer_of(name, chosen, data).rule
        assert (chosen[1] is None) == (not hasattr(rule, "sigma"))
        if chosen[1]:
            assert rule.schedule == {"par": "parallel", "alt": "alternating"}[name[-3:]]
            assert rule.optimiser.settings()["lr"] == chosen[1][0]


def test_a_search_draws_what_the_paper_searched_and_leaves_the_rest(tmp_path):
    example = module("reproduce_bartunov_mnist")
    tried = []
    class Trainer:
        def fit(self, epochs):
            return [{"test_accuracy": 0.5}]
    def trainer_of(name, chosen, data):
        tried.append((name, chosen))
        return Trainer()
    example.trainer_of = trainer_of
    class Options:
        trials, epochs = 3, 1
    for name, kept in ("dtp-par", "init=glorot"), ("sdtp-alt", "squares=mean"), ("ao-sdtp-alt", "units=512"):
        tried.clear()
        example.search(name, example.load("mnist5k"), Options())
        assert [other for other, _ in tried] == [name] * 3
        texts = [text for _, (_, _, text, _) in tried]
        assert len(set(texts)) == 3 and all(kept in text for text in texts)
        assert all(re.sub("=[0-9.]+", "", text) == re.sub("=[0-9.]+", "", example.RULES[name][2]) for text in texts)
        assert all(1e-5 <= forward[0] <= 3e-3 and 1e-5 <= inverse[0] <= 1e-2
                   for _, (forward, inverse, *_) in tried)


def test_a_rule_without_inverses_has_nothing_to_search(tmp_path):
    done = run(SCRIPT, "--data", "mnist5k", "--search", "fa", "--out", tmp_path)
    assert done.returncode == 2 and "a rule with inverses" in done.stderr

"""reproduce_akrout: what it prints and writes on the embedded images, how it goes on, and what it compares with."""
import json

import numpy as np
import pytest

from tests.examples.test_examples import cells, module, run


def test_it_writes_a_table_of_ours_beside_the_published_and_goes_on_where_it_stopped(tmp_path):
    first = run("reproduce_akrout.py", "--data", "mnist5k", "--rules", "wm,kp", "--epochs", 1, "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    header, _, *lines = (tmp_path / "table.md").read_text().splitlines()
    assert cells(header) == ["rule", "measure", "epoch 1, ours / published"]
    assert [cells(line)[:2] for line in lines] == [[rule, measure] for rule in ("wm", "kp") for measure in (
        "accuracy, %", "angle of B to W", "angle of deltas")]
    published = [float(cells(line)[2].split(" / ")[1]) for line in lines]
    assert published == [78.5, 61.3, 63, 88.9, 19.7, 19]
    one = json.loads((tmp_path / "results.json").read_text())
    again = run("reproduce_akrout.py", "--data", "mnist5k", "--rules", "wm,kp", "--epochs", 2, "--out", tmp_path)
    assert again.returncode == 0, again.stderr
    two = json.loads((tmp_path / "results.json").read_text())
    for rule in "wm", "kp":
        assert two[rule][0][:2] == one[rule][0] and len(two[rule][0]) == 3
        assert two[rule][0][2]["layers"][1]["weight_angle"] < one[rule][0][0]["layers"][1]["weight_angle"] - 1


def test_a_rule_that_is_none_of_them_is_refused(tmp_path):
    done = run("reproduce_akrout.py", "--data", "mnist5k", "--rules", "wn", "--out", tmp_path)
    assert done.returncode == 2 and "expected one of backprop, fa, wm, kp" in done.stderr


def test_published_values_are_whole_and_the_net_starts_as_published(tmp_path):
    example = module("reproduce_akrout")
    assert all(len(measure) == len(example.EPOCHS) for rows in example.PUBLISHED.values() for measure in rows)
    built = []
    class Stop(Exception):
        pass
    def trainer(net, *args, **options):
        built.append(net)
        raise Stop
    example.Trainer = trainer
    data = tuple(map(example.in_unit_range, example.load("mnist5k")))
    with pytest.raises(Stop):
        example.train("fa", 0, data, 1, tmp_path)
    fc1, fc2 = built[0].layers[1], built[0].layers[3]
    for layer, std in ((fc1, 1284 ** -0.5), (fc2, 510 ** -0.5)):
        assert layer.weight.value.std() == pytest.approx(std, rel=0.04)
    assert fc1.bias.value.std() == pytest.approx(1284 ** -0.5, rel=0.1) and fc2.bias.value.all()
    rows = data[0].normalised(data[0].inputs[:5])
    assert rows.min() == 0 and np.isclose(rows.max(), 1)

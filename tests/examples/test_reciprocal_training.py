"""The trainings of reciprocal_study: each has a file and a rule that serves, costs are right, looks move nothing."""
import json

import numpy as np
import pytest

from nplearn.layers import weighted
from nplearn.rules.registry import make
from tests.examples.reciprocal import part_of


def trained(rule, part="stale", setting="1", task="mnist-pyramid", images=300, lr=0.03):
    """(trainer, its cell's looks): one that has looked, if the part looks."""
    c, t = part_of("cells"), part_of("training")
    cell = c.Cell(part, task, rule.partition(":")[0], setting, 0)
    data = t.data_of("mnist5k", None, images, False)
    trainer = t.trainer_of({"rule": rule, "lr": lr, **c.USUAL}, cell, data)
    looks = t.LOOKS[part](trainer) if part in t.LOOKS else []
    trainer.fit(1)
    return trainer, looks


# -- what it is made of -----------------------------------------------------------------------------------------------

def test_every_rule_gets_as_many_settings_and_every_cell_a_file_of_its_own():
    c = part_of("cells")
    assert {len(contender.trials) for contender in c.CONTENDERS.values()} == {6}
    every = c.plan(list(c.SEEDS), list(c.TASKS), list(c.CONTENDERS), 5)
    assert len({cell.file for cell in every}) == len(every) > 500
    assert all(part_of("plan").seconds(cell, None, None) > 0 for cell in every)


def test_a_new_rule_is_one_line(monkeypatch):
    c, p = part_of("cells"), part_of("plan")
    added = {**c.CONTENDERS, "dfa": c.Contender("dfa")}
    monkeypatch.setattr(c, "COMPARED", (*c.COMPARED, "dfa"))        # as it is made from CONTENDERS
    for module in c, p:
        monkeypatch.setattr(module, "CONTENDERS", added)
    mine = c.plan(list(c.SEEDS), list(c.TASKS), ["dfa"], 5)
    assert [(part, sum(cell.part == part for cell in mine)) for part in ("search", "compare")] == [
        ("search", 6 * 4), ("compare", 5 * 4)]
    assert all(p.seconds(cell, None, None) > 0 for cell in mine)
    caps = {"epochs": None, "images": None, "mnist": "mnist"}
    assert c.described(mine[0], None, caps)["rule"] == "dfa"
    assert any("rule dfa: dfa" in line for line in p.settings_of_rule("dfa", c.TASKS))


@pytest.mark.parametrize("task", ["mnist-pyramid", "mnist-5x256", "cifar-fc", "cifar-conv"])
def test_every_rule_of_a_task_serves_its_net(task):
    c = part_of("cells")
    shape = (28, 28, 1) if task.startswith("mnist") else (32, 32, 3)
    for name in c.COMPARED:
        if name not in c.TASKS[task].without:
            net = c.TASKS[task].net().build(shape, 0)
            assert len(weighted(net)) == c.TASKS[task].depth
            make(c.CONTENDERS[name].rule(task, 0.1)).attach(net, 0)


def test_multiply_adds_are_those_counted_by_hand():
    c, t = part_of("cells"), part_of("training")
    shapes = [(128, 256), (64, 128), (10, 64)]
    walk = 64 * (2 * (784 * 256 + 256 * 128 + 128 * 64 + 640) + 256 * 128 + 128 * 64 + 640)
    inverse = sum(2 * m * m * n + m ** 3 // 3 for m, n in shapes)
    basis = sum(3 * n * n * m + 10 * 2 * m * n + m * n for m, n in shapes)     # apply, adjoint, outer; power iteration

    def spent(rule):
        cell = c.Cell("compare", "mnist-pyramid", rule, "best", 0)
        data = t.data_of("mnist5k", None, 640, False)
        return t.multiply_adds(t.trainer_of({"rule": rule, "lr": 0.1, **c.USUAL}, cell, data))
    assert spent("backprop") == spent("fa") == {"update": walk, "start": 0}
    assert spent("rf-exact") == spent("ndi") == {"update": walk + inverse, "start": 0}
    assert spent("rf-exact:refresh=10")["update"] == pytest.approx(walk + inverse / 10, rel=1e-12)
    assert spent("rf-exact:refresh=0") == {"update": walk, "start": 0}
    assert spent("rf") == {"update": pytest.approx(walk + basis, rel=1e-3), "start": 0}
    sleep = spent("rf-sleep:sleep=6,wake=3")
    assert sleep["update"] == pytest.approx(walk + 2 * basis, rel=1e-3)
    assert sleep["start"] == pytest.approx(6 * basis, rel=1e-3)
    mirror = sum(2 * 128 * m * n for m, n in shapes)
    assert spent("wm") == {"update": walk + mirror, "start": 10 * mirror}


# -- looks ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("part", "rule"), [("stale", "rf-exact:refresh=2"), ("stale", "rf-sleep:sleep=3,wake=2"),
                                            ("loop", "di:steps=5"), ("curvature", "backprop")])
def test_looking_moves_nothing(part, rule):
    seen, looks = trained(rule, part)
    blind, _ = trained(rule, "compare")
    assert looks and np.array_equal(seen.net.arena.value, blind.net.arena.value)


def test_fresh_feedback_is_at_the_inverse_and_stale_feedback_as_far_as_its_weights_have_moved():
    fresh, again, stale = (trained(rule)[1][-1] for rule in ("rf-exact", "rf-exact:refresh=2", "rf-exact:refresh=0"))
    assert fresh["step"] == 4                           # the last of five updates: `again` was refreshed after four
    fresh, again, stale = fresh["layers"], again["layers"], stale["layers"]
    for layer in fresh + again:
        assert layer["moved"] == 0 and layer["off"] < 1e-5 and layer["to_fresh"] == pytest.approx(1, abs=1e-6)
    for layer in stale:
        assert 0 < layer["moved"] < 0.2 and 0.5 < layer["off"] / layer["moved"] < 2.5
        assert 0.5 < layer["to_fresh"] < 1 - 1e-6 and layer["least"] > 0
    assert [layer["layer"] for layer in fresh] == ["fc2", "fc3", "fc4"]
    assert fresh[-1]["to_backprop"] > fresh[0]["to_backprop"] > 0.3        # alignment falls with depth


def test_the_loop_comes_nearer_its_closed_form_with_more_steps():
    few, many = (trained(f"di:steps={n}", "loop")[1][-1]["layers"][0] for n in (10, 100))
    assert many["off"] < few["off"] / 10 and many["to_closed"] > 1 - 1e-6


@pytest.mark.parametrize(("part", "rule"), [("search", "backprop"), ("stale", "rf-exact"), ("steps", "rf"),
                                            ("loop", "di:steps=5"), ("loop", "ndi"), ("compare", "rf-exact")])
@pytest.mark.parametrize("lr", [1e10, 1e30])
def test_a_training_that_diverges_is_a_result_looked_at_or_not(monkeypatch, part, rule, lr):
    c, t = part_of("cells"), part_of("training")
    monkeypatch.setattr(t, "EVERY", 1)
    cell = {"part": part, "task": "mnist-pyramid", "rule": rule.partition(":")[0], "setting": "lr=0.3", "seed": 0}
    result = t.run({"cell": cell, "rule": rule, "lr": lr, **c.USUAL, "epochs": 2, "images": 600, "data": "mnist5k"})
    assert "expected a finite loss" in result["diverged"] and bool(result["looks"]) == (part in t.LOOKS)
    assert part_of("numbers").score(result) == 0 and json.loads(json.dumps(result, allow_nan=False)) == result


def test_measures_of_layers_are_means_of_the_second_half_of_the_looks():
    n = part_of("numbers")
    seen = (9, 9), (1, 1), (None, 4), (2, 5), (3, 6)
    results = [{"looks": [{"layers": [{"off": a}, {"off": b}]} for a, b in seen]}]
    assert n.by_layer(results, "off") == [[2.5], [5]] and n.by_result(results, "off") == [3.75]
    assert n.reached([1, 2, 3], [None, 4, 5], 4) == 2 and n.reached([1, 2, 3], [3, None, 1], 2, falling=True) == 3

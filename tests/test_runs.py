"""Settings make the trainer they describe, survive JSON, and refuse what they cannot make."""
import json
from dataclasses import asdict

import numpy as np
import pytest

from nplearn import resume
from nplearn.backend import permutation
from nplearn.data.dataset import DataSet
from nplearn.errors import SettingError
from nplearn.layers import weighted
from nplearn.optim import SGD, Adam, AdamW, BatchManhattan, RMSprop
from nplearn.rules import FeedbackAlignment, registry
from nplearn.runs import LOSSES, OPTIMISERS, Settings


def images(n=30, shape=(28, 28, 1), classes=10):
    rng = np.random.default_rng(1)
    return DataSet("noise", "drawn", rng.integers(0, 256, (n, *shape), np.uint8), rng.integers(classes, size=n),
                   map(str, range(classes)), [0.5] * shape[2], [0.3] * shape[2])


DATA = images(), images(12)
SMALL = {"net_options": {"hidden": [9, 8]}, "batch": 8}


def bits(trainer):
    return [a.tobytes() for a in resume.arrays(trainer).values()]


def test_settings_survive_json_and_make_the_same_run():
    settings = Settings(rule="pfa:expand=2", lr_steps={1: 0.5}, decay_steps={2: 0.1}, **SMALL)
    again = Settings(**json.loads(json.dumps(asdict(settings))))    # keys of lr_steps have become text
    runs = [s.trainer(DATA, probe=0) for s in (settings, again)]
    for run in runs:
        run.fit(3)
    assert bits(runs[0]) == bits(runs[1]) and [r["lr"] for r in runs[1].history[1:]] == [0.05, 0.025, 0.025]
    assert [r["decay"] for r in runs[1].history[1:]] == pytest.approx([1e-4, 1e-4, 1e-5])


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", Adam), ("adamw", AdamW), ("rmsprop", RMSprop),
                                            ("manhattan", BatchManhattan)])
@pytest.mark.parametrize("rule", ["backprop", "kp"])
def test_every_optimiser_trains_and_is_twinned(name, kind, rule):
    trainer = Settings(rule=rule, optimiser=name, lr=0.001, **SMALL).trainer(DATA, probe=0)
    before = trainer.net.arena.value.copy()
    trainer.fit(1)
    assert all(type(o) is kind for o in resume.optimisers(trainer).values()) and len(OPTIMISERS) == 5
    assert len(resume.optimisers(trainer)) == (2 if rule == "kp" else 1) and (trainer.net.arena.value != before).any()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(loss):
    history = Settings(loss=loss, lr=0.01, **SMALL).trainer(DATA, probe=5).fit(4)
    assert history[-1]["train_loss"] < history[1]["train_loss"]


def test_the_seed_decides_weights_feedback_and_data_order_and_the_rule_only_feedback():
    def start(rule, seed):
        trainer = Settings(rule=rule, seed=seed, **SMALL).trainer(DATA, probe=0)
        return trainer.net.arena.value.tobytes(), trainer.train.order(0).tolist(), bits(trainer)[6:]
    assert start("fa", 3) == start("fa", 3)
    assert start("fa", 3)[:2] == start("kp", 3)[:2] == start("backprop", 3)[:2]
    assert all(a != b for a, b in zip(start("fa", 3), start("fa", 4), strict=True))
    assert start("fa", 3)[1] == permutation(3, "order", 0, n=30).tolist()


@pytest.mark.parametrize(("channels", "says"), [(1, "Shift(2)"), (3, "Compose")])
def test_only_images_with_colours_are_mirrored(channels, says):
    data = images(shape=(32, 32, channels))
    augment = Settings(augment=2).trainer((data, data), probe=0).train.augment
    assert says in repr(type(augment)) + repr(augment) and ("flip" in str(vars(augment)).lower()) == (channels == 3)
    assert Settings().trainer((data, data), probe=0).train.augment is None


def test_dtype_and_net_reach_the_trainer():
    trainer = Settings(dtype="float64", **SMALL).trainer(DATA)
    assert trainer.net.arena.value.dtype == trainer.train.dtype == trainer.test.dtype == np.float64
    assert [layer.n_out for layer in weighted(trainer.net)] == [9, 8, 10]
    assert [layer.n_out for layer in weighted(Settings(net="lenet").build((28, 28, 1), 10))] == [6, 16, 120, 84, 10]
    trainer.fit(1)


def test_about_describes_the_run_so_that_its_net_can_be_built_again():
    trainer = Settings(rule="fa", **SMALL).trainer(DATA)
    about = json.loads(json.dumps(trainer.about))
    net = Settings(**about["run"]).build(tuple(about["in_shape"]), len(about["classes"]))
    assert net.arena.value.tobytes() == trainer.net.arena.value.tobytes()
    assert about["records"] == [30, 12] and about["source"] == "drawn"


@pytest.mark.parametrize(("change", "says"), [
    ({"net": "lenets"}, "net: 'lenets'; expected one of mlp, lenet"), ({"rule": "fb"}, "rule: 'fb'; expected one of"),
    ({"optimiser": "sdg"}, "optimiser: 'sdg'; expected one of sgd, adam"), ({"loss": "mse"}, "loss: 'mse'"),
    ({"device": "tpu"}, "device: 'tpu'"), ({"batch": 0}, "batch: 0"), ({"threads": 0}, "threads: 0"),
    ({"augment": -1}, "Shift padding: -1"), ({"lr": -1.0}, "SGD lr: -1"), ({"lr": float("nan")}, "SGD lr: nan"),
    ({"decay": -0.1}, "SGD decay"), ({"momentum": 1.5}, "momentum: 1.5"),
    ({"lr_steps": {-1: 0.5}}, "MultiStep key: -1"), ({"lr_steps": {1: float("inf")}}, "MultiStep factor: inf")])
def test_what_cannot_be_made_is_refused_in_words(change, says):
    with pytest.raises(SettingError) as error:
        Settings(**{**SMALL, **change}).trainer(DATA)
    assert str(error.value).startswith(says)


def test_a_rule_brings_its_home_and_what_is_given_goes_before_it(monkeypatch):
    class AtHome(FeedbackAlignment):
        home = {"loss": "squared", "lr": 0.01, "net_options": {"activation": "sigmoid", "hidden": [5]}}
    monkeypatch.setitem(registry.RULES, "home", (AtHome, {}))
    settings = Settings.for_rule("home")
    assert (settings.loss, settings.lr, settings.rule) == ("squared", 0.01, "home")
    net = settings.build((28, 28, 1), 10)
    assert [type(layer).__name__ for layer in net.layers] == ["Flatten", "Dense", "Sigmoid", "Dense"]
    own = Settings.for_rule("home", lr=0.5, net_options={"hidden": [7, 6]}, seed=3)
    assert (own.lr, own.seed, own.net_options) == (0.5, 3, {"activation": "sigmoid", "hidden": [7, 6]})
    assert Settings.for_rule("home", net="lenet").net_options == {}
    assert Settings.for_rule("fa") == Settings(rule="fa") and AtHome.home["lr"] == 0.01


def test_rules_whose_feedback_must_forget_its_start_decay_at_first_unless_a_decay_is_given():
    for rule in "kp", "pfa:expand=2", "pfa-o", "pc-kp":
        settings = Settings.for_rule(rule)
        assert (settings.decay, settings.decay_steps) == (0.1, {2: 1e-3})
        given = Settings.for_rule(rule, decay=5e-4)
        assert (given.decay, given.decay_steps) == (5e-4, {})


def test_an_activation_by_name_is_refused_where_there_is_none():
    with pytest.raises(SettingError, match="mlp: activation 'sine'; expected one of relu, leaky-relu"):
        Settings(net_options={"activation": "sine"}).build((28, 28, 1), 10)

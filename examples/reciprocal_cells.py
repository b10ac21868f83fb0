"""The cells of reciprocal_study.py: which trainings the study is made of, how one is run, and what it should cost.

A cell is one training: part, task, rule, setting, seed. What it is made from (`described`) is JSON and stands in its
file beside what came out, so that a file of other settings is not taken for it.

    search    SIX settings of each rule on each task, a few epochs, accuracy on held-out training images, seed 0
    compare   the best of them on all training images, five seeds, tested after each epoch
    stale     feedback refreshed every 1, 10, 100 updates, once per epoch, never: the exact inverse, and recirculated
    steps     0.1, 1, 10, 100 recirculations per update, from zero and from random feedback
    curvature backprop and reciprocal feedback with and without momentum, backprop with Adam: training loss by update
    loop      dynamic inversion by the simulated loop against its closed form
"""
import math
import time
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from nplearn.data import Loader, load
from nplearn.data.augment import Compose, Flip, Shift
from nplearn.errors import TrainingError
from nplearn.layers import XAVIER, Conv2d, Dense, Flatten, Sequential, Tanh, weighted
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import Probe, cost, evaluate, norm
from nplearn.nets import mlp
from nplearn.optim import SGD, Adam
from nplearn.resume import plain
from nplearn.rules.closed_inversion import closed
from nplearn.rules.reciprocal_oracle import tikhonov
from nplearn.rules.registry import make
from nplearn.tape import Tape
from nplearn.train import Trainer

BATCH, MOMENTUM, DECAY, EVERY = 64, 0.9, 1e-4, 100      # EVERY: updates between looks into a training
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
NEVER = 10 ** 9                                         # updates between two refreshes of feedback that has none
SLEEP = 60                                              # recirculations of a refresh


def conv():
    """Three strided convolutions, no pooling: 32x32x3 -> 16x16x16 -> 8x8x32 -> 4x4x64 -> 10."""
    def layer(n, kernel):
        return Conv2d(n, kernel, stride=2, padding=kernel // 2, init=XAVIER)
    return Sequential(conv1=layer(16, 5), act1=Tanh(), conv2=layer(32, 5), act2=Tanh(), conv3=layer(64, 3), act3=Tanh(),
                      flatten=Flatten(), fc=Dense(10, init=XAVIER))


@dataclass(frozen=True)
class Task:
    """depth: weighted layers; epochs, search: of compare and of each trial; ms: seconds are estimated from it."""

    says: str
    data: str
    depth: int
    net: object
    epochs: int
    search: int
    ms: dict
    augment: int = 0
    without: tuple = ()                                 # rules that cannot serve the net


def times(*ms):
    """Milliseconds of an update, with its share of off-line work, in the order of COMPARED; None where refused."""
    return dict(zip(COMPARED, ms, strict=True))


COMPARED = ("backprop", "fa", "usf", "kp", "wm", "dtp", "pc", "ndi", "rf", "rf-sleep", "rf-exact")
# milliseconds of one thread of a shared x86-64 server (two cores, busy with other work), batches of 64
TASKS = {
    "mnist-pyramid": Task("784-256-128-64-10, tanh, MNIST", "mnist", 4, lambda: mlp(10, (256, 128, 64), Tanh), 10, 2,
                          times(2.2, 2.1, 2, 2, 4, 6, 5.5, 4, 5, 4, 3.7)),
    "mnist-5x256": Task("784-5x256-10, tanh, MNIST", "mnist", 6, lambda: mlp(10, (256,) * 5, Tanh), 10, 2,
                        times(3.5, 3.5, 3.6, 4, 9, 12, 26, 23, 12, 15, 19)),
    "cifar-fc": Task("3072-512-256-10, tanh, CIFAR-10, shifts by 4 pixels and flips", "cifar-10", 3,
                     lambda: mlp(10, (512, 256), Tanh), 30, 6, times(12, 12, 12, 12, 13, 18, 15, 17, 18, 22, 18), 4),
    "cifar-conv": Task("32x32x3, convolutions of stride 2: 5x5x16, 5x5x32, 3x3x64, then 10, tanh, CIFAR-10, shifts by "
                       "4 pixels and flips", "cifar-10", 4, conv, 20, 4,
                       times(15, 15, 15, 15, 31, 36, 72, None, 70, 85, None), 4, ("ndi", "rf-exact")),
}


USUAL = {"optimiser": "sgd", "momentum": MOMENTUM, "decay": DECAY}


@dataclass(frozen=True)
class Contender:
    """A rule as it is trained here: its text in the registry, and settings that are not the usual."""

    text: str
    own: dict = field(default_factory=dict)             # of `described`
    trials: tuple = tuple({"lr": lr} for lr in RATES)   # what the search tries: as many for each

    def rule(self, task, alpha=None):
        return self.text.format(twice=2 * TASKS[task].depth, alpha=alpha)


CONTENDERS = {
    "backprop": Contender("backprop"), "fa": Contender("fa"), "usf": Contender("usf"), "wm": Contender("wm"),
    "kp": Contender("kp", {"decay": 1e-3}),             # whose decay is what aligns it
    "dtp": Contender("dtp:alpha={alpha}", {}, tuple({"lr": lr, "alpha": a} for a in (0.1, 0.5)
                                                    for lr in (0.01, 0.03, 0.1))),
    "pc": Contender("pc:steps={twice},gamma=0.3"), "ndi": Contender("ndi"), "rf": Contender("rf"),
    "rf-sleep": Contender("rf-sleep:wake=50"), "rf-exact": Contender("rf-exact"),
    "backprop-sgd": Contender("backprop", {"momentum": 0.0}, tuple({"lr": 10 * lr} for lr in RATES)),
    "rf-exact-sgd": Contender("rf-exact", {"momentum": 0.0}, tuple({"lr": 10 * lr} for lr in RATES)),
    "backprop-adam": Contender("backprop", {"optimiser": "adam"}, tuple({"lr": lr / 30} for lr in RATES)),
}
CURVED = ("backprop-sgd", "backprop", "backprop-adam", "rf-exact-sgd", "rf-exact")
STALE = ("1", "10", "100", "epoch", "never")
STEPS = ("0.1", "1", "10", "100")
LOOPS = {"closed": "ndi", "60 steps": "di:steps=60", "200 steps": "di:steps=200"}
ROBUST = "mnist-pyramid"                                # the task of all parts but search and compare
EPOCHS = {"stale": 4, "steps": 3, "curvature": 5, "loop": 2}
SEEDS = {"search": 1, "compare": 5, "stale": 3, "steps": 3, "curvature": 5, "loop": 1}


@dataclass(frozen=True)
class Cell:
    part: str
    task: str
    rule: str
    setting: str
    seed: int

    @property
    def file(self):
        words = "-".join((self.part, self.task, self.rule, self.setting, str(self.seed)))
        return words.replace(" ", "_").replace(",", "_").replace("=", "") + ".json"


# -- one training -----------------------------------------------------------------------------------------------------

@lru_cache(maxsize=2)
def data_of(name, folder, images, held_out):
    """(training, test), as far as asked for; or training images in two, the last sixth (at least) held out."""
    training, test = load(name, folder)
    if images:
        training, test = training.take(range(min(images, len(training)))), test.take(range(min(images, len(test))))
    return training.split(-(-len(training) // 6)) if held_out else (training, test)


def run(settings, folder=None):
    """The training that `settings` describe, to its end; a JSON dict. A loss that is no number is a result too."""
    start, cell = time.process_time(), Cell(**settings["cell"])
    data = data_of(settings["data"], folder, settings["images"], cell.part == "search")
    trainer, result = trainer_of(settings, cell, data), {"settings": settings}
    result["updates"] = len(trainer.train)
    if cell.part == "compare":
        result["cost"] = multiply_adds(trainer)
    result["looks"] = LOOKS[cell.part](trainer) if cell.part in LOOKS and cell.setting != "reference" else []
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):     # a diverging loss has its own error
            result["history"] = trainer.fit(settings["epochs"])
    except TrainingError as error:
        result |= {"history": trainer.history, "diverged": str(error)}
    return plain(result | {"seconds": time.process_time() - start})


def trainer_of(settings, cell, data):
    training, test = data
    task, loss, seed = TASKS[cell.task], SoftmaxCrossEntropy(), cell.seed
    augment = Compose(Shift(task.augment), Flip()) if task.augment else None
    batches = Loader(training, BATCH, seed=seed, augment=augment)
    net = task.net().build(training.inputs.shape[1:], seed)
    rule = make(settings["rule"].format(epoch=len(batches))).attach(net, seed)
    own = {} if settings["optimiser"] == "adam" else {"momentum": settings["momentum"]}
    kind = Adam if settings["optimiser"] == "adam" else SGD
    optimiser = kind(net.arena, lr=settings["lr"], decay=settings["decay"], **own)
    probe = Probe(net, rule, loss, training.normalised(training.inputs[:256]), training.labels[:256])
    return Trainer(net, rule, optimiser, loss, batches, Loader(test, 500, shuffle=False), seed=seed,
                   probe=probe if cell.part == "compare" else None, label=cell.file)


def multiply_adds(trainer):
    """{"update": multiply-adds of an update, off-line work shared out, "start": before the first one}."""
    rule, batch = trainer.rule, probe_batch(trainer, BATCH)
    period = {name: vars(rule)[name] for name in ("refresh", "wake") if name in vars(rule)}
    vars(rule).update(dict.fromkeys(period, 1))         # so that the one step that is watched has it all
    try:
        by = cost(trainer.net, rule, trainer.loss, *batch).by("phase")
    finally:
        vars(rule).update(period)
    spent = {"learning": 0, "offline": 0} | {phase: counts.multiply_adds for phase, counts in by.items()}
    start = spent["offline"] * len(trainer.train) if hasattr(rule, "warm") else spent["offline"] * ("wake" in period)
    spent["learning"] /= period.get("refresh", 1) or math.inf
    spent["offline"] /= period.get("wake", 1)
    return {"update": sum(spent.values()), "start": start}


# -- looks into a training, before its updates ------------------------------------------------------------------------

def look(trainer, due, measure, after=lambda step: None):
    """A list that fills, as the training goes on, with measure() before each update `step` for which due(step)."""
    update, seen = trainer.update, []

    def watched(inputs, labels):
        if due(trainer.step):
            seen.append({"step": trainer.step, **measure()})
        value = update(inputs, labels)
        after(trainer.step + 1)
        return value
    trainer.update = watched                            # on this object alone
    return seen


def stalest(trainer):
    """Before every EVERY-th update, and before the last of an epoch: when what is refreshed is about to be."""
    return lambda step: (step + 1) % EVERY == 0 or (step + 1) % len(trainer.train) == 0


def look_at_feedback(trainer):
    """Per layer: how far V is from the Tikhonov inverse, how far W has moved since V's refresh, errors' cosines."""
    net, rule, batch = trainer.net, trainer.rule, probe_batch(trainer, 256)
    period = rule.refresh if hasattr(rule, "refresh") else rule.wake if rule.sleep else 1
    kept = {}

    def keep(step):
        if step == 0 or (period and step % period == 0):
            kept.update({layer: layer.weight.value.copy() for layer in rule.layers})

    def measure():
        tape = Tape(net, trainer.loss, mode="probe").begin(*batch)
        tape.run(rule)
        mine, true = deltas(trainer, tape), deltas(trainer, tape, exact=True)
        stale = {layer: [p.value.copy() for p in layer.feedback.params().values()] for layer in rule.layers}
        found = []
        for layer in rule.layers:
            V, W = layer.feedback.matrix.value, layer.weight.value
            fresh = tikhonov(W, rule.lam * (W * W).sum() / min(W.shape))
            found.append({"layer": layer.path, "moved": norm(W - kept[layer]) / norm(W),
                          "off": norm(V - fresh) / norm(fresh),
                          "least": float(np.linalg.eigvals((W @ V.T).astype("float64")).real.min())})
            V[...], layer.feedback.power.value[...] = fresh, (W * W).sum()
        best = deltas(trainer, tape)
        for layer in rule.layers:
            for param, value in zip(layer.feedback.params().values(), stale[layer], strict=True):
                param.value[...] = value
        for one, below in zip(found, weighted(net), strict=False):
            one |= {"to_fresh": cosine(mine[below], best[below]), "to_backprop": cosine(mine[below], true[below])}
        return {"layers": found}
    keep(0)
    return look(trainer, stalest(trainer), measure, keep)


def look_at_loop(trainer):
    """Cosine and relative distance of the errors that the loops settle at to those of the closed form."""
    net, rule, batch = trainer.net, trainer.rule, probe_batch(trainer, 64)

    def solved(layer, d, V, shape):
        return layer.adjoint(d, closed(layer.weight.value, V, rule.alpha), shape)

    def measure():
        tape = Tape(net, trainer.loss, mode="probe").begin(*batch)
        tape.run(rule)
        mine = deltas(trainer, tape)
        for layer in rule.layers:
            layer.feedback.settle = solved
        true = deltas(trainer, tape)
        for layer in rule.layers:
            layer.feedback.settle = rule.settle
        return {"layers": [{"layer": below.path, "to_closed": cosine(mine[below], true[below]),
                            "off": norm(mine[below] - true[below]) / norm(true[below])}
                           for below in weighted(net)[:-1]]}
    return look(trainer, stalest(trainer), measure)


def look_at_loss(trainer):
    """Loss on 2,000 training images every 25 updates: what an update bought, free of the batch's luck."""
    data = trainer.train.data
    fixed = Loader(data.take(range(min(2000, len(data)))), 500, shuffle=False)
    return look(trainer, lambda step: step % 25 == 0,
                lambda: {"loss": evaluate(trainer.net, trainer.loss, fixed, rule=trainer.rule)["loss"]})


LOOKS = {"stale": look_at_feedback, "steps": look_at_feedback, "loop": look_at_loop, "curvature": look_at_loss}


def probe_batch(trainer, n):
    data = trainer.train.data
    return data.normalised(data.inputs[:n]), data.labels[:n]


def deltas(trainer, tape, exact=False):
    """{layer: its delta} of a walk down this pass."""
    walk = tape.walk(exact=exact, records=True)
    if exact:
        trainer.net.backward(walk.error, walk)
    else:
        trainer.rule.assign(trainer.net, walk)
    return {layer: found[0].copy() for layer, found in walk.deltas.items()}


def cosine(a, b):
    size = norm(a) * norm(b)
    return float((a.astype("float64") * b).sum() / size) if size else math.nan

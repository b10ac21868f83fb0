"""One training of reciprocal_study.py: from the settings of a cell (`described`) to its result, both plain JSON.

A part may look into its trainings. LOOKS says by part what is measured before some of the updates. It moves nothing.
"""
import math
import time
from functools import lru_cache

import numpy as np
from reciprocal_cells import BATCH, EVERY, HELD_OUT, LOOPED, LOSS_EVERY, PROBED, TASKS, WATCHED, Cell

from nplearn.data import Loader, load
from nplearn.data.augment import Compose, Flip, Shift
from nplearn.errors import TrainingError
from nplearn.layers import weighted
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import Probe, cost, evaluate, norm
from nplearn.optim import SGD, Adam
from nplearn.resume import plain
from nplearn.rules.closed_inversion import closed
from nplearn.rules.reciprocal_oracle import tikhonov
from nplearn.rules.registry import make
from nplearn.tape import Tape
from nplearn.train import Trainer


@lru_cache(maxsize=2)
def data_of(name, folder, images, held_out):
    """(training, test), at most `images` of each; held_out: the training images in two, the last sixth for the test."""
    training, test = load(name, folder)
    if images:
        training, test = training.take(range(min(images, len(training)))), test.take(range(min(images, len(test))))
    return training.split(-(-len(training) // HELD_OUT)) if held_out else (training, test)


def run(settings, folder=None):
    """The training that `settings` describe, to its end; a JSON dict. One that diverges is a result too."""
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
    """The Trainer of a cell, nothing trained yet."""
    training, test = data
    task, loss, seed = TASKS[cell.task], SoftmaxCrossEntropy(), cell.seed
    augment = Compose(Shift(task.augment), Flip()) if task.augment else None
    batches = Loader(training, BATCH, seed=seed, augment=augment)
    net = task.net().build(training.inputs.shape[1:], seed)
    rule = make(settings["rule"].format(epoch=len(batches))).attach(net, seed)
    own = {} if settings["optimiser"] == "adam" else {"momentum": settings["momentum"]}
    kind = Adam if settings["optimiser"] == "adam" else SGD
    optimiser = kind(net.arena, lr=settings["lr"], decay=settings["decay"], **own)
    probe = Probe(net, rule, loss, training.normalised(training.inputs[:PROBED]), training.labels[:PROBED])
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
    """A list that fills as the training goes on: measure() before each update that is due; after(step) behind all."""
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
    net, rule, batch = trainer.net, trainer.rule, probe_batch(trainer, PROBED)
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
            found.append({"layer": layer.path, "moved": share(norm(W - kept[layer]), norm(W)),
                          "off": share(norm(V - fresh), norm(fresh)), "least": least(W @ V.T)})
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
    net, rule, batch = trainer.net, trainer.rule, probe_batch(trainer, LOOPED)

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
                            "off": share(norm(mine[below] - true[below]), norm(true[below]))}
                           for below in weighted(net)[:-1]]}
    return look(trainer, stalest(trainer), measure)


def look_at_loss(trainer):
    """Loss on the same training images time and again: what an update bought, free of the batch's luck."""
    data = trainer.train.data
    fixed = Loader(data.take(range(min(WATCHED, len(data)))), 500, shuffle=False)
    return look(trainer, lambda step: step % LOSS_EVERY == 0,
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
    return share(float((a.astype("float64") * b).sum()), norm(a) * norm(b))


def share(a, b):
    """a / b; NaN where there is nothing to compare with."""
    return a / b if b else math.nan


def least(M):
    """The least real part of M's eigenvalues; NaN in a training that is diverging, which its loss will tell."""
    return float(np.linalg.eigvals(M.astype("float64")).real.min()) if np.isfinite(M).all() else math.nan

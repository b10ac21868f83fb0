"""The training loop, with progress, log, evaluation, checkpoints and exact resume.

    tape.begin(inputs, labels, seed=(seed, step))        every random draw is a function of (seed, step), so a
    tape.run(net)                                        resumed run sees what the run that never stopped saw
    rule.assign(net, tape)                               gradients
    optimiser.step()                                     the weights move
    rule.learn(net, tape)                                the feedback moves
    rule.phase(net, batches)                             off-line work, if due

A folder, where one is given, holds `log.jsonl` (a line an epoch) and `checkpoint.npz`. Ctrl-C ends the step that is
being computed, saves, and stops; a second one stops at once and leaves the last checkpoint as it is.
"""
import json
import math
import os
import time

import numpy as np
from tqdm import tqdm

from nplearn import resume
from nplearn.backend import permutation, to_host
from nplearn.errors import TrainingError
from nplearn.interrupts import Interrupts
from nplearn.kernels.threads import use_threads
from nplearn.layers import laned, weighted
from nplearn.metrics import evaluate
from nplearn.resume import plain
from nplearn.tape import Tape


class Trainer:
    """Trains `net` under `rule` (attached) with `optimiser` (over net.arena) to lower `loss` on the loader `train`.

    test        a Loader to evaluate on after each epoch, or None
    seed        int; decides every draw of the passes
    probe       a metrics.Probe to measure before the first epoch and after each, or None
    folder      where log and checkpoints go, or None for no files
    bar         True for a progress bar of its own, a tqdm to advance, or None
    label       what the bar says before the epoch
    save_every  seconds between checkpoints; there is always one at the end, and one after Ctrl-C
    threads     lanes of nets that work on maps (the same bits for any number), in other nets of BLAS
    about       what else a checkpoint should remember (JSON), such as how to build the net
    """

    def __init__(self, net, rule, optimiser, loss, train, test=None, seed=0, probe=None, folder=None, bar=None,
                 label="", save_every=60.0, threads=1, about=None):
        self.net, self.rule, self.optimiser, self.loss = net, rule, optimiser, loss
        self.train, self.test, self.seed, self.probe = train, test, seed, probe
        self.folder, self.bar, self.label, self.save_every, self.about = folder, bar, label, save_every, about or {}
        rule.check(net)
        use_threads(threads, laned(net))
        rule.follow(optimiser)
        self.tape, self.phase_tape = Tape(net, loss), Tape(net, loss, mode="probe")
        self.epoch, self.index, self.step = 0, 0, 0     # where the run stands: epoch, next batch in it, updates done
        self.sums = {"loss": 0.0, "right": 0, "n": 0}   # of the epoch so far
        self.history, self.step_ms = [], []
        self.early = None                               # the log's first line
        self.whole = True                               # False inside an update, whose half is not to be saved

    # -- the loop ---------------------------------------------------------------------------------------------------

    def fit(self, epochs, resume=False):
        """Train until `epochs` epochs are done; returns the history, a list of dicts, one an epoch.

        With resume=True a checkpoint in the folder is taken up where there is one.
        """
        resumed = resume and self.folder is not None and self.load()
        own_bar = tqdm(total=epochs * len(self.train), initial=self.step, unit="step") if self.bar is True else None
        bar = own_bar if own_bar is not None else self.bar
        if resumed and bar is not None and own_bar is None:
            bar.update(self.step)
        self.saved = time.monotonic()
        try:
            with Interrupts() as interrupted:
                if self.step == 0 and not self.history:
                    self.measure_start()
                    self.whole = False
                    self.rule.phase(self.net, Batches(self, 0, 0))
                    self.whole = True
                while self.epoch < epochs:
                    self.one_epoch(bar, interrupted)
                if interrupted:                         # during the last evaluation
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            if self.folder and self.whole:
                self.save()
            raise
        finally:
            if own_bar is not None:
                own_bar.close()
        if self.folder:
            self.save()
        return self.history

    def one_epoch(self, bar, interrupted):
        for optimiser in (self.optimiser, *self.rule.optimisers().values()):
            optimiser.epoch = self.epoch
        for inputs, labels in self.train.epoch(self.epoch, start=self.index):
            start, self.whole = time.perf_counter(), False
            value = self.update(inputs, labels)
            self.step_ms.append(1e3 * (time.perf_counter() - start))
            self.sums["loss"] += value * len(labels)
            self.sums["right"] += self.right()
            self.sums["n"] += len(labels)
            self.index, self.step, self.whole = self.index + 1, self.step + 1, True
            if bar is not None:
                bar.set_description_str(f"{self.label} epoch {self.epoch + 1}".strip(), refresh=False)
                bar.set_postfix_str(f"loss {self.sums['loss'] / self.sums['n']:.3f}, "
                                    f"accuracy {self.sums['right'] / self.sums['n']:.3f}", refresh=False)
                bar.update()
            if self.step == EARLY:
                self.early_report(bar)
            if interrupted:
                raise KeyboardInterrupt
            if self.folder and time.monotonic() - self.saved > self.save_every:
                self.save()
        self.close_epoch()

    def update(self, inputs, labels):
        """One update from one batch of rows; returns the mean loss before it."""
        net, tape, rule = self.net, self.tape, self.rule
        tape.begin(inputs, labels, seed=(self.seed, self.step))
        value = tape.run(rule)
        if not math.isfinite(value):
            where = f"{self.label} epoch {self.epoch + 1}, step {self.step}".strip()
            raise TrainingError(where, f"a loss of {value}; {self.blame()}", "a finite loss",
                                "lower the learning rate, or look at the feedback's scale")
        rule.assign(net, tape)
        self.optimiser.step()
        rule.learn(net, tape)
        ends = self.index + 1 == len(self.train)        # of the epoch: what is due in the next one is due now
        rule.phase(net, Batches(self, self.step + 1, self.epoch + ends))
        return value

    def close_epoch(self):
        n = self.sums["n"]
        record = {"epoch": self.epoch + 1, "step": self.step, "train_loss": self.sums["loss"] / n,
                  "train_accuracy": self.sums["right"] / n, **self.optimiser.now,
                  "step_ms": float(np.median(self.step_ms)) if self.step_ms else None, **self.measure()}
        self.whole = False
        self.epoch, self.index, self.step_ms = self.epoch + 1, 0, []
        self.sums = {"loss": 0.0, "right": 0, "n": 0}
        self.history.append(plain(record))
        self.whole = True
        self.write_log()

    def measure_start(self):
        self.history.append(plain({"epoch": 0, "step": 0, **self.measure()}))

    def measure(self):
        """Test loss and accuracy, and the probe's report, as far as they were asked for."""
        found = {}
        if self.test is not None:
            result = evaluate(self.net, self.loss, self.test, rule=self.rule)
            found |= {"test_loss": result["loss"], "test_accuracy": result.get("accuracy")}
        if self.probe is not None:
            found["layers"] = self.probe.measure()
        return found

    def right(self):
        labels = self.tape.labels
        return int((self.tape.output.argmax(axis=1) == labels).sum()) if labels.dtype.kind in "iu" else 0

    def early_report(self, bar):
        """A first line of the log after a few steps: what a step costs, and whether the loss is sane."""
        ms = float(np.median(self.step_ms))
        line = {"early": True, "step": self.step, "loss": self.sums["loss"] / self.sums["n"], "step_ms": ms,
                "epoch_seconds": ms * len(self.train) / 1e3}
        self.early = line
        self.write_log()
        if self.bar is True:
            bar.write(f"{self.label or 'training'}: loss {line['loss']:.3f} after {self.step} steps, "
                      f"{line['step_ms']:.1f} ms a step, about {line['epoch_seconds']:.0f} s an epoch")

    def blame(self):
        """The lowest layer where something is not a finite number, in words."""
        def finite(x):
            return np.isfinite(to_host(x)).all()
        for layer in weighted(self.net):
            if not all(map(finite, self.tape.seen(layer))):
                return f"the input of {layer.path} is not finite"
            if not all(finite(param.value) for param in layer.params().values()):
                return f"{layer.path} has weights that are not finite"
        words = "the loss of a finite output" if finite(self.tape.output) else "the output is not finite"
        return f"{words}, behind {layer.path}"

    # -- files ------------------------------------------------------------------------------------------------------

    @property
    def file(self):
        return os.path.join(self.folder, "checkpoint.npz")

    def save(self):
        """Write the checkpoint: all that the run needs to go on to the same bits."""
        os.makedirs(self.folder, exist_ok=True)
        resume.save(self)
        self.saved = time.monotonic()

    def load(self):
        """Go on from the newest whole checkpoint in the folder; False if there is none at all."""
        if not resume.load(self):
            return False
        self.step_ms = []
        self.write_log()
        return True

    def write_log(self):
        """The whole history, a line an epoch: after a resume no epoch stands twice."""
        if self.folder:
            os.makedirs(self.folder, exist_ok=True)
            part = os.path.join(self.folder, "log.jsonl.part")
            with open(part, "w") as log:
                log.writelines(json.dumps(plain(line)) + "\n" for line in [self.early, *self.history] if line)
            os.replace(part, os.path.join(self.folder, "log.jsonl"))


EARLY = 10                                              # steps before the early report


class Batches:
    """Training batches for a rule's off-line phase, as begun tapes, in an order of their own.

    `step` and `epoch` are those of the next update, `per_epoch` says how many make an epoch. The order is keyed by
    (seed, "phase", step): it changes no data order, and is the same after a resume. There is no last batch: a rule
    takes as many as it wants.
    """

    def __init__(self, trainer, step, epoch):
        self.trainer, self.step, self.epoch, self.drawn = trainer, step, epoch, 0
        self.per_epoch = len(trainer.train)

    def __iter__(self):
        return self

    def __next__(self):
        loader, seed = self.trainer.train, self.trainer.seed
        data, size = loader.data, min(loader.size, len(loader.data))
        turn, i = divmod(self.drawn, len(data) // size)
        if i == 0:
            self.order = permutation(seed, "phase", self.step, turn, n=len(data))
        records, self.drawn = self.order[i * size:(i + 1) * size], self.drawn + 1
        return self.trainer.phase_tape.begin(data.normalised(data.inputs[records], loader.dtype), data.labels[records],
                                             seed=(seed, "phase", self.step, turn, i))

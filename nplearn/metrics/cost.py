"""What a training step costs: multiply-adds, bytes moved and random draws, by phase, layer and operation.

One step is made and watched, whatever the rule; net, rule and optimiser are then as they were, to the bit. Counted are

    multiply-adds  of matrix products:   apply, adjoint, outer   size of d, times the weights that each entry meets
                                         mix(d, B), widen(W, B)  size of the result, times the rows of B
                                         another product         M N K
                   d is the array on the output's side: with W itself the first three are N |W| uses. A convolution
                   counts every tap at every output, in the padding too, as is the custom and as im2col multiplies.
    bytes          the least traffic: an operation reads each operand once and writes each result once. Operations are
                   the above, the forward and (without weights) the backward of a layer, an optimiser's step, and
                   elsewhere each arithmetic call of NumPy. Copies, assignments, views, zeros without memory are free.
    draws          random numbers from `tape.rng`, `stream`, or a generator that a layer, a feedback or a rule holds

Phases are forward (with the loss), credit (`rule.assign`), learning (`optimiser.step`, `rule.learn`) and offline
(`rule.phase`, if due, on the given batch). Products in a rule's own code are seen where one operand comes from the
pass, a Param or a draw and has not been through np.asarray (as a rule's examination of its weights on the host has).
Linear algebra counts what its algorithm does to leading order, n x n, or n the smaller side of m x n:

    solve  n^3/3 + n^2 a column      svd      7 m n^2 + 4 n^3; values alone, and cond: 2 m n^2 - 2 n^3/3
    inv    n^3                       pinv     the svd, and m n^2
                                     eigvals  5 n^3, eig 25/2 n^3

Source of these: Golub and Van Loan 2013, Matrix Computations, 4th edition (half the flops given there: LU, sections
3.1 and 3.2; svd by Golub and Reinsch, 8.6; eigenvalues by Hessenberg form and QR, 7.5); inv is LAPACK's getrf, getri.
"""
import tracemalloc
from contextlib import contextmanager
from math import nan
from typing import NamedTuple

import numpy as np

from nplearn.errors import BuildError, SettingError
from nplearn.metrics.unchanged import unchanged
from nplearn.metrics.watch import Watch
from nplearn.optim import SGD
from nplearn.tape import Tape

KEYS = ("phase", "layer", "operation")


class Counts(NamedTuple):
    """What a step, or a part of one, costs."""

    multiply_adds: int = 0
    bytes: int = 0
    draws: int = 0

    def plus(self, other):
        return Counts(*map(sum, zip(self, other, strict=True)))

    def over(self, other):
        """Each count over the other's; NaN where that is 0."""
        return Counts(*(mine / theirs if theirs else nan for mine, theirs in zip(self, other, strict=True)))


class Cost:
    """`parts` is {(phase, layer's path, operation): Counts}, `total` their sum; `print(cost)` shows a table.

    What belongs to no layer (loss, optimisers, a rule's work outside the walk) has the path "".
    """

    def __init__(self, parts):
        self.parts = parts

    def by(self, *keys):
        """Sums by "phase", "layer" or "operation": {name: Counts}, or by several: {(name, ...): Counts}."""
        for key in keys:
            if key not in KEYS:
                raise SettingError("cost", f"{key!r}", f"some of {', '.join(KEYS)}", "choose of these")
        sums = {}
        for part, counts in self.parts.items():
            names = tuple(part[KEYS.index(key)] for key in keys)
            names = names[0] if len(names) == 1 else names
            sums[names] = sums.get(names, Counts()).plus(counts)
        return sums

    @property
    def total(self):
        return self.by().get((), Counts())

    def over(self, other):
        """The total over another's, such as backprop's: Counts of ratios."""
        return self.total.over(other.total)

    def table(self, *keys):
        """A line for each sum of `by(*keys)`, and the total."""
        lines = [(*keys, *Counts._fields)]
        for names, counts in self.by(*keys).items() if keys else ():
            lines.append((*([names] if len(keys) == 1 else names), *(f"{n:,}" for n in counts)))
        lines.append((*["total", "", ""][:len(keys)], *(f"{n:,}" for n in self.total)))
        width = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(f"{cell:{'<' if i < len(keys) else '>'}{n}}"
                                   for i, (cell, n) in enumerate(zip(line, width, strict=True))) for line in lines)

    def __str__(self):
        return self.table("phase", "operation")


def cost(net, rule, loss, inputs, labels, optimiser=None, steps=1):
    """The Cost of one step of `rule`, attached to `net`, on a batch of rows.

    optimiser  of net.arena, and by its twin of what the rule learns; plain SGD unless given
    steps      more than one, all counted: for a rule whose off-line phase is not due after each

    >>> from nplearn.losses import SoftmaxCrossEntropy
    >>> from nplearn.nets import mlp
    >>> from nplearn.rules import Backprop
    >>> net = mlp(10, hidden=(20,)).build(30)
    >>> batch = np.ones((8, 30), np.float32), np.zeros(8, int)
    >>> found = cost(net, Backprop().attach(net), SoftmaxCrossEntropy(), *batch)
    >>> found.by("phase")["credit"].multiply_adds       # 2 N sum of |W|, less N |W| of fc1, which sends nothing
    8000
    """
    with tried(net, rule, loss, optimiser) as optimiser:
        watch = Watch()
        with watch.over(net, rule, loss, optimiser):
            for _ in range(steps):
                step(net, rule, loss, optimiser, inputs, labels, watch.see, lambda name: setattr(watch, "phase", name))
    return Cost(summed(watch.notes))


def held(net, rule, loss, inputs, labels, optimiser=None):
    """Bytes that such a step holds at its fullest beyond what stands before it: activities, targets, scratch."""
    for _ in range(2):                                  # the second time: some scratch is made once and kept
        with tried(net, rule, loss, optimiser) as stepper, traced() as peak:
            step(net, rule, loss, stepper, inputs, labels)
            found = peak()
    return found


@contextmanager
def tried(net, rule, loss, optimiser):
    """An optimiser for a step after which all is as it was."""
    rule.check(net)
    if net.device.xp is not np:
        raise SettingError("cost", f"a net on {net.device.name}", "one on the CPU", "build it there: counts agree")
    if optimiser is not None and optimiser.arena is not net.arena:
        raise BuildError("cost", "an optimiser of something else", "one of net.arena", "give that")
    with unchanged(net, rule, loss, optimiser, rule.arrays()):
        optimiser = SGD(net.arena, 0.01) if optimiser is None else optimiser
        rule.follow(optimiser)                          # a twin of its own will do: slots do not change what is counted
        yield optimiser


def step(net, rule, loss, optimiser, inputs, labels, see=lambda x: x, phase=lambda name: None):
    """One training step and the off-line phase behind it; `see` is given the input, `phase` each phase's name."""
    def begin(mode="train"):
        tape = Tape(net, loss, mode).begin(inputs, labels)
        tape.input = see(tape.input)
        return tape
    phase("forward")
    tape = begin()
    tape.run(rule)
    phase("credit")
    rule.assign(net, tape)
    phase("learning")
    optimiser.step()
    rule.learn(net, tape)
    phase("offline")
    rule.phase(net, Batches(begin, optimiser))


@contextmanager
def traced():
    """A function that says how many bytes were held at once, at most, since here."""
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        if not running:
            tracemalloc.stop()


def summed(notes):
    """{(phase, path, operation): Counts} of a Watch's notes."""
    parts = {}
    for phase, path, operation, *counts in notes:
        if any(counts):
            part = phase, path, operation
            parts[part] = parts.get(part, Counts()).plus(counts)
    return parts


class Batches:
    """What `rule.phase` draws from: one batch, again and again. An epoch is one update long: what a rule does once an
    epoch over all batches is counted as what it does for one."""

    per_epoch = 1

    def __init__(self, begin, optimiser):
        self.begin, self.step, self.epoch = begin, optimiser.steps, optimiser.epoch

    def __iter__(self):
        return self

    def __next__(self):
        return self.begin("probe")

"""What optimisers share: a clock, settings under schedules, slots, and the walk over the arena in blocks.

    now = settings at (steps, epoch)      lr, decay, ... as Python floats
    update(W, G, block, now, t, u)        for each block of 128 Ki entries: the optimiser's equations
    arena.project()                       constraints hold again
    steps <- steps + 1

W and G are views of arena.value and arena.grad, t and u two scratch rows that stay in a core's cache. G is read only.
The two ways to decay, with lam zero for the Params that decay spares:

    coupled      G + lam W                in place of G (L2 regularisation)
    decoupled    W <- (1 - lr lam) W      apart from the step along G

A rule's learned feedback is stepped by a twin, `optimiser.like(arena)`. It has slots of its own and takes clock,
settings and schedules from its leader: after the leader's step it uses exactly the values of that step, although the
clock has moved on. Kolen-Pollack's law needs that: W - B shrinks by one common factor only if W and B see the same lr
and decay.

Kept between steps: the slots (flat arrays over the arena), the clock, and the values of the last step.
Source: coupled against decoupled decay, Loshchilov and Hutter 2019, ICLR, arXiv 1711.05101.
"""
from abc import ABC, abstractmethod
from copy import copy

import numpy as np

from nplearn.backend import array_module, to_host
from nplearn.errors import CheckpointError, SettingError
from nplearn.kernels import lanes, workspace
from nplearn.optim.schedule import as_schedule, number
from nplearn.params import Arena

BLOCK = 128 * 1024                                      # entries: what a block touches fits a core's cache


class Optimiser(ABC):
    """Moves `arena.value` by `arena.grad`.

    lr, decay     numbers or schedules, as is whatever a subclass names in `scheduled`
    decay_bias    False spares Params of kind "bias" from decay
    decay_norm    False spares Params of kind "norm"
    """

    options = ()                                        # attributes that settings() tells, besides what is scheduled

    def __init__(self, arena, lr, decay, decay_bias=True, decay_norm=True, **scheduled):
        self.decay_bias, self.decay_norm = bool(decay_bias), bool(decay_norm)
        self.schedules = {name: as_schedule(x, f"{type(self).__name__} {name}")
                          for name, x in {"lr": lr, "decay": decay, **scheduled}.items()}
        for name, schedule in self.schedules.items():
            plain = schedule.describe()
            self.require(not isinstance(plain, float) or plain >= 0, name, plain, "0 or more")
        if not isinstance(arena, Arena):
            raise SettingError(type(self).__name__, f"{type(arena).__name__} to move", "an Arena",
                               "give net.arena, of a net that is built")
        self.leader, self._epoch, self._now = self, 0, None
        self.own(arena)

    @abstractmethod
    def update(self, W, G, block, now, t, u):
        """Move W, one block of the arena; `self.slots[name][block]` are its slots."""

    def slot_names(self):
        return ()

    def prepare(self):
        """Make what else the optimiser holds for its arena; asked once for each arena."""
        return None

    def own(self, arena):
        self.arena, self.moves, self.xp = arena, 0, array_module(arena.value)
        n, dtype = arena.value.size, arena.value.dtype
        self.slots = {name: workspace.zeros(self.xp, (n,), dtype) for name in self.slot_names()}
        size = max(1, BLOCK if self.xp is np else n)    # on a GPU launches cost, not cache
        self.blocks = [(W[i:i + size], G[i:i + size], slice(whole.start + i, min(whole.start + i + size, whole.stop)))
                       for W, G, whole in arena.pieces() for i in range(0, W.size, size)]
        self.projects = any(param.project for param in arena.params)
        spares = self.uses("decay") and not all(map(self.decays, arena.params))
        self.mask = arena.where(self.decays) if spares else None
        self.prepare()

    def like(self, arena):
        """A twin for another arena: own slots, and this optimiser's settings, schedules and clock."""
        twin = copy(self)
        twin.own(arena)
        return twin

    def step(self):
        now = self.now if self is not self.leader else self.evaluate()

        def one(i):
            W, G, block = self.blocks[i]
            self.update(W, G, block, now, *self.scratch(W))
        lanes.share(len(self.blocks), one)
        if self.projects:
            self.arena.project()
        if self is self.leader:
            self._now = now
        self.moves += 1

    def scratch(self, W):
        """Two rows like W, the thread's own."""
        key = ("optimiser", self.xp, W.size, W.dtype)
        return workspace.once(key, lambda: workspace.empty(self.xp, (2, W.size), W.dtype))

    # ---- the clock and the settings

    @property
    def steps(self):
        """Updates done, by the leader."""
        return self.leader.moves

    @property
    def epoch(self):
        """Set by the training loop."""
        return self.leader._epoch

    @epoch.setter
    def epoch(self, epoch):
        self.leader._epoch = int(epoch)

    @property
    def now(self):
        """The settings' values in the leader's last step; before its first, those which that would have."""
        return self.leader._now or self.evaluate()

    def evaluate(self):
        steps, epoch = self.steps, self.epoch
        return {name: schedule(steps, epoch) for name, schedule in self.schedules.items()}

    def uses(self, name):
        """Whether a scheduled setting can be anything but 0."""
        return self.schedules[name].describe() != 0

    def settings(self):
        """Kind and settings in what JSON can hold, for a run's record."""
        return {"kind": type(self).__name__, **{name: s.describe() for name, s in self.schedules.items()},
                **{name: getattr(self, name) for name in (*self.options, "decay_bias", "decay_norm")}}

    def require(self, holds, name, got, expected):
        if not holds:
            raise SettingError(f"{type(self).__name__} {name}", repr(got), expected, "change the setting")

    def share(self, name, x):
        x = number(f"{type(self).__name__} {name}", x)
        self.require(0 <= x < 1, name, x, "a number from 0 to below 1")
        return x

    def positive(self, name, x):
        x = number(f"{type(self).__name__} {name}", x)
        self.require(x > 0, name, x, "a number above 0")
        return x

    # ---- decay

    def decays(self, param):
        return (self.decay_bias or param.kind != "bias") and (self.decay_norm or param.kind != "norm")

    def coupled(self, W, G, block, decay, t):
        """G + decay W, in t; G itself if nothing decays."""
        if decay == 0:
            return G
        self.xp.multiply(W, decay, out=t)
        if self.mask is not None:
            t *= self.mask[block]
        t += G
        return t

    def shrink(self, W, block, rate, t):
        """W <- (1 - rate) W."""
        if rate == 0:
            return
        if self.mask is None:
            W *= 1 - rate
        else:
            self.xp.multiply(self.mask[block], -rate, out=t)
            t += 1
            W *= t

    # ---- checkpoints

    @property
    def nbytes(self):
        """Memory of the slots."""
        return sum(slot.nbytes for slot in self.slots.values())

    def state(self):
        """Copies, on the host, of all that a resumed run needs; a twin leaves clock and last values to its leader."""
        held = {name: np.array(to_host(slot)) for name, slot in self.slots.items()}
        held["steps"] = np.array(self.moves)
        if self is self.leader:
            held["epoch"] = np.array(self.epoch)
            held |= {f"now.{name}": np.array(value) for name, value in self.now.items()}
        return held

    def load(self, state):
        """Put back, in place, what `state` gave; nothing is changed if anything does not fit."""
        mine, given = self.state(), {name: np.asarray(x) for name, x in state.items()}
        wrong = [f"{name} is missing" for name in mine if name not in given]
        wrong += [f"{name} is unknown" for name in given if name not in mine]
        wrong += [f"{name} is {said(given[name])}, not {said(x)}" for name, x in mine.items()
                  if name in given and said(given[name]) != said(x)]
        if wrong:
            raise CheckpointError(f"{type(self).__name__} state", "; ".join(wrong),
                                  f"{', '.join(mine)} of an arena of {self.arena.value.size} entries",
                                  "build net and optimiser with the settings of the saved run")
        for name, slot in self.slots.items():
            slot[...] = self.xp.asarray(given[name])
        self.moves = int(given["steps"])
        if self is self.leader:
            self.epoch = given["epoch"]
            self._now = {name: float(given[f"now.{name}"]) for name in self.schedules} if self.moves else None


def said(x):
    return f"{x.dtype} {'x'.join(map(str, x.shape)) or 'number'}"

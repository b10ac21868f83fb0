"""A schedule says which value a setting (learning rate, decay, momentum) has at an update.

With x the epoch (unit "epochs") or the number of updates done before this one (unit "steps"), both counted from 0:

    Constant    value
    MultiStep   value * product of the factors whose key is <= x
    Cosine      final + (value - final) (1 + cos(pi min(x / length, 1))) / 2
    WarmUp      start + (schedule - start) min(x / length, 1)

Kept between steps: nothing; the optimiser holds the clock.
Source: Cosine: Loshchilov and Hutter 2017, ICLR, arXiv 1608.03983, without restarts. WarmUp: Goyal et al. 2017,
arXiv 1706.02677.
"""
import math
from abc import ABC, abstractmethod
from numbers import Integral, Real

from nplearn.errors import SettingError


class Schedule(ABC):
    """`schedule(step, epoch)` is the value, a Python float; `describe()` says it in what JSON can hold."""

    @abstractmethod
    def __call__(self, step, epoch): ...

    @abstractmethod
    def describe(self): ...

    def __repr__(self):
        return f"{type(self).__name__}({self.describe()})"


class Constant(Schedule):
    """The same value always; it describes itself as that number."""

    def __init__(self, value):
        self.value = number("Constant value", value)

    def __call__(self, step, epoch):
        return self.value

    def describe(self):
        return self.value


class MultiStep(Schedule):
    """`value`, multiplied by each factor from its epoch (or step) on.

    >>> lr = MultiStep(0.01, {20: 0.5, 30: 0.5})
    >>> [lr(step=0, epoch=e) for e in (0, 19, 20, 30)]
    [0.01, 0.01, 0.005, 0.0025]
    """

    def __init__(self, value, factors, unit="epochs"):
        self.value, self.unit = number("MultiStep value", value), known(unit)
        self.factors = [(count("MultiStep key", at), number("MultiStep factor", factors[at])) for at in sorted(factors)]

    def __call__(self, step, epoch):
        x = step if self.unit == "steps" else epoch
        return self.value * math.prod(factor for at, factor in self.factors if at <= x)

    def describe(self):
        return {"kind": "MultiStep", "value": self.value, "factors": [[at, f] for at, f in self.factors],
                "unit": self.unit}


class Cosine(Schedule):
    """From `value` down half a cosine to `final`, reached after `length` epochs (or steps) and held."""

    def __init__(self, value, length, final=0.0, unit="epochs"):
        self.value, self.final = number("Cosine value", value), number("Cosine final", final)
        self.length, self.unit = count("Cosine length", length), known(unit)

    def __call__(self, step, epoch):
        done = passed(step if self.unit == "steps" else epoch, self.length)
        return self.final + (self.value - self.final) * (1 + math.cos(math.pi * done)) / 2

    def describe(self):
        return {"kind": "Cosine", "value": self.value, "length": self.length, "final": self.final, "unit": self.unit}


class WarmUp(Schedule):
    """In a straight line from the value `start` to another schedule, which rules alone from `length` on.

    The unit is steps unless said otherwise: in whole epochs the first one would be spent at `start`.
    """

    def __init__(self, schedule, length, start=0.0, unit="steps"):
        self.schedule, self.start = as_schedule(schedule, "WarmUp schedule"), number("WarmUp start", start)
        self.length, self.unit = count("WarmUp length", length), known(unit)

    def __call__(self, step, epoch):
        value, done = self.schedule(step, epoch), passed(step if self.unit == "steps" else epoch, self.length)
        return value if done == 1 else self.start + (value - self.start) * done

    def describe(self):
        return {"kind": "WarmUp", "schedule": self.schedule.describe(), "length": self.length, "start": self.start,
                "unit": self.unit}


def as_schedule(x, where="schedule"):
    """`x` itself if it is a schedule; a number becomes a Constant. `where` is named if it is neither."""
    return x if isinstance(x, Schedule) else Constant(number(where, x, "a finite number or a schedule"))


def passed(x, length):
    """The share of `length` that is over, from 0 to 1."""
    return min(x / length, 1.0) if length else 1.0


def number(where, x, expected="a finite number"):
    if not isinstance(x, Real) or isinstance(x, bool) or not math.isfinite(x):
        raise SettingError(where, repr(x), expected, "give one")
    return float(x)


def count(where, x):
    if not isinstance(x, Integral) or isinstance(x, bool) or x < 0:
        raise SettingError(where, repr(x), "a whole number, 0 or more", "give one")
    return int(x)


def known(unit):
    if unit not in ("epochs", "steps"):
        raise SettingError("schedule unit", repr(unit), "'epochs' or 'steps'", "choose one of these")
    return unit

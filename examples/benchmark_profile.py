"""Where the time of one step goes, by kind: one lane, one BLAS thread.

Functions and methods that do a kind of work are wrapped for the time being. A clock runs for one kind at a time, the
innermost that is wrapped, so that the kinds add up to the step; what is left is Python between them. Work that layers
put off until lanes meet counts as the kind that asked for it.
"""
import importlib
import time
from collections import Counter
from contextlib import contextmanager

from benchmark_ours import ours
from benchmark_worker import timed

from nplearn.errors import SettingError

REST = "rest (Python)"
WRAPPED = {                                             # of a class, its subclasses' own methods are wrapped as well
    "products": (
        "nplearn.kernels.conv:apply", "nplearn.kernels.conv:adjoint", "nplearn.kernels.conv:outer",
        "nplearn.kernels.local:apply", "nplearn.kernels.local:adjoint", "nplearn.kernels.local:outer",
        "nplearn.layers:Dense.apply", "nplearn.layers:Dense.adjoint", "nplearn.layers:Dense.outer",
        "nplearn.layers:Weighted.mix", "nplearn.layers:Weighted.widen"),
    "columns": ("nplearn.kernels.conv:windows", "nplearn.kernels.local:patches"),
    "bias": ("nplearn.kernels.lanes:add", "nplearn.layers:Weighted.over_bias"),
    "BatchNorm": ("nplearn.layers:BatchNorm.forward", "nplearn.layers:BatchNorm.backward"),
    "activation": ("nplearn.layers:Activation.forward", "nplearn.layers:Activation.backward"),
    "pooling": (
        "nplearn.layers:MaxPool2d.forward", "nplearn.layers:MaxPool2d.backward", "nplearn.layers:AvgPool2d.forward",
        "nplearn.layers:AvgPool2d.backward", "nplearn.layers:GlobalAvgPool.forward",
        "nplearn.layers:GlobalAvgPool.backward"),
    "residual sums": (
        "nplearn.layers:Residual.forward", "nplearn.layers:Residual.backward", "nplearn.layers:Subsample.forward",
        "nplearn.layers:Subsample.backward"),
    "loss": ("nplearn.losses:Loss.__call__",),
    "gradients put down": ("nplearn.tape:Tape.add",),
    "optimiser": ("nplearn.optim.base:Optimiser.step",),
    "conversion of the batch": ("nplearn.tape:Tape.begin",),
}
SHARE = "nplearn.kernels.lanes", "nplearn.layers.shortcut"              # modules that hold the function `share`


class Clock:
    """Seconds spent on each kind, `spent`; the innermost wrapped call decides whose they are."""

    def __init__(self):
        self.kinds, self.spent, self.since = [REST], Counter(), time.perf_counter()

    def tick(self):
        now = time.perf_counter()
        self.spent[self.kinds[-1]] += now - self.since
        self.since = now

    def wrap(self, kind, function):
        def timed(*args, **options):
            self.tick()
            self.kinds.append(kind)
            try:
                return function(*args, **options)
            finally:
                self.tick()
                self.kinds.pop()
        return timed

    def put_off(self, share):
        """`lanes.share`, whose works carry the kind that shares them."""
        return lambda T, work: share(T, self.wrap(self.kinds[-1], work))


def places(path):
    """[(owner, name)]: where what "module:name" or "module:Class.method" names is defined; SettingError if nowhere."""
    module, _, name = path.partition(":")
    owner, name = importlib.import_module(module), name.split(".")
    for part in name:
        if not hasattr(owner, part):
            raise SettingError("--profile", f"{path} does not exist", "every name in WRAPPED",
                               "bring WRAPPED in benchmark_profile.py up to date")
        holder, owner = owner, getattr(owner, part)
    found, seen = [(holder, name[-1])], [holder] if isinstance(holder, type) else []
    while seen:                                         # a subclass may do it in a way of its own
        below = seen.pop().__subclasses__()
        found += [(cls, name[-1]) for cls in below if name[-1] in vars(cls)]
        seen += below
    return found


@contextmanager
def wrapped(clock):
    """All of WRAPPED tells the clock, for the time being."""
    all_ = {(owner, name): kind for kind, paths in WRAPPED.items() for path in paths for owner, name in places(path)}
    sharing = [importlib.import_module(name) for name in SHARE]
    before = [(owner, name, vars(owner).get(name)) for owner, name in (*all_, *((m, "share") for m in sharing))]
    try:
        for module in sharing:
            module.share = clock.put_off(module.share)
        for (owner, name), kind in all_.items():
            setattr(owner, name, clock.wrap(kind, getattr(owner, name)))
        yield
    finally:
        for owner, name, function in before:
            if function is None:
                delattr(owner, name)                    # it was inherited
            else:
                setattr(owner, name, function)


def profile(net, rule, steps):
    """({kind: seconds} of the fastest of a few steps, seconds of the fastest step without the clock)."""
    step, _ = ours(net, rule, 1)
    plain = min(timed(step) for _ in range(steps + 2))
    clock, best = Clock(), None
    with wrapped(clock):
        for _ in range(steps + 1):
            clock.spent, clock.since = Counter(), time.perf_counter()
            step()
            clock.tick()
            if best is None or sum(clock.spent.values()) < sum(best.values()):
                best = clock.spent
    return dict(best.most_common()), plain


def report(net, rule, found, plain):
    whole = sum(found.values())
    lines = [f"| {kind} | {1e3 * s:.3f} | {100 * s / whole:.1f} |" for kind, s in found.items()]
    return "\n".join([f"{net} under {rule}, one lane: {1e3 * whole:.2f} ms, {1e3 * plain:.2f} ms without the clock",
                      "| kind | ms | % |", "|---|---|---|", *lines])

"""Lanes: Python threads that share out the chunks of a batch, while BLAS has one thread.

    share(T, work)           work(t) for t in 0 ... T - 1; lane l does the chunks [l T / L, (l + 1) T / L)
    total(T, part)           part(0) + part(1) + ... + part(T - 1), added in that order
    chunkwise(f, x, y, ...)  a new array like x, whose chunk t is written by f(x[t], y[t], ..., out=its place)
    add(a, b)                a += b in place, b the same for every chunk

NumPy's products and elementwise loops let other threads run meanwhile. Work on one chunk writes to that chunk's place
alone, and sums over chunks are added afterwards in chunk order, so no bit depends on the number of lanes. How many
there are is set once (`use`); one lane means a plain loop.

Inside `flow()`, which containers use around their layers, work is put off: when lanes `meet()`, each takes its first
chunk through everything that has gathered, while the chunk is in its cache, then the next. Whoever touches an array in
any other way (a reshape that copies is such a touch) has to meet first. `total` without `out` does, and so does
`call(act, ...)` for a method of an object whose own class does not say `flows = True`: that all it does with
activations goes through this page. A subclass has to say so again, since what it overrides is its own, and an object
one of whose methods was replaced no longer counts as one that says so. What has gathered belongs to the thread that
shared it. A work must not share work itself.
"""
import os
import threading
from contextvars import copy_context
from itertools import pairwise
from queue import SimpleQueue

from nplearn.kernels.workspace import empty_like

MANY = 32                                               # works that may gather; their arrays are all alive till then

_workers = []                                           # a queue of tasks for each lane beside the caller's own
if hasattr(os, "register_at_fork"):                     # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_workers.clear)  # threads do not survive one


class Gathered(threading.local):
    """What this thread has put off: works of `chunks` chunks, and sums to finish after them."""

    def __init__(self):
        self.flowing, self.chunks, self.works, self.sums = False, 0, [], []


_own = Gathered()


def use(n):
    """Have n lanes from now on: the caller's and n - 1 threads, which wait for work and end with the process."""
    while len(_workers) < n - 1:
        tasks = SimpleQueue()
        threading.Thread(target=_work, args=(tasks,), daemon=True).start()
        _workers.append(tasks)
    while len(_workers) > n - 1:
        _workers.pop().put(None)


def count():
    """How many lanes there are."""
    return len(_workers) + 1


def share(T, work):
    """Call work(t) for every chunk t of T, over all lanes; now, or in a flow when lanes meet."""
    own = _own
    if T == 1 and not own.works:                        # small nets: no detours
        work(0)
        return
    if own.works and T != own.chunks:
        meet()
    if not own.flowing or T <= 1:
        _run(T, [work])
        return
    own.chunks = T
    own.works.append(work)
    if len(own.works) >= MANY:
        meet()


def total(T, part, out=None):
    """The sum of part(t) over the chunks, computed by all lanes and added in the order of chunks.

    out  where the sum is to be, in its dtype; returned at once, filled when lanes meet
    """
    own = _own
    if T == 1 and not own.works:
        if out is None:
            return part(0)
        out[...] = part(0)
        return out
    parts = [None] * T

    def one(t):
        parts[t] = part(t)
    share(T, one)
    if out is None:
        meet()
        return sum(parts[1:], parts[0])
    own.sums.append((out, parts))
    if not own.works:                                   # the parts were not put off: nothing to wait for
        meet()
    return out


def chunkwise(f, *arrays):
    """What f(x, y, ..., out=place) writes, chunk by chunk, in an array like the first of `arrays` (T, ...)."""
    out = empty_like(arrays[0])
    if len(out) == 1 and not _own.works:                # small nets: no detours
        f(*arrays, out=out)
        return out

    def one(t):
        f(*(x[t] for x in arrays), out=out[t])
    share(len(out), one)
    return out


def add(a, b):
    """a += b in place, where b broadcasts against every chunk of a."""
    if len(a) == 1 and not _own.works:
        a += b
        return

    def one(t):
        a[t] += b
    share(len(a), one)


def meet():
    """Do all that has gathered; raises what one of the works raised."""
    own = _own
    works, sums, own.works, own.sums = own.works, own.sums, [], []
    if works:
        _run(own.chunks, works)
    for out, parts in sums:
        out[...] = sum(parts[1:], parts[0])


class flow:
    """`with flow():` puts work off until lanes meet, at the end of the outermost at the latest. `with flow(False):`
    lanes meet first, and inside nothing is put off. An error that leaves the outermost forgets what had gathered."""

    def __init__(self, on=True):
        self.on = on

    def __enter__(self):
        self.before, _own.flowing = _own.flowing, self.on
        if not self.on:
            meet()

    def __exit__(self, kind, error, trace):
        _own.flowing = self.before
        if self.before:
            return
        if error:
            _own.works, _own.sums = [], []
        else:
            meet()


class MayFlow:
    """Base of what may say `flows` (layers, feedback): an object knows whether all its methods are its class's. To
    assign to the name of a method, as `layer.forward = mine` does, clears `as_written`."""

    as_written = True

    def __setattr__(self, name, value):
        if callable(getattr(type(self), name, None)):
            self.__dict__["as_written"] = False
        object.__setattr__(self, name, value)


def call(act, *args):
    """act(*args), a method: in the flow if its object's own class says `flows`, else after lanes have met."""
    owner = getattr(act, "__self__", None)
    if type(owner).__dict__.get("flows") and getattr(owner, "as_written", True):
        return act(*args)
    with flow(False):
        return act(*args)


def cuts(n, k):
    """Where n things are cut into k parts of nearly the same size.

    >>> cuts(8, 3)
    [0, 2, 5, 8]
    """
    return [i * n // k for i in range(k + 1)]


def _run(T, works):
    """All works on chunks 0 ... T - 1, each lane its range; raises the first lane's error after all have ended."""
    lanes = min(len(_workers) + 1, T)
    if lanes <= 1:
        for t in range(T):
            for work in works:
                work(t)
        return
    parts, done = [range(*ends) for ends in pairwise(cuts(T, lanes))], SimpleQueue()
    for tasks, part in zip(_workers, parts[1:], strict=False):
        tasks.put((works, part, done, copy_context()))  # in the caller's context, which holds np.errstate
    errors = [_part(works, parts[0]), *(done.get() for _ in parts[1:])]
    for error in errors:
        if error is not None:
            raise error


def _part(works, part):
    """All works on each chunk of `part` in turn; the error, if there was one."""
    try:
        for t in part:
            for work in works:
                work(t)
    except BaseException as error:                      # handed to the caller, who waits for every lane
        return error
    return None


def _work(tasks):
    """A worker's life: parts of works until None comes."""
    while (task := tasks.get()) is not None:
        works, part, done, context = task
        done.put(context.run(_part, works, part))

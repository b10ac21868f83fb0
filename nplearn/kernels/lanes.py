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
any other way has to meet first. `total` without `out` does, and so does `call(act, ...)` for a method of an object
whose own class does not say `flows = True`: that all it does with activations goes through this page. A subclass has
to say so again, since what it overrides is its own.
"""
import threading
from queue import SimpleQueue

from nplearn.kernels.workspace import empty_like

MANY = 32                                               # works that may gather; their arrays are all alive till then

_workers = []                                           # a queue of tasks for each lane beside the caller's own
_done = SimpleQueue()                                   # what came of each task: None, or the error
_flowing = False
_chunks, _works, _sums = 0, [], []                      # what has gathered: works of so many chunks, sums to finish


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
    global _chunks
    if T == 1 and not _works:                           # small nets: no detours
        work(0)
        return
    if _works and T != _chunks:
        meet()
    if not _flowing or T <= 1:
        _run(T, [work])
        return
    _chunks = T
    _works.append(work)
    if len(_works) >= MANY:
        meet()


def total(T, part, out=None):
    """The sum of part(t) over the chunks, computed by all lanes and added in the order of chunks.

    out  where the sum is to be by the time lanes meet; it is returned as it is
    """
    if T == 1 and not _works:
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
    _sums.append((out, parts))
    if not _works:
        meet()
    return out


def chunkwise(f, *arrays):
    """What f(x, y, ..., out=place) writes, chunk by chunk, in an array like the first of `arrays` (T, ...)."""
    out = empty_like(arrays[0])

    def one(t):
        f(*(x[t] for x in arrays), out=out[t])
    share(len(out), one)
    return out


def add(a, b):
    """a += b in place, where b broadcasts against every chunk of a."""
    def one(t):
        a[t] += b
    share(len(a), one)


def meet():
    """Do all that has gathered; raises what one of the works raised."""
    global _works, _sums
    works, sums, _works, _sums = _works, _sums, [], []
    if works:
        _run(_chunks, works)
    for out, parts in sums:
        out[...] = sum(parts[1:], parts[0])


class flow:
    """`with flow():` puts work off until lanes meet, at the end of the outermost at the latest; flow(False) meets."""

    def __init__(self, on=True):
        self.on = on

    def __enter__(self):
        global _flowing
        self.before, _flowing = _flowing, self.on
        if not self.on:
            meet()

    def __exit__(self, kind, error, trace):
        global _flowing, _works, _sums
        _flowing = self.before
        if error:
            _works, _sums = [], []
        elif not _flowing:
            meet()


def call(act, *args):
    """act(*args), a method: in the flow if its object's own class says `flows`, else after lanes have met."""
    if "flows" in vars(type(getattr(act, "__self__", None))):
        return act(*args)
    with flow(False):
        return act(*args)


def _run(T, works):
    lanes = min(len(_workers) + 1, T)
    if lanes <= 1:
        for t in range(T):
            for work in works:
                work(t)
        return
    parts = [range(lane * T // lanes, (lane + 1) * T // lanes) for lane in range(lanes)]
    for tasks, part in zip(_workers, parts[1:], strict=False):
        tasks.put((works, part))
    errors = [_part(works, parts[0]), *(_done.get() for _ in parts[1:])]
    for error in errors:
        if error is not None:
            raise error


def _part(works, part):
    try:
        for t in part:
            for work in works:
                work(t)
    except BaseException as error:                      # handed to the caller, who waits for every lane
        return error
    return None


def _work(tasks):
    while (task := tasks.get()) is not None:
        _done.put(_part(*task))

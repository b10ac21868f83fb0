"""Lanes: Python threads that share out the chunks of a batch, while BLAS has one thread.

    share(T, work)           work(t) for t in 0 ... T - 1; lane l does the chunks [l T / L, (l + 1) T / L)
    total(T, part)           part(0) + part(1) + ... + part(T - 1), added in that order
    chunkwise(f, x, y, ...)  a new array like x, whose chunk t is written by f(x[t], y[t], ..., out=its place)
    add(a, b)                a += b in place, b the same for every chunk

NumPy's products and elementwise loops let other threads run meanwhile. Work on one chunk writes to that chunk's place
alone, and sums over chunks are added afterwards in chunk order, so no bit depends on the number of lanes. How many
there are is set once (`use`); one lane means a plain loop.

Lanes need not wait for each other after every share: a lane has the same chunks each time, so what it reads next it
wrote itself. Inside `flow()`, which containers use around their layers, `share` returns when the caller's own chunks
are done. Whoever then touches an array in any other way has to `meet()` first. `total` does; and `call(act, ...)` does
it for every method of an object whose own class does not say `flows = True`, that all it does with activations goes
through the functions of this page. A subclass has to say so again: what it overrides is its own.
"""
import threading
from queue import SimpleQueue

from nplearn.kernels.workspace import empty_like

_workers = []                                           # a queue of tasks for each lane beside the caller's own
_done = SimpleQueue()                                   # what came of each task: None, or the error
_flowing, _pending = False, 0                           # whether share may return early; tasks not yet seen in _done


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
    """Call work(t) for every chunk t of T, over all lanes; raises what one raised."""
    global _pending
    lanes = min(len(_workers) + 1, T)
    if lanes <= 1:
        for t in range(T):
            work(t)
        return
    parts = [range(lane * T // lanes, (lane + 1) * T // lanes) for lane in range(lanes)]
    for tasks, part in zip(_workers, parts[1:], strict=False):
        tasks.put((work, part))
        _pending += 1
    error = _run(work, parts[0])
    if error is None and _flowing:
        return
    late = _wait()
    if error or late:
        raise error or late


def meet():
    """Wait until every lane has done what it was given; raises what one raised."""
    error = _wait()
    if error:
        raise error


class flow:
    """`with flow():` lets lanes run ahead of each other inside, and meet at the end of the outermost."""

    def __init__(self, on=True):
        self.on = on

    def __enter__(self):
        global _flowing
        self.before, _flowing = _flowing, self.on
        if not self.on:
            meet()

    def __exit__(self, kind, error, trace):
        global _flowing
        _flowing = self.before
        if not _flowing:
            late = _wait()
            if late and not error:
                raise late


def call(act, *args):
    """act(*args), a method: in the flow if its object's own class says `flows`, else after all lanes have met."""
    if not _workers or "flows" in vars(type(getattr(act, "__self__", None))):
        return act(*args)
    with flow(False):
        return act(*args)


def total(T, part):
    """The sum of part(t) over the chunks, computed by all lanes and added in the order of chunks."""
    if T == 1:
        return part(0)
    parts = [None] * T

    def one(t):
        parts[t] = part(t)
    share(T, one)
    meet()
    return sum(parts[1:], parts[0])


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


def _wait():
    """Collect every task that is still out; the first error among them."""
    global _pending
    first = None
    while _pending:
        error, _pending = _done.get(), _pending - 1
        first = first or error
    return first


def _run(work, part):
    try:
        for t in part:
            work(t)
    except BaseException as error:                      # handed to the caller, who waits for every lane
        return error
    return None


def _work(tasks):
    while (task := tasks.get()) is not None:
        _done.put(_run(*task))

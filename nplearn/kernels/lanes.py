"""Lanes: Python threads that share out the chunks of a batch, while BLAS has one thread.

    share(T, work)           work(t) for t in 0 ... T - 1; lane l does the chunks [l T / L, (l + 1) T / L)
    total(T, part)           part(0) + part(1) + ... + part(T - 1), added in that order
    chunkwise(f, x, y, ...)  a new array like x, whose chunk t is written by f(x[t], y[t], ..., out=its place)
    add(a, b)                a += b in place, b the same for every chunk

NumPy's products and elementwise loops let other threads run meanwhile. Work on one chunk writes to that chunk's place
alone, and sums over chunks are added afterwards in chunk order, so no bit depends on the number of lanes. How many
there are is set once (`use`); one lane means a plain loop.
"""
import threading
from queue import SimpleQueue

from nplearn.kernels.workspace import empty_like

_workers = []                                           # a queue of tasks for each lane beside the caller's own
_done = SimpleQueue()


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
    """Call work(t) for every chunk t of T, over all lanes; returns when all are done, raises what one raised."""
    lanes = min(count(), T)
    if lanes <= 1:
        for t in range(T):
            work(t)
        return
    parts = [range(lane * T // lanes, (lane + 1) * T // lanes) for lane in range(lanes)]
    for tasks, part in zip(_workers, parts[1:], strict=False):
        tasks.put((work, part))
    errors = [_run(work, parts[0]), *(_done.get() for _ in parts[1:])]
    for error in errors:
        if error is not None:
            raise error


def total(T, part):
    """The sum of part(t) over the chunks, computed by all lanes and added in the order of chunks."""
    parts = [None] * T

    def one(t):
        parts[t] = part(t)
    share(T, one)
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

"""Lanes: Python threads that share out the chunks of a batch, while BLAS has one thread.

    share(T, work)           work(t) for t in 0 ... T - 1; lane l does the chunks [l T / L, (l + 1) T / L)
    chunkwise(f, x, y, ...)  f(x, y, ...) of arrays (T, ...), a chunk at a time, so that temporaries fit a cache
    add(a, b)                a += b, b the same for every chunk

NumPy's products and elementwise loops let other threads run meanwhile. Work on one chunk writes to that chunk's place
alone, and sums over chunks are added afterwards in chunk order, so no bit depends on the number of lanes. How many
there are is set once (`use`); one lane means a plain loop.
"""
import threading
from queue import SimpleQueue

from nplearn.backend import array_module

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


def chunkwise(f, *arrays):
    """f(*arrays) for an f that treats chunks apart and returns an array like the first, of its dtype."""
    if len(arrays[0]) == 1:
        return f(*arrays)
    out = array_module(arrays[0]).empty_like(arrays[0])

    def one(t):
        out[t:t + 1] = f(*(x[t:t + 1] for x in arrays))
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

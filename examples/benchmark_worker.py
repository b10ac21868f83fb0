"""One candidate of a race, a process of its own: makes its step, then answers each line n with the fastest of n steps.

    python benchmark_worker.py KIND NET HOW THREADS

Answers: "ready M", M its multiply-adds (0 where nobody counts them), then "SECONDS MEBIBYTES", the second its peak of
memory so far; or at any time "refused" and why, its last. A rival's process imports nothing of nplearn.
"""
import resource
import sys
import time


def make(kind, net, how, threads):
    """(step, multiply-adds) of a candidate."""
    if kind == "torch":
        from benchmark_rivals import torch_step
        return torch_step(net, how, threads), 0
    if kind == "biotorch":
        from benchmark_rivals import biotorch_step
        return biotorch_step(how, threads), 0
    if kind == "also":
        from benchmark_rivals import users_step
        return users_step(net, how), 0
    import nplearn  # noqa: F401                        before NumPy: it makes the processor flush denormals
    if kind == "growth":
        from benchmark_growth import point
        return point(int(net), int(how), threads)
    if kind == "odd":
        from benchmark_odd import case
        return case(net, how, threads)
    from benchmark_ours import gemm, ours
    return gemm(threads) if kind == "gemm" else ours(net, how, threads)


def peak_memory():
    """In MiB. What the system calls maxrss would count the parent's memory too, in which a process begins."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 2**10)


def main(kind, net, how, threads):
    answers, sys.stdout = sys.stdout, sys.stderr        # what a rival prints is no answer
    try:
        step, work = make(kind, net, how, int(threads))
        for _ in range(3):
            step()
        print("ready", work, file=answers, flush=True)
        for line in sys.stdin:
            step()                                      # untimed: the caches are another candidate's
            print(min(timed(step) for _ in range(int(line))), peak_memory(), file=answers, flush=True)
    except Exception as error:                          # whatever a rival raises: the race tells it in one line
        print("refused", *f"{type(error).__name__}: {error}".split(), file=answers, flush=True)


def timed(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Time whole training steps (forward, credit, feedback learning, optimiser), ours under each rule beside PyTorch's.

    python examples/benchmark.py --quick                        under two minutes
    python examples/benchmark.py --nets mlp,lenet --rules fa,kp --rounds 12 --json runs/benchmark.json

Every candidate is a process of its own, started first and kept alive; they take turns, the order turned round every
second round, so that what else the machine does meets all alike. A turn is the fastest of a few steps. Ratios are of
minima over all rounds; beside them stand median and range of the ratios round by round. PyTorch's rows (backprop)
appear where torch is installed. All candidates have the same number of threads and flush denormals; inputs change from
step to step.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from nplearn.cli import guarded
from nplearn.errors import SettingError

BATCH = {"conv64": 16, "small1": 1, "small8": 8, "small32": 32, "pfa": 64}
NETS = ("mlp", "lenet", "resnet20", "local", "conv64", "small1", "small8", "small32", "pfa")
QUICK = ("mlp", "lenet", "small32")


# -- what a candidate does, in a process of its own -------------------------------------------------------------------

def ours(net, rule, threads):
    """A function that makes one training step, SGD with momentum, in float32."""
    import numpy as np

    from nplearn import SoftmaxCrossEntropy, Tape
    from nplearn.kernels.threads import use_threads
    from nplearn.layers import Conv2d, Dense, Flatten, GlobalAvgPool, LocallyConnected2d, MaxPool2d, ReLU, Sequential
    from nplearn.nets import cifar_resnet, mlp
    from nplearn.optim import SGD
    from nplearn.rules.registry import make

    small = (lambda: mlp(10, (100,)), (784,))
    built, shape = {
        "mlp": (lambda: mlp(10, (1000, 1000)), (784,)),
        "pfa": (lambda: mlp(10, (512, 512)), (784,)),
        "small1": small, "small8": small, "small32": small,
        "lenet": (lambda: Sequential(Conv2d(6, 5, padding=0), ReLU(), MaxPool2d(2), Conv2d(16, 5, padding=0), ReLU(),
                                     MaxPool2d(2), Flatten(), Dense(120), ReLU(), Dense(84), ReLU(), Dense(10)),
                  (32, 32, 3)),
        "resnet20": (lambda: cifar_resnet(20), (32, 32, 3)),
        "local": (lambda: Sequential(LocallyConnected2d(128, 5, 2), ReLU(), GlobalAvgPool(), Dense(10)), (16, 16, 64)),
        "conv64": (lambda: Sequential(Conv2d(64, 1), Conv2d(64, 3), ReLU(), GlobalAvgPool(), Dense(10)), (56, 56, 64)),
    }[net]
    model, loss, n = built().build(shape, seed=0), SoftmaxCrossEntropy(), BATCH.get(net, 128)
    use_threads(threads, model.column_bytes > 0)
    optimiser, tape = SGD(model.arena, lr=0.01, momentum=0.9), Tape(model, loss)
    credit = make(rule).attach(model, 0)
    credit.follow(optimiser)
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(n, *shape)).astype(np.float32), rng.integers(10, size=n)) for _ in range(4)]
    count = [0]

    def step():
        count[0] += 1
        tape.begin(*batches[count[0] % 4], seed=count[0])
        tape.run()
        credit.assign(model, tape)
        optimiser.step()
        credit.learn(model, tape)
    return step


def torch_step(net, layout, threads):
    """The same step in PyTorch; layout "default" or "channels_last"."""
    import torch
    from torch import nn
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self, c, n, stride):
            super().__init__()
            self.c1, self.n1 = nn.Conv2d(c, n, 3, stride, 1, bias=False), nn.BatchNorm2d(n)
            self.c2, self.n2 = nn.Conv2d(n, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n)
            self.stride, self.extra = stride, (n - c) // 2

        def forward(self, x):
            y = self.n2(self.c2(torch.relu(self.n1(self.c1(x)))))
            if self.stride > 1:
                x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
            return torch.relu(x + y)

    class Local(nn.Module):                             # unfold and einsum, the usual way without weight sharing
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(64, 128, 64 * 25) * 0.02)
            self.bias = nn.Parameter(torch.zeros(64, 128))

        def forward(self, x):
            patches = nn.functional.unfold(nn.functional.pad(x, (1, 2, 1, 2)), 5, stride=2)
            y = torch.einsum("bkp,pok->bop", patches, self.weight) + self.bias.T
            return y.reshape(len(x), 128, 8, 8)

    def dense(*widths):
        parts = []
        for a, b in zip(widths, widths[1:], strict=False):
            parts += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*parts[:-1])

    def resnet():
        blocks, c = [], 16
        for n in (16, 32, 64):
            for _ in range(3):
                blocks, c = [*blocks, Block(c, n, 1 + (n != c))], n
        return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks,
                             nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    make, shape = {
        "mlp": (lambda: dense(784, 1000, 1000, 10), (784,)), "pfa": (lambda: dense(784, 512, 512, 10), (784,)),
        **dict.fromkeys(("small1", "small8", "small32"), (lambda: dense(784, 100, 10), (784,))),
        "lenet": (lambda: nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                                        nn.MaxPool2d(2), nn.Flatten(), *dense(400, 120, 84, 10)), (3, 32, 32)),
        "resnet20": (resnet, (3, 32, 32)),
        "local": (lambda: nn.Sequential(Local(), nn.ReLU(), *pool, nn.Linear(128, 10)), (64, 16, 16)),
        "conv64": (lambda: nn.Sequential(nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), *pool,
                                         nn.Linear(64, 10)), (64, 56, 56)),
    }[net]
    model, n = make(), BATCH.get(net, 128)
    inputs = [torch.randn(n, *shape) for _ in range(4)]
    if layout == "channels_last":
        model, inputs = model.to(memory_format=torch.channels_last), [x.contiguous(memory_format=torch.channels_last)
                                                                      for x in inputs]
    labels = [torch.randint(10, (n,)) for _ in range(4)]
    optimiser, loss, count = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), nn.CrossEntropyLoss(), [0]

    def step():
        count[0] += 1
        optimiser.zero_grad()
        loss(model(inputs[count[0] % 4]), labels[count[0] % 4]).backward()
        optimiser.step()
    return step


def gemm_step(threads):
    """A product of 1024 x 1024 matrices: what BLAS can do here."""
    import numpy as np

    from nplearn.kernels.threads import blas_threads
    blas_threads(threads)
    a = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out)


def worker(name, threads):
    """Answer each line n on standard input with the fastest of n steps and the peak memory so far."""
    kind, _, rest = name.partition(":")
    net, _, how = rest.partition(":")
    step = {"ours": lambda: ours(net, how, threads), "torch": lambda: torch_step(net, how, threads),
            "gemm": lambda: gemm_step(threads)}[kind]()
    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(min(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)


# -- taking turns -----------------------------------------------------------------------------------------------------

def race(names, rounds, threads):
    """{name: (seconds of each round, peak memory in MiB)}."""
    environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
                                                 str(threads))}
    racers = {name: subprocess.Popen([sys.executable, __file__, "--worker", name, "--threads", str(threads)],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
              for name in names}
    try:
        for name, process in racers.items():
            if process.stdout.readline().strip() != "ready":
                raise SettingError(f"candidate {name}", "it stopped", "a candidate that runs", "run it with --worker")

        def ask(name, n):
            racers[name].stdin.write(f"{n}\n")
            racers[name].stdin.flush()
            return tuple(map(float, racers[name].stdout.readline().split()))
        steps = {name: max(2, min(200, int(0.3 / ask(name, 1)[0]))) for name in names}
        seconds, memory = {name: [] for name in names}, {}
        for i in range(rounds):
            for name in names if i % 2 == 0 else reversed(names):
                taken, peak = ask(name, steps[name])
                seconds[name].append(taken)
                memory[name] = peak / 1024
        return {name: (seconds[name], memory[name]) for name in names}
    finally:
        for process in racers.values():
            process.kill()


def row(name, found, reference):
    """One line of the table: milliseconds, ratio of minima, median and range of the ratios by round, memory."""
    (mine, memory), (base, _) = found[name], found[reference]
    ratios = [a / b for a, b in zip(mine, base, strict=True)]
    return (f"| {name} | {1e3 * min(mine):.3f} | {min(mine) / min(base):.2f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f}-{max(ratios):.2f} | {memory:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(NETS), help="some of " + ",".join(NETS))
    parser.add_argument("--rules", default="fa,dfa,usf,kp,pfa", help="timed beside our own backprop; '' for none")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2, help="of a candidate")
    parser.add_argument("--quick", action="store_true", help=f"{','.join(QUICK)}, 4 rounds")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.threads)
        return
    nets = list(QUICK) if options.quick else options.nets.split(",")
    for net in nets:
        if net not in NETS:
            raise SettingError("--nets", f"{net!r}", f"some of {', '.join(NETS)}", "choose among these")
    rules, rounds = [rule for rule in options.rules.split(",") if rule], 4 if options.quick else options.rounds
    try:
        import torch  # noqa: F401
        rivals = ["default", "channels_last"]
    except ImportError:
        rivals = []
        print("PyTorch is not installed: ours alone")
    result = {"threads": options.threads, "gemm_gflops": None, "ratios": {}, "channels_last": {}, "rules": {},
              "memory_ratio": {}}
    peak = race(["gemm"], rounds, options.threads)["gemm"][0]
    result["gemm_gflops"] = 2 * 1024**3 / min(peak) / 1e9
    print(f"GEMM of 1024 x 1024, {options.threads} thread(s): {result['gemm_gflops']:.0f} Gflop/s\n")
    for net in nets:
        mine, maps = f"ours:{net}:backprop", net in ("lenet", "resnet20", "local", "conv64")
        theirs = [f"torch:{net}:{layout}" for layout in (rivals if maps else rivals[:1])]
        names = [*theirs, mine, *(f"ours:{net}:{rule}" for rule in rules)]
        found = race(names, rounds, options.threads)
        print("| candidate | ms | ratio of minima | median by round | range | MiB |\n|---|---|---|---|---|---|")
        for name in names:
            print(row(name, found, theirs[0] if theirs and not name.startswith("ours") or name == mine and theirs
                      else mine))
        print(flush=True)
        fastest = {name: min(found[name][0]) for name in names}
        if theirs:
            result["ratios"][net] = fastest[mine] / fastest[theirs[0]]
            result["memory_ratio"][net] = found[mine][1] / found[theirs[0]][1]
        if len(theirs) > 1:
            result["channels_last"][net] = fastest[mine] / fastest[theirs[1]]
        result["rules"][net] = {rule: fastest[f"ours:{net}:{rule}"] / fastest[mine] for rule in rules}
    print("ratios: PyTorch's and our backprop to PyTorch's default, our other rules to our backprop")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    guarded(main)

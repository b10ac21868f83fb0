"""Odd sizes: what a step costs per operation, relative to its regular neighbour, which takes turns with it.

1 is what the operation count suggests: multiply-adds, and the bytes that have to be moved (`nplearn.metrics.cost`), of
which batches of one and depthwise convolutions have many to each multiply-add. Dense nets and LeNet are whole steps of
several batch sizes; the rest are bare convolutions of 32 channels over a map of 32x32, batch 128, that differ from the
regular one in a single thing.
"""
import benchmark_ours as ours
import numpy as np
from benchmark_race import Candidate, race

from nplearn import SquaredError
from nplearn.columns import outside
from nplearn.layers import Conv2d, Sequential
from nplearn.metrics import cost
from nplearn.nets import mlp
from nplearn.optim import SGD
from nplearn.rules import Backprop

CHANNELS, LIMIT = 32, 2.0
A_BYTE = 4                                              # multiply-adds that go by while a byte is moved, cache or not


def dense(*sizes):
    return lambda threads: whole(mlp(10, (500, 500)).build((784,), seed=0), sizes, threads)


def lenet(*sizes):
    return lambda threads: whole(ours.lenet().build((32, 32, 3), seed=0), sizes, threads)


def conv(kernel=3, size=(32, 32), batch=128, **options):
    def make(threads):
        net = Sequential(Conv2d(CHANNELS, kernel, **options)).build((*size, CHANNELS), seed=0)
        net.layers[0].sends = True                      # an error at the input, as `piece_step` has it
        counted = operations(net, batch)                # first: it attaches a rule of its own
        return ours.piece_step(net, batch, threads=threads)[0], *counted
    return make


def whole(net, sizes, threads):
    counted = map(sum, zip(*[operations(net, n) for n in sizes], strict=True))
    return ours.whole_step(net, sizes, threads=threads)[0], *counted


def operations(net, n):
    """Of backprop's step on n samples: multiply-adds and A_BYTE for every byte moved; the multiply-adds alone."""
    inputs, targets = (np.zeros((n, *outside(shape)), np.float32) for shape in (net.in_shape, net.out_shape))
    found = cost(net, Backprop().attach(net), SquaredError(), inputs, targets, SGD(net.arena, 1e-4, momentum=0.9))
    return found.total.multiply_adds + A_BYTE * found.total.bytes, found.total.multiply_adds


CASES = {                                               # the first of each kind is the regular one
    "784-500-500-10": {
        "batch 128": dense(128), "batch 100": dense(100), "batch 37": dense(37), "batch 1": dense(1),
        "batches of 128 and 37 in turn": dense(128, 37)},
    "LeNet-5": {
        "batch 128": lenet(128), "batch 100": lenet(100), "batch 37": lenet(37), "batch 1": lenet(1),
        "batches of 128 and 37 in turn": lenet(128, 37)},
    "convolution": {
        "3x3, stride 1, same padding, 32x32, batch 128": conv(),
        "batch 100": conv(batch=100), "batch 37": conv(batch=37), "batch 1": conv(batch=1),
        "map 33x47": conv(size=(33, 47)),
        "kernel 1": conv(1), "kernel 5": conv(5), "kernel 7": conv(7), "kernel 11": conv(11),
        "stride 2": conv(stride=2), "stride 3": conv(stride=3),
        "valid padding": conv(padding="valid"), "padding 0 above, 2 below, 2 left, 1 right":
            conv(padding=((0, 2), (2, 1))),
        "4 groups": conv(groups=4), "depthwise": conv(groups=CHANNELS)},
}


def case(kind, name, threads):
    """(step, operations) of one case."""
    return CASES[kind][name](threads)[:2]


def measure(rounds, threads, patience):
    """{kind: {case: times what multiply-adds and bytes suggest}}; prints the table, multiply-adds alone beside it."""
    found = {}
    print("| case | ms | million multiply-adds | times what they suggest | with bytes | |\n|---|---|---|---|---|---|")
    for kind, cases in CASES.items():
        racers = {name: Candidate("odd", kind, name) for name in cases}
        timings = race(list(racers.values()), rounds, threads, patience).timings
        each = {name: timings[c] for name, c in racers.items()}
        alone = {name: one._replace(work=cases[name](threads)[2]) for name, one in each.items()}
        regular = next(iter(each))
        found[kind] = {name: times_suggested(one, each[regular]) for name, one in each.items()}
        for name, one in alone.items():
            print(row(kind, name, one, times_suggested(one, alone[regular]), found[kind][name], name == regular),
                  flush=True)
    return found


def times_suggested(one, regular):
    """Time per operation, over that of the regular neighbour."""
    return (one.best / one.work) / (regular.best / regular.work)


def row(kind, name, one, alone, times, regular):
    remark = "regular" if regular else "SLOWER THAN ITS WORK" if times > LIMIT else ""
    return (f"| {kind}, {name} | {1e3 * one.best:.3f} | {one.work / 1e6:.2f} | {alone:.2f} | {times:.2f} "
            f"| {remark} |")

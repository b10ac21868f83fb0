"""The benchmark's nets in nplearn, and one training step of each: forward, credit, optimiser, feedback learning.

Every maker returns (step, multiply-adds): a function that makes one step, and what backprop's products cost in it.
"""
from math import prod

import numpy as np
from benchmark_nets import DEVICE, LEARNING_RATE, MOMENTUM, NETS

from nplearn import SoftmaxCrossEntropy, Tape
from nplearn.backend import Device
from nplearn.columns import columns, outside
from nplearn.kernels.threads import blas_threads, use_threads
from nplearn.layers import (
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    LocallyConnected2d,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    laned,
    weighted,
)
from nplearn.nets import cifar_resnet, mlp
from nplearn.optim import SGD
from nplearn.rules import registry

GEMM = 2048                                             # side of the square product that measures the peak


def lenet():
    return Sequential(Conv2d(6, 5, padding=0), MaxPool2d(2), ReLU(), Conv2d(16, 5, padding=0), MaxPool2d(2), ReLU(),
                      Flatten(), Dense(120), ReLU(), Dense(84), ReLU(), Dense(10))


def stage(n=64, blocks=2):
    """Basic blocks with identity shortcuts, as in the first stage of a ResNet-18, and a head."""
    def block():
        return Residual(Conv2d(n, 3, bias=False), BatchNorm(), ReLU(), Conv2d(n, 3, bias=False), BatchNorm())
    return Sequential(*(layer for _ in range(blocks) for layer in (block(), ReLU())), GlobalAvgPool(), Dense(10))


def resnet18():
    """Four stages of two blocks, shortcuts by 1x1 convolution where the shape changes."""
    def conv(n, kernel, stride=1):
        return Conv2d(n, kernel, stride, padding=kernel // 2, bias=False)

    def block(n, stride, changes):
        across = Sequential(conv(n, 1, stride), BatchNorm()) if changes else None
        return Residual(conv(n, 3, stride), BatchNorm(), ReLU(), conv(n, 3), BatchNorm(), shortcut=across), ReLU()
    blocks = [layer for i, n in enumerate((64, 128, 256, 512)) for j in range(2)
              for layer in block(n, 2 if i and j == 0 else 1, bool(i) and j == 0)]
    return Sequential(conv(64, 7, 2), BatchNorm(), ReLU(), MaxPool2d(3, 2, padding=1), *blocks, GlobalAvgPool(),
                      Dense(10))


def small():
    return mlp(10, (100,))


BUILD = {
    "mlp": lambda: mlp(10, (1000, 1000)), "pfa": lambda: mlp(10, (512, 512)),
    "small1": small, "small8": small, "small32": small,
    "lenet": lenet, "resnet20": lambda: cifar_resnet(20), "resnet20x1024": lambda: cifar_resnet(20),
    "resnet18": resnet18, "block": stage,
    "local": lambda: Sequential(LocallyConnected2d(128, 5, 2)), "conv64": lambda: Sequential(Conv2d(64, 3)),
}


def ours(name, rule, threads):
    """A step of one of the benchmark's nets."""
    net = NETS[name]
    model = BUILD[name]().build(net.shape, seed=0, device=DEVICE)
    step, work = piece_step(model, net.batch, rule, threads, net.bare) if net.piece else \
        whole_step(model, [net.batch], rule, threads)
    return waited_for(step, model.device.xp), work


def waited_for(step, xp):
    """The step, and on a GPU the wait for its end."""
    if xp is np:
        return step

    def whole():
        step()
        xp.cuda.Device().synchronize()
    return whole


def whole_step(model, sizes, rule="backprop", threads=1):
    """An update as a Trainer makes it, from rows and labels; several in turn where several batch sizes are given."""
    rng = np.random.default_rng(0)
    batches = [[draw(rng, n, model) for n in sizes] for _ in range(4)]
    loss, credit, optimiser = SoftmaxCrossEntropy(), *fitted(model, rule, threads)
    tape, count = Tape(model, loss), [0]

    def step():
        count[0] += 1
        for inputs, labels in batches[count[0] % 4]:
            tape.begin(inputs, labels, seed=count[0])
            tape.run()
            credit.assign(model, tape)
            optimiser.step()
            credit.learn(model, tape)
    return step, sum(multiply_adds(model, n) for n in sizes)


def piece_step(model, n, rule="backprop", threads=1, bare=True):
    """An update of a piece: columns that were made before, and an error that goes all the way down."""
    for layer in weighted(model):
        layer.sends = True
    rng = np.random.default_rng(0)
    inputs, labels = draw(rng, n, model)
    credit, optimiser = fitted(model, rule, threads)
    given = Tape(model, None if bare else SoftmaxCrossEntropy()).begin(inputs, None if bare else labels)
    rows = rng.normal(size=(n, *outside(model.out_shape))).astype(np.float32)
    error = model.device.put(columns(rows, model.chunk(n)))

    def step():
        tape = given.again(mode="train")
        if bare:
            tape.output, tape.error = model.forward(tape.input, tape), error
        else:
            tape.run()
        credit.assign(model, tape)
        optimiser.step()
        credit.learn(model, tape)
    return step, multiply_adds(model, n)


def draw(rng, n, model):
    """A batch of rows, where the net is, and labels."""
    return model.device.put(rng.normal(size=(n, *outside(model.in_shape))).astype(np.float32)), rng.integers(10, size=n)


def fitted(model, rule, threads):
    """(rule, optimiser) for a built net, which gets its threads as a Trainer would give them."""
    use_threads(threads, laned(model))
    optimiser, credit = SGD(model.arena, lr=LEARNING_RATE, momentum=MOMENTUM), registry.make(rule).attach(model, 0)
    credit.follow(optimiser)
    return credit, optimiser


def multiply_adds(model, n):
    """Of backprop's products in a step on n samples: forward, weight gradient and, where a layer sends, its input's."""
    return n * sum(prod(layer.out_shape) * layer.fans(layer.n_out)[0] * (2 + layer.sends) for layer in weighted(model))


def gemm(threads):
    """A product of square matrices: what BLAS can do here."""
    blas_threads(threads)
    device = Device(DEVICE)
    a = device.put(np.random.default_rng(0).normal(size=(GEMM, GEMM)).astype(np.float32))
    out = device.xp.empty_like(a)
    return waited_for(lambda: device.xp.matmul(a, a, out=out), device.xp), GEMM**3

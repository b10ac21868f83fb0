"""Two small tasks on which a rule is seen to teach its hidden layers, and a training of a minute at most.

    prototypes()   3000 points around 160 prototypes in 20 dimensions, 10 classes; the last 1000 are for the test
    teacher()      5000 correlated inputs in 64 dimensions, labelled by a random tanh net, 10 classes
    trained(...)   accuracy after some epochs of batches of 50, in float64
"""
import numpy as np

from nplearn.backend import stream
from nplearn.columns import rows
from nplearn.layers import Dense, Sequential, Tanh
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics.accuracy import accuracy
from nplearn.optim import Adam, MultiStep
from nplearn.tape import Tape

BATCH = 50


def prototypes():
    """((inputs, labels) to train on, (inputs, labels) to test on), standardised."""
    rng = np.random.default_rng(0)
    centres, index, noise = rng.normal(size=(160, 20)), rng.integers(160, size=3000), rng.normal(size=(3000, 20))
    inputs, labels = centres[index] + 0.42 * noise, index % 10
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    return (inputs[:2000], labels[:2000]), (inputs[2000:], labels[2000:])


def teacher(n=5000):
    """(inputs, labels): 64 Gaussian components of scales exp(-i / 20), mixed; classes by a 64-32-10 tanh net."""
    rng = np.random.default_rng(0)
    mixing = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    inputs = rng.normal(size=(n, 64)) * np.exp(-np.arange(64) / 20) @ mixing
    hidden = np.tanh(inputs @ rng.normal(size=(64, 32)) / 2)
    return inputs, (hidden @ rng.normal(size=(32, 10))).argmax(axis=1)


def mlp(*widths, activation=Tanh, seed=0):
    """A net of dense layers, 20-64-64-10 for mlp(20, 64, 64, 10), built in float64."""
    named = {}
    for i, n in enumerate(widths[1:], start=1):
        named |= {f"fc{i}": Dense(n), f"act{i}": activation()}
    del named[f"act{len(widths) - 1}"]
    return Sequential(**named).build(widths[0], seed, np.float64)


def trained(rule, net, train, test=None, lr=3e-3, epochs=60, drop=0.75, loss=None, optimise=Adam, seed=0):
    """Test accuracy (training accuracy without `test`) after training `net` under `rule`, as a trainer would.

    drop  the share of epochs after which the learning rate falls to a fifth, or None
    """
    inputs, labels = train
    rule.attach(net, seed)
    schedule = MultiStep(lr, {round(drop * epochs): 0.2}) if drop else lr
    optimiser, tape = optimise(net.arena, lr=schedule), Tape(net, loss or SoftmaxCrossEntropy())
    rule.follow(optimiser)
    run = Run(net, tape.loss, inputs, labels, seed)
    rule.phase(net, run.batches(0))
    step = 0
    for epoch in range(epochs):
        for each in (optimiser, *rule.optimisers().values()):
            each.epoch = epoch
        for batch in run.order("train", epoch):
            tape.begin(inputs[batch], labels[batch], seed=(seed, step)).run(rule)
            rule.assign(net, tape)
            optimiser.step()
            rule.learn(net, tape)
            step += 1
            rule.phase(net, run.batches(step))
    inputs, labels = test or train
    return accuracy(rows(rule.forward(net.columns(inputs))), labels)


class Run:
    """The order of batches, and those for off-line phases."""

    def __init__(self, net, loss, inputs, labels, seed):
        self.net, self.loss, self.inputs, self.labels, self.seed = net, loss, inputs, labels, seed
        self.per_epoch = len(inputs) // BATCH

    def order(self, *key):
        n = self.per_epoch * BATCH
        return stream(self.seed, *key).permutation(n).reshape(-1, BATCH)

    def batches(self, step):
        return Batches(self, step)


class Batches:
    def __init__(self, run, step):
        self.run, self.step, self.per_epoch, self.epoch, self.drawn = run, step, run.per_epoch, step // run.per_epoch, 0

    def __iter__(self):
        return self

    def __next__(self):
        run, (turn, i) = self.run, divmod(self.drawn, self.per_epoch)
        batch = run.order("phase", self.step, turn)[i]
        self.drawn += 1
        tape = Tape(run.net, run.loss, mode="probe")
        return tape.begin(run.inputs[batch], run.labels[batch], seed=(run.seed, "phase", self.step, self.drawn))

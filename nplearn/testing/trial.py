"""What the rule contract trains: small nets that catch a rule out, and a short training whose steps can be taken apart.

Nets are in float64, with no two widths alike, and their batch is cut into several chunks. A `Trial` is a net, a rule,
an optimiser and a tape; its batches are a function of (seed, step).
"""
import numpy as np

from nplearn.backend import stream
from nplearn.columns import outside
from nplearn.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    LeakyReLU,
    LocallyConnected2d,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Tanh,
    everything,
    holders,
)
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.optim import SGD
from nplearn.tape import Tape

N = 8                                                   # samples of a batch


# -- the nets ---------------------------------------------------------------------------------------------------------

def dense_net(seed=0):
    """Three weighted layers, 6-9-7-4."""
    return ready(Sequential(fc1=Dense(9), act1=Tanh(), fc2=Dense(7), act2=LeakyReLU(), fc3=Dense(4)), (6,), seed)


def map_net(seed=0):
    """Convolution, pooling, a locally connected layer: samples do not meet."""
    return ready(Sequential(conv=Conv2d(4, 3), act1=Tanh(), pool=MaxPool2d(2), local=LocallyConnected2d(5, 2, stride=2),
                            act2=ReLU(), flatten=Flatten(), fc=Dense(3)), (6, 5, 2), seed)


def stride_net(seed=0):
    """A chain without pooling or normalisation: convolution, a locally connected layer, two dense ones."""
    return ready(Sequential(conv=Conv2d(4, 3, stride=2), act1=Tanh(), local=LocallyConnected2d(3, 2), act2=LeakyReLU(),
                            flatten=Flatten(), fc1=Dense(8), act3=Tanh(), fc2=Dense(5)), (6, 7, 2), seed)


def norm_net(seed=0):
    """Convolution with BatchNorm, pooling, a locally connected layer, dense with BatchNorm."""
    return ready(Sequential(conv=Conv2d(4, (3, 2), stride=(1, 2)), norm1=BatchNorm(), act1=Tanh(), pool=AvgPool2d(2),
                            local=LocallyConnected2d(3, 3), act2=LeakyReLU(), flatten=Flatten(), fc1=Dense(8),
                            norm2=BatchNorm(), act3=Tanh(), fc2=Dense(5)), (6, 7, 2), seed)


def residual_net(seed=0):
    """Two residual blocks with BatchNorm, one with an identity shortcut, one with a projection."""
    def half(n, stride=1):
        return {"conv1": Conv2d(n, 3, stride, bias=False), "norm1": BatchNorm(), "act": Tanh(),
                "conv2": Conv2d(n, 3, bias=False), "norm2": BatchNorm()}
    across = Sequential(conv=Conv2d(6, 1, stride=2, bias=False), norm=BatchNorm())
    return ready(Sequential(conv=Conv2d(4, 3, bias=False), norm=BatchNorm(), act=Tanh(), block1=Residual(**half(4)),
                            act1=Tanh(), block2=Residual(**half(6, 2), shortcut=across), act2=LeakyReLU(),
                            mean=GlobalAvgPool(), fc=Dense(5)), (4, 6, 3), seed)


def ready(net, in_shape, seed=0):
    """The net built in float64; `column_bytes` as if its maps were large, so that a batch of 8 makes two chunks."""
    net.build(in_shape, seed, np.float64)
    net.column_bytes = 2**21
    return net


NETS = {"dense": dense_net, "stride": stride_net, "map": map_net, "norm": norm_net, "residual": residual_net}


# -- a short training -------------------------------------------------------------------------------------------------

class Trial:
    """One net under one rule, with batches that are a function of seed and step alone.

    build(seed), factory()   make the net, built, and the rule     net_seed   draws the weights (default: seed)
    optimise(arena)          the forward optimiser (default: SGD with momentum and decay)
    """

    def __init__(self, build, factory, seed=0, loss=None, net_seed=None, optimise=None):
        self.net, self.rule, self.seed = build(seed if net_seed is None else net_seed), factory(), seed
        self.rule.attach(self.net, seed)
        self.optimiser = optimise(self.net.arena) if optimise else SGD(self.net.arena, 0.05, momentum=0.9, decay=0.02)
        self.rule.follow(self.optimiser)
        self.tape = Tape(self.net, loss or SoftmaxCrossEntropy())

    def begin(self, step, rows=None, tape=None):
        """A tape with the batch of that step, or with some rows of it."""
        rng = stream(self.seed, "batch", step)
        inputs = rng.normal(size=(N, *outside(self.net.in_shape)))
        labels = rng.integers(self.net.out_shape[0], size=N)
        rows = np.arange(N) if rows is None else rows
        return (tape or self.tape).begin(inputs[rows], labels[rows], seed=(self.seed, step))

    def run(self, step=0, rows=None):
        self.begin(step, rows).run(self.rule)
        return self.tape

    def assign(self, tape=None):
        """{path: gradient} that the rule makes of the pass."""
        self.rule.assign(self.net, tape or self.tape)
        return self.gradients()

    def backprop(self):
        """{path: gradient} of the same pass, exactly."""
        walk = self.tape.walk(exact=True)
        self.net.backward(walk.error, walk)
        return self.gradients()

    def gradients(self):
        return {p.path: p.grad.copy() for p in self.net.arena.params}

    def step(self, step, between=lambda: None):
        """A whole training step; `between` is called where somebody might look."""
        if step == 0:
            self.rule.phase(self.net, Batches(self, 0))
        self.run(step)
        between()
        self.rule.assign(self.net, self.tape)
        self.optimiser.step()
        self.rule.learn(self.net, self.tape)
        self.rule.phase(self.net, Batches(self, step + 1))
        between()

    def forward_state(self):
        """{name: live array} of what the forward pass uses: weights and running statistics."""
        state = {p.path: p.value for p in self.net.arena.params}
        for layer in everything(self.net):
            state |= {f"{layer.path}.{name}": array for name, array in layer.buffers().items()}
        return state

    def state(self):
        """{name: live array} of everything that training may move."""
        return {**self.forward_state(), **{f"rule {path}": array for path, array in self.rule.arrays().items()}}


    def feedback_arrays(self):
        """{name: live array} of what the feedback on every layer holds, learned and fixed."""
        return self.rule.arrays() | {
            f"{layer.path}.{name}": array for layer in holders(self.net) for name, array in
            [*((k, p.value) for k, p in layer.feedback.params().items()), *layer.feedback.fixed().items()]}


class Batches:
    """What `phase` is given: begun tapes of their own order, the step and epoch that training has come to, and how many
    updates make an epoch."""

    per_epoch = 3

    def __init__(self, trial, step):
        self.trial, self.step, self.epoch, self.drawn = trial, step, 0, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.drawn += 1
        tape = Tape(self.trial.net, self.trial.tape.loss)
        return self.trial.begin(f"phase {self.step} {self.drawn}", tape=tape)


def copies(arrays):
    return {name: array.copy() for name, array in arrays.items()}


def differ(found, wanted, tolerance=0):
    """In words, the first array that is not what was wanted; "" where all are. Tolerance 0 means to the bit.

    Else it is relative to the largest entry wanted, of that array or a hundredth of all (the gradient of a bias under
    BatchNorm is rounding alone).
    """
    least = max((abs(array).max(initial=0) for array in wanted.values()), default=0) / 100
    for name, array in wanted.items():
        sizes = " x ".join(map(str, array.shape))
        off = abs(found[name] - array).max(initial=0)
        if tolerance == 0 and found[name].tobytes() != array.tobytes():
            return f"{name} ({sizes}) differs, by {off:.1e}, and should to no bit"
        if tolerance and not off <= tolerance * max(abs(array).max(initial=0), least):
            return f"{name} ({sizes}) differs by {off:.1e} of {abs(array).max(initial=0):.1e}"
    return ""


def common_factor(steps, lr, decay, momentum=0.0, nesterov=False, decoupled=False):
    """c_t after `steps` updates: what is left of a difference between two arrays that get the same gradients.

    lr, decay   functions of the update's number (schedules are)

    coupled     s <- mu s + lam c,  c <- c - eta s      (Nesterov: c <- c - eta (lam c + mu s), c before the update)
    decoupled   c <- (1 - eta lam) c
    """
    c, s = 1.0, 0.0
    for t in range(steps):
        eta, lam = lr(t, 0), decay(t, 0)
        if decoupled:
            c *= 1 - eta * lam
            continue
        q = lam * c
        s = momentum * s + q
        c -= eta * (q + momentum * s if nesterov else s)
    return c


def angle(a, b):
    """Degrees between two arrays as vectors."""
    return np.degrees(np.arccos(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1, 1)))

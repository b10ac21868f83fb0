"""What the tests of training share: little data, two nets, rules with state, a Trainer, and ways to stop it."""
import numpy as np

from nplearn import resume
from nplearn.data import Loader
from nplearn.data.augment import Compose, Flip, Shift
from nplearn.data.dataset import DataSet
from nplearn.kernels.threads import blas_threads
from nplearn.layers import BatchNorm, Conv2d, Dense, Dropout, Flatten, ReLU, Sequential, Tanh
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import Probe
from nplearn.optim import SGD, Adam, MultiStep
from nplearn.rules import Backprop, FeedbackAlignment, KolenPollack, Mixed, ProductFeedbackAlignment, registry
from nplearn.train import Trainer


def images(n=46, n_test=20, classes=4, shape=(6, 5, 2), seed=0):
    """(training, test): noise around one image per class, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    means, parts = rng.integers(40, 216, (classes, *shape)), []
    for size in (n, n_test):
        labels = rng.integers(classes, size=size)
        inputs = np.clip(means[labels] + rng.normal(0, 40, (size, *shape)), 0, 255).astype(np.uint8)
        parts.append(DataSet("noise", "drawn", inputs, labels, map(str, range(classes)), [0.5] * shape[2],
                             [0.3] * shape[2]))
    return parts


DATA = images()


def dense_net(seed=3):
    return Sequential(flatten=Flatten(), fc1=Dense(9), act1=Tanh(), fc2=Dense(7), act2=ReLU(),
                      fc3=Dense(4)).build((6, 5, 2), seed)


def noisy_net(seed=3):
    return Sequential(conv=Conv2d(3, 3), norm=BatchNorm(), act1=ReLU(), drop=Dropout(0.3), flatten=Flatten(),
                      fc1=Dense(7), norm2=BatchNorm(), act2=Tanh(), drop2=Dropout(0.5),
                      fc2=Dense(4)).build((6, 5, 2), seed)


RULES = {"kp": KolenPollack, "fa": FeedbackAlignment, "brsf": lambda: registry.make("brsf"),
         "pfa": lambda: ProductFeedbackAlignment(expand=3), "pfa, sparse": lambda: registry.make("pfa:density=0.5"),
         "pfa-o": lambda: registry.make("pfa-o"), "frozen": lambda: registry.make("frozen"),
         "kp, own optimiser": lambda: KolenPollack(optimiser=lambda arena: Adam(arena, MultiStep(0.01, {1: 0.1}))),
         "mixed": lambda: Mixed({"fc1": KolenPollack(), "*1": ProductFeedbackAlignment(expand=2), "conv": Backprop(),
                                 "*": FeedbackAlignment()})}
NETS = {"dense": dense_net, "noisy": noisy_net}


def make_rule(name, net):
    if name == "mixed" and net == "dense":              # every pattern must find a layer
        return Mixed({"fc3": KolenPollack(), "fc2": ProductFeedbackAlignment(expand=2), "*": FeedbackAlignment()})
    if name == "mixed":
        return Mixed({"conv": Backprop(), "fc1": KolenPollack(), "*": ProductFeedbackAlignment(expand=2)})
    return RULES[name]()


def trainer(folder=None, rule="kp", net="dense", data=DATA, lr=0.05, bar=None, loader=Loader, probe=True, **options):
    """A Trainer; batches of 8, shifted and flipped, from 46 images: 6 an epoch, the last one shorter."""
    blas_threads(1)                                     # as in every run; whatever another test left must not matter
    net_, loss = NETS[net](), SoftmaxCrossEntropy()
    made = make_rule(rule, net) if isinstance(rule, str) else rule
    made.attach(net_, 5)
    optimiser = SGD(net_.arena, MultiStep(lr, {2: 0.5}), momentum=0.9, decay=MultiStep(0.02, {1: 0.1}))
    watch = Probe(net_, made, loss, data[0].normalised(data[0].inputs[:9]), data[0].labels[:9]) if probe else None
    train = loader(data[0], 8, seed=7, augment=Compose(Shift(1), Flip()))
    return Trainer(net_, made, optimiser, loss, train, Loader(data[1], 16, shuffle=False), seed=11, probe=watch,
                   folder=str(folder) if folder else None, bar=bar, **options)


def state(run):
    """{name: bytes} of all that training moves, and the history but for its times."""
    held = {name: array.tobytes() for name, array in resume.arrays(run).items()}
    for name, optimiser in resume.optimisers(run).items():
        held |= {f"optim {name} {slot}": array.tobytes() for slot, array in optimiser.state().items()}
    return held | {"history": untimed(run.history), "at": (run.epoch, run.index, run.step)}


def untimed(history):
    return [{key: value for key, value in record.items() if key != "step_ms"} for record in history]


def same(found, wanted):
    return [name for name in wanted if found[name] != wanted[name]] == [] and found.keys() == wanted.keys()


class Stop:
    """A bar that is interrupted at the n-th update of the run; a resumed run tells it how far it is."""

    def __init__(self, n):
        self.left = n

    def update(self, n=1):
        self.left -= n
        if self.left <= 0:
            raise KeyboardInterrupt

    def set_description_str(self, text, refresh):
        self.says = [text]

    def set_postfix_str(self, text, refresh):
        self.says.append(text)


class Stopping(Loader):
    """A loader that is interrupted when the batch `at` (of epoch, index) is asked for."""

    at = None

    def batch(self, epoch, index):
        if self.at == (epoch, index):
            raise KeyboardInterrupt
        return super().batch(epoch, index)

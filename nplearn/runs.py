"""A training described by plain settings: what the command line, the comparison and sweeps make trainers from.

    settings = Settings(net="mlp", rule="pfa", data="mnist5k", epochs=5)
    trainer = settings.trainer(load(settings.data), folder="runs/pfa")
    trainer.fit(settings.epochs)

Settings are JSON, stand in every checkpoint, and build the net again for `evaluate`.
"""
from dataclasses import asdict, dataclass, field

from nplearn.data import Loader
from nplearn.data.augment import Compose, Flip, Shift
from nplearn.errors import SettingError
from nplearn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError
from nplearn.metrics import Probe
from nplearn.nets import make as make_net
from nplearn.optim import SGD, Adam, AdamW, BatchManhattan, MultiStep, RMSprop
from nplearn.rules.registry import make as make_rule
from nplearn.train import Trainer

OPTIMISERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "manhattan": BatchManhattan}
LOSSES = {"softmax": SoftmaxCrossEntropy, "squared": SquaredError, "sigmoid": SigmoidCrossEntropy}


@dataclass
class Settings:
    """One training.

    net, rule, data     short names; a rule may carry options ("pfa:expand=5"), data may be a path
    lr_steps            {epoch: factor} on the learning rate      decay_steps  likewise on the decay
    augment             pixels of random shift (0 for none; with a horizontal flip where there are colours)
    net_options         keyword arguments of the net, such as {"hidden": [256, 256]}
    threads             over the chunks of nets with convolutions (no bit changes), in other nets of BLAS
    """

    net: str = "mlp"
    rule: str = "backprop"
    data: str = "mnist5k"
    epochs: int = 10
    batch: int = 64
    optimiser: str = "sgd"
    lr: float = 0.05
    lr_steps: dict = field(default_factory=dict)
    momentum: float = 0.9
    decay: float = 1e-4
    decay_steps: dict = field(default_factory=dict)
    loss: str = "softmax"
    augment: int = 0
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    net_options: dict = field(default_factory=dict)

    @classmethod
    def for_rule(cls, rule, **given):
        """The settings of a training under `rule`: the usual ones, where the rule is at home others, and those given.

        net_options are joined, unless another net than the rule's own is given. A decay that is given stays as it is.
        """
        home = dict(make_rule(rule).home)
        if given.get("net", home.get("net", cls.net)) != home.get("net", cls.net):
            home.pop("net_options", None)
        if "decay" in given:
            home.pop("decay_steps", None)
        options = {**home.pop("net_options", {}), **given.pop("net_options", {})}
        return cls(rule=rule, **{**home, **given}, net_options=options)

    def build(self, in_shape, classes):
        """The net for inputs (H, W, C), built."""
        net = make_net(self.net, in_shape, classes, **self.net_options)
        return net.build(in_shape, self.seed, self.dtype, self.device)

    def make_optimiser(self, arena):
        kind = pick("optimiser", self.optimiser, OPTIMISERS)
        if not 0 <= self.momentum < 1:
            raise SettingError("momentum", f"{self.momentum}", "0 or more and below 1", "change it")
        extra = {"momentum": self.momentum} if kind in (SGD, RMSprop, BatchManhattan) else {}
        return kind(arena, lr=stepped(self.lr, self.lr_steps), decay=stepped(self.decay, self.decay_steps), **extra)

    def trainer(self, data, folder=None, bar=None, label="", probe=256, save_every=60.0):
        """A Trainer for the data sets (training, test); `probe` training images are measured each epoch (0: none)."""
        if self.threads < 1:
            raise SettingError("threads", f"{self.threads}", "1 or more", "leave it at 1, or give the number of cores")
        training, test = data
        net = self.build(training.inputs.shape[1:], len(training.classes))
        rule = make_rule(self.rule).attach(net, self.seed)
        loss = pick("loss", self.loss, LOSSES)()
        augment = None
        if self.augment:
            shift = Shift(self.augment)
            augment = Compose(shift, Flip()) if training.inputs.shape[3] > 1 else shift
        first = slice(0, min(probe, len(training)))
        watch = None
        if probe:
            inputs = training.normalised(training.inputs[first], self.dtype)
            watch = Probe(net, rule, loss, inputs, training.labels[first])
        return Trainer(net, rule, self.make_optimiser(net.arena), loss,
                       Loader(training, self.batch, seed=self.seed, augment=augment, dtype=self.dtype),
                       Loader(test, 500, shuffle=False, dtype=self.dtype), seed=self.seed, probe=watch, folder=folder,
                       bar=bar, label=label, save_every=save_every, threads=self.threads,
                       about={"run": asdict(self), "in_shape": list(training.inputs.shape[1:]),
                              "classes": list(training.classes), "source": training.source,
                              "records": [len(training), len(test)]})


def pick(what, name, known):
    """known[name], or a SettingError that lists what there is."""
    if name not in known:
        raise SettingError(what, f"{name!r}", f"one of {', '.join(known)}", "choose one of these")
    return known[name]


def stepped(value, factors):
    """A number, or the schedule that multiplies it at the given epochs."""
    return MultiStep(value, {int(at): factor for at, factor in factors.items()}) if factors else value

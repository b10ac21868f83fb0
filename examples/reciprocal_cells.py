"""What reciprocal_study.py is made of: data sets and nets, rules, parts, and the list of trainings that follows.

    To add a rule       one line in CONTENDERS. It is then searched, compared, planned and drawn on every task;
                        a task whose net it cannot serve lists it under `without`.
    To add a data set   one Task in TASKS, with the name that nplearn.data.load knows.
    To add a part       its line in SEEDS and EPOCHS, its trainings in `lines`, its rule in `described`, what is looked
                        at in LOOKS (reciprocal_training.py), its section in SECTIONS (reciprocal_report.py).

Then run `--plan`: it lists all settings, and what is still to be trained. A cell is one training: part, task, rule,
setting, seed. `described` says in JSON what a cell is made from. That stands in the cell's file beside what came out,
so that a file of other settings is not taken for it.

    search    SIX settings of each rule on each task, a few epochs, accuracy on held-out training images, seed 0
    compare   the best of them on all training images, five seeds, tested after each epoch
    stale     feedback refreshed every 1, 10, 100 updates, once per epoch, never: the exact inverse, and recirculated
    steps     0.1, 1, 10, 100 recirculations per update, from zero and from random feedback
    curvature backprop and reciprocal feedback with and without momentum, backprop with Adam: training loss by update
    loop      dynamic inversion by the simulated loop against its closed form
"""
from dataclasses import asdict, dataclass, field

from nplearn.layers import XAVIER, Conv2d, Dense, Flatten, Sequential, Tanh
from nplearn.nets import mlp

BATCH, MOMENTUM, DECAY = 64, 0.9, 1e-4
USUAL = {"optimiser": "sgd", "momentum": MOMENTUM, "decay": DECAY}
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
HELD_OUT = 6                                            # the search is judged on one of so many parts
EVERY, LOSS_EVERY = 100, 25                             # updates between looks: at feedback and loop, at the loss
PROBED, LOOPED, WATCHED = 256, 64, 2000                 # training images looked at: feedback and angles, loop, loss
NEVER = 10 ** 9                                         # updates between two refreshes of feedback that has none
SLEEP = 60                                              # recirculations of a refresh


# -- data sets and nets -----------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Task:
    """A net on a data set."""

    says: str                                           # for tables and the plan
    data: str                                           # a name for nplearn.data.load
    images: int                                         # of its training set, for estimates
    depth: int                                          # weighted layers
    net: object                                         # net() makes it, not built
    epochs: int                                         # of compare
    search: int                                         # epochs of each trial of the search
    augment: int = 0                                    # pixels of random shift, then flips; 0 for none
    without: tuple = ()                                 # rules that cannot serve the net


def conv():
    """Three strided convolutions, no pooling: 32x32x3 -> 16x16x16 -> 8x8x32 -> 4x4x64 -> 10."""
    def layer(n, kernel):
        return Conv2d(n, kernel, stride=2, padding=kernel // 2, init=XAVIER)
    return Sequential(conv1=layer(16, 5), act1=Tanh(), conv2=layer(32, 5), act2=Tanh(), conv3=layer(64, 3), act3=Tanh(),
                      flatten=Flatten(), fc=Dense(10, init=XAVIER))


TASKS = {
    "mnist-pyramid": Task("784-256-128-64-10, tanh, MNIST", "mnist", 60_000, 4, lambda: mlp(10, (256, 128, 64), Tanh),
                          epochs=10, search=2),
    "mnist-5x256": Task("784-5x256-10, tanh, MNIST", "mnist", 60_000, 6, lambda: mlp(10, (256,) * 5, Tanh),
                        epochs=10, search=2),
    "cifar-fc": Task("3072-512-256-10, tanh, CIFAR-10, shifts by 4 pixels and flips", "cifar-10", 10_000, 3,
                     lambda: mlp(10, (512, 256), Tanh), epochs=30, search=6, augment=4),
    "cifar-conv": Task("32x32x3, convolutions of stride 2: 5x5x16, 5x5x32, 3x3x64, then 10, tanh, CIFAR-10, shifts by "
                       "4 pixels and flips", "cifar-10", 10_000, 4, conv, epochs=20, search=4, augment=4,
                       without=("ndi", "rf-exact")),
}


# -- rules ------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Contender:
    """A rule as it is trained here."""

    text: str                                           # for nplearn.rules.registry.make; {twice}: twice the depth
    own: dict = field(default_factory=dict)             # settings in place of those of USUAL
    trials: tuple = tuple({"lr": lr} for lr in RATES)   # what the search tries: as many for each rule
    compared: bool = True                               # False: in curvature alone

    def rule(self, task, alpha=None):
        return self.text.format(twice=2 * TASKS[task].depth, alpha=alpha)


CONTENDERS = {
    "backprop": Contender("backprop"),
    "fa": Contender("fa"),
    "usf": Contender("usf"),
    "kp": Contender("kp", {"decay": 1e-3}),             # whose decay is what aligns it
    "wm": Contender("wm"),
    "dtp": Contender("dtp:alpha={alpha}",
                     trials=tuple({"lr": lr, "alpha": alpha} for alpha in (0.1, 0.5) for lr in (0.01, 0.03, 0.1))),
    "pc": Contender("pc:steps={twice},gamma=0.3"),
    "ndi": Contender("ndi"),
    "rf": Contender("rf"),
    "rf-sleep": Contender("rf-sleep:wake=50"),
    "rf-exact": Contender("rf-exact"),
    "backprop-sgd": Contender("backprop", {"momentum": 0.0}, tuple({"lr": 10 * lr} for lr in RATES), compared=False),
    "rf-exact-sgd": Contender("rf-exact", {"momentum": 0.0}, tuple({"lr": 10 * lr} for lr in RATES), compared=False),
    "backprop-adam": Contender("backprop", {"optimiser": "adam"}, tuple({"lr": lr / 30} for lr in RATES),
                               compared=False),
}
COMPARED = tuple(name for name, contender in CONTENDERS.items() if contender.compared)


# -- parts ------------------------------------------------------------------------------------------------------------

ROBUST = "mnist-pyramid"                                # the task of all parts but search and compare
SEEDS = {"search": 1, "compare": 5, "stale": 3, "steps": 3, "curvature": 5, "loop": 1}      # in the order of the run
EPOCHS = {"stale": 4, "steps": 3, "curvature": 5, "loop": 2}        # those of search and compare are the task's
STALE = ("1", "10", "100", "epoch", "never")            # updates between two refreshes
STEPS = ("0.1", "1", "10", "100")                       # recirculations per update
LOOPS = {"closed": "ndi", "60 steps": "di:steps=60", "200 steps": "di:steps=200"}
CURVED = ("backprop-sgd", "backprop", "backprop-adam", "rf-exact-sgd", "rf-exact")


@dataclass(frozen=True)
class Cell:
    """One training."""

    part: str
    task: str
    rule: str
    setting: str
    seed: int

    @property
    def file(self):
        words = "-".join((self.part, self.task, self.rule, self.setting, str(self.seed)))
        return words.replace(" ", "_").replace(",", "_").replace("=", "") + ".json"


def shown(trial):
    """{"lr": 0.03, "alpha": 0.1} -> "lr=0.03,alpha=0.1"."""
    return ",".join(f"{name}={value:.2g}" for name, value in trial.items())


def plan(parts, tasks, rules, seeds):
    """All cells of these parts in the order in which they are run: a seed of every rule before the next seed."""
    cells = []
    for part in [part for part in SEEDS if part in parts]:
        served = tasks if part in ("search", "compare") else [task for task in tasks if task == ROBUST]
        for seed in range(min(seeds, SEEDS[part])):
            for task in served:
                cells += [Cell(part, task, rule, setting, seed) for rule, setting in lines(part, task, parts)
                          if rule in rules]
    return cells


def lines(part, task, parts):
    """(rule, setting) of every training of one seed."""
    compared = [rule for rule in COMPARED if rule not in TASKS[task].without]
    if part == "search":
        extra = [rule for rule in CURVED if rule not in COMPARED] if task == ROBUST and "curvature" in parts else []
        return [(rule, shown(trial)) for rule in (*compared, *extra) for trial in CONTENDERS[rule].trials]
    return {"compare": [(rule, "best") for rule in compared],
            "stale": [*((rule, refresh) for rule in ("rf-exact", "rf-sleep") for refresh in STALE),
                      ("backprop", "reference"), ("fa", "reference")],
            "steps": [("rf", f"{steps} {start}") for steps in STEPS for start in ("zero", "random")],
            "curvature": [(rule, "best") for rule in CURVED],
            "loop": [("ndi", setting) for setting in LOOPS]}[part]


def described(cell, best, options):
    """All that decides what comes out of a cell, as JSON. `best`: the trial that the search chose for its rule.

    options  epochs and images: caps, or None; mnist: what to take for MNIST
    """
    task, contender = TASKS[cell.task], CONTENDERS[cell.rule]
    if cell.part == "search":
        trial = next(trial for trial in contender.trials if shown(trial) == cell.setting)
    else:
        trial = best
    rule = contender.rule(cell.task, trial.get("alpha"))
    if cell.part == "stale" and cell.setting != "reference":    # "{epoch}": its updates, put in when they are known
        exact = cell.rule == "rf-exact"
        refresh = {"epoch": "{epoch}", "never": 0 if exact else NEVER}.get(cell.setting, cell.setting)
        rule = f"rf-exact:refresh={refresh}" if exact else f"rf-sleep:sleep={SLEEP},wake={refresh}"
    elif cell.part == "steps":
        steps, start = cell.setting.split()
        rule = f"rf:start={start}," + ("steps=0,sleep=1,wake=10" if steps == "0.1" else f"steps={steps}")
    elif cell.part == "loop":
        rule = LOOPS[cell.setting]
    return {"cell": asdict(cell), "rule": rule, "lr": trial["lr"], **USUAL, **contender.own,
            "epochs": epochs_of(cell, options["epochs"]), "images": options["images"],
            "data": options["mnist"] if task.data == "mnist" else task.data}


def epochs_of(cell, cap):
    task = TASKS[cell.task]
    epochs = {"search": task.search, "compare": task.epochs, **EPOCHS}[cell.part]
    return min(epochs, cap or epochs)

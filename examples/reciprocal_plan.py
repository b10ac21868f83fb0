"""What `reciprocal_study.py --plan` says: every setting, what is done, and how long the rest takes."""
from reciprocal_cells import (
    BATCH,
    CONTENDERS,
    CURVED,
    EPOCHS,
    EVERY,
    HELD_OUT,
    LOOPED,
    LOOPS,
    LOSS_EVERY,
    NEVER,
    PROBED,
    ROBUST,
    SEEDS,
    SLEEP,
    STALE,
    STEPS,
    TASKS,
    USUAL,
    WATCHED,
    epochs_of,
    shown,
)

from nplearn.rules.registry import make

# milliseconds of an update, with its share of off-line work; one thread of a shared x86-64 server, batches of 64
MS = {
    "mnist-pyramid": {"backprop": 2.2, "fa": 2.1, "usf": 2, "kp": 2, "wm": 4, "dtp": 6, "pc": 5.5, "ndi": 4, "rf": 5,
                      "rf-sleep": 4, "rf-exact": 3.7},
    "mnist-5x256": {"backprop": 3.5, "fa": 3.5, "usf": 3.6, "kp": 4, "wm": 9, "dtp": 12, "pc": 26, "ndi": 23, "rf": 12,
                    "rf-sleep": 15, "rf-exact": 19},
    "cifar-fc": {"backprop": 12, "fa": 12, "usf": 12, "kp": 12, "wm": 13, "dtp": 18, "pc": 15, "ndi": 17, "rf": 18,
                 "rf-sleep": 22, "rf-exact": 18},
    "cifar-conv": {"backprop": 15, "fa": 15, "usf": 15, "kp": 15, "wm": 31, "dtp": 36, "pc": 72, "rf": 70,
                   "rf-sleep": 85},
}
MS["mnist-pyramid"] |= {"backprop-sgd": 2.2, "backprop-adam": 2.2, "rf-exact-sgd": 3.7}
GUESS = 20                                              # of a rule or a task that does not stand there


def seconds(cell, cap, images):
    """Estimated seconds of one core, tests and looks with them; caps on epochs and images, or None."""
    task, ms = TASKS[cell.task], MS.get(cell.task, {}).get(cell.rule, GUESS)
    if (cell.part, cell.rule) == ("stale", "rf-sleep"):
        ms = 2.2 + 2 * SLEEP / int({"epoch": 938, "never": NEVER}.get(cell.setting, cell.setting))
    elif cell.part == "steps":
        ms = 2.5 + 1.8 * float(cell.setting.split()[0])
    elif cell.part == "loop" and cell.setting != "closed":
        ms = 3 + 0.18 * float(cell.setting.split()[0])
    n = min(images or task.images, task.images) * (1 - 1 / HELD_OUT if cell.part == "search" else 1)
    looks = {"stale": 0.6, "steps": 0.6, "curvature": 0.8, "compare": 0.1}.get(cell.part, 0)    # ms an update
    test = 0.6 if cell.part == "compare" else 0.3
    return 0.5 + epochs_of(cell, cap) * (n / BATCH * (ms + looks) / 1e3 + test * min(1, n / 10_000))


def settings(cells, options):
    """Lines: the settings of these cells, each said once. `options`: those of the command line."""
    parts, tasks, rules = ({getattr(cell, key): None for cell in cells} for key in ("part", "task", "rule"))
    yield f"every training: batches of {BATCH}, softmax cross-entropy, float32, Xavier's start, constant learning rate"
    yield f"unless said otherwise: {words(USUAL)}; adam: beta1 0.9, beta2 0.999, eps 1e-08, no momentum"
    yield (f"caps: epochs {options.epochs or 'none'}, images {options.images or 'none'}, seeds {options.seeds}; "
           f"MNIST is {options.mnist}")
    for name in tasks:
        task = TASKS[name]
        yield (f"task {name}: {task.says}; data {task.data}; {task.epochs} epochs in compare, {task.search} in search"
               + (f"; without {', '.join(task.without)}" if task.without else ""))
    for name in rules:
        yield from settings_of_rule(name, tasks)
    for part in parts:
        seeds = min(SEEDS[part], options.seeds)
        yield (f"part {part}: {seeds} seed{'s' * (seeds > 1)}" + (f", {EPOCHS[part]} epochs" if part in EPOCHS else "")
               + f"; {SAYS[part]}")


SAYS = {
    "search": f"the last of {HELD_OUT} parts of the training images is held out, accuracy there after the last epoch",
    "compare": f"all training images, a test after each epoch; angles of {PROBED} training images",
    "stale": f"on {ROBUST}; refreshed every {', '.join(STALE)} updates by the inverse or by {SLEEP} recirculations; "
             f"looked at every {EVERY} updates, with {PROBED} training images",
    "steps": f"on {ROBUST}; {', '.join(STEPS)} recirculations an update from zero and from random feedback; looked at "
             f"every {EVERY} updates, with {PROBED} training images",
    "curvature": f"on {ROBUST}; {', '.join(CURVED)}; loss of {WATCHED} training images every {LOSS_EVERY} updates",
    "loop": f"on {ROBUST}; {', '.join(LOOPS.values())} at the learning rate of ndi; looked at every {EVERY} updates, "
            f"with {LOOPED} training images",
}


def settings_of_rule(name, tasks):
    """Lines: how a rule is made on these tasks, all its settings, and what the search tries."""
    contender, made = CONTENDERS[name], {}
    for task in tasks:
        if name not in TASKS[task].without:
            made.setdefault(contender.rule(task, "{alpha}"), []).append(task)
    trials = "lr " + ", ".join(f"{trial['lr']:.2g}" for trial in contender.trials)
    if len(contender.trials[0]) > 1:
        trials = " | ".join(map(shown, contender.trials))
    for text, where in made.items():
        full = make(text.format(alpha=contender.trials[0].get("alpha"))).settings()
        full = {key: value for key, value in full.items() if key not in contender.trials[0]}
        yield "; ".join(filter(None, [f"rule {name}" + (f" on {', '.join(where)}" if len(made) > 1 else "")
                                      + f": {text}", words(full), words(contender.own), f"search: {trials}"]))


def words(some):
    """{"momentum": 0.9, "optimiser": "adam"} -> "momentum 0.9, optimiser adam"."""
    return ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in some.items())


def table(cells, is_done, options):
    """Lines: trainings of each part and task, how many are done, hours of one core still to go."""
    total = 0
    yield f"{'part':10} {'task':14} trainings  done  hours of one core to go"
    for part, task in dict.fromkeys((cell.part, cell.task) for cell in cells):
        some = [cell for cell in cells if (cell.part, cell.task) == (part, task)]
        left = [cell for cell in some if not is_done(cell)]
        hours = sum(seconds(cell, options.epochs, options.images) for cell in left) / 3600
        total += hours
        yield f"{part:10} {task:14} {len(some):9} {len(some) - len(left):5} {hours:8.2f}"
    yield (f"about {total:.1f} hours of one core, {total / options.workers:.1f} hours with {options.workers} "
           "processes on cores of their own (estimated from MS in reciprocal_plan.py)")

"""The report of reciprocal_study.py: report.md, figures and results.json from the trainings that are finished.

Each part has a function here that takes {cell: result or None} and the folder, draws its figure, and returns its text
(lines of Markdown), or [] where nothing is finished yet. SECTIONS lists them.
"""
import json
import math
import os
from collections import Counter

import reciprocal_figures as figures
from reciprocal_cells import (
    BATCH,
    COMPARED,
    CONTENDERS,
    CURVED,
    DECAY,
    EPOCHS,
    LOOPS,
    MOMENTUM,
    ROBUST,
    SEEDS,
    SLEEP,
    STALE,
    STEPS,
    TASKS,
    shown,
)
from reciprocal_numbers import (
    accuracies,
    by_layer,
    by_result,
    finals,
    lost,
    mean,
    of,
    order,
    percent,
    reached,
    score,
    spent,
    spread,
)

LEVELS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)                # training losses
MEASURES = ("distance of V from the inverse, %", "cosine to fresh", "cosine to backprop",
            "least real part of W B's eigenvalues")

CUT = f"""- Nets and data: two nets on MNIST, two on CIFAR-10. Of CIFAR-10 a subset, 10,000 training and 1,000 test
  images: a test accuracy there has a sampling error of about 1.6 points, whatever the number of seeds.
- Epochs: {", ".join(f"{task.epochs} on {name}" for name, task in TASKS.items())}, not 100 or more;
  {", ".join(f"{n} in {part}" for part, n in EPOCHS.items())}. Curves that still rise at their end have no plateau.
- Seeds: {SEEDS["compare"]} in compare and curvature, {SEEDS["stale"]} in stale and steps, one in search and loop.
- The search has six settings a rule, on one seed. Decay, momentum, lam, alpha of dynamic inversion, rate and number
  of steps of predictive coding, and the wake time of rf-sleep are not searched. One optimiser (SGD with momentum) in
  compare; Adam only in curvature.
- Dynamic inversion is compared in closed form (ndi), which transports weights; the loop is run once (last part).
- ndi and rf-exact serve dense layers only and are left out on the convolutional net.
- Robustness and curvature are on {ROBUST} alone. Not done: maps of step size, decay and steps; nets of many depths;
  conditioning of W over a training; flatness of what is found, of which nothing is claimed."""


def rows(header, lines):
    """A table."""
    return ["| " + " | ".join(header) + " |", "|---" * len(header) + "|", *("| " + " | ".join(line) + " |"
                                                                           for line in lines), ""]


# -- the parts --------------------------------------------------------------------------------------------------------

def search(found, out):
    """Settings found, on each task."""
    tables, edges = [], []
    for task in TASKS:
        tried, lines = {}, []
        for (rule, setting), (result, *_) in of(found, "search", task).items():
            tried.setdefault(rule, []).append((result, setting))
        for rule, pairs in tried.items():
            best, setting = max(pairs, key=lambda pair: score(pair[0]))
            rates = sorted(trial["lr"] for trial in CONTENDERS[rule].trials)
            if setting.split(",")[0] in (shown({"lr": rates[0]}), shown({"lr": rates[-1]})):
                edges.append(f"{rule} on {task}")
            lines.append([rule, f"`{CONTENDERS[rule].rule(task, 'α')}`", setting, percent(best),
                          ", ".join(percent(result) for result, _ in pairs),
                          f"{len(pairs)} of {len(CONTENDERS[rule].trials)}"])
        if lines:
            tables += [f"**{task}**: {TASKS[task].says}", "", *rows(
                ["rule", "made as", "found", "accuracy, %", "of each setting, in order", "tried"], lines)]
    if not tables:
        return []
    note = [f"At the end of its range of learning rates: {', '.join(edges)}.", ""] if edges else []
    return [f"Each rule on each task: {len(CONTENDERS['rf'].trials)} settings, chosen by accuracy on the last sixth of "
            f"the training images after {', '.join(f'{t.search} ({n})' for n, t in TASKS.items())} epochs, seed 0. SGD "
            f"with momentum {MOMENTUM}, batches of {BATCH}, decay {DECAY:g} (kp 1e-3: its decay is what aligns it); "
            "contenders of curvature have their own momentum, or Adam.", "", *tables, *note]


def compare(found, out):
    """Accuracy by epoch and by multiply-adds, on each task."""
    text = []
    for task in TASKS:
        some = {rule: results for (rule, _), results in of(found, "compare", task).items()}
        if not some:
            continue
        reference = some.get("backprop", [])
        level = mean(finals(reference)) - 0.01
        base = mean([result["cost"]["update"] for result in reference])
        lines = []
        for rule in sorted(some, key=lambda rule: order(some[rule])):
            results = some[rule]
            accuracy = [accuracies(result) for result in results]
            epochs = [reached(range(1, len(a) + 1), a, level) for a in accuracy]
            price = [reached(spent(result), a, level) for result, a in zip(results, accuracy, strict=True)]
            lines.append([rule + lost(results), str(len(results)), spread(finals(results), 2, 100),
                          spread([max(a, default=math.nan) for a in accuracy], 2, 100),
                          f"{spread(epochs)} ({sum(e == e for e in epochs)})",
                          f"{mean([result['cost']['update'] for result in results]) / base:.2f}", spread(price, 3)])
        name = f"compare-{task}.png"
        text += [f"### {task}: {TASKS[task].says}", "", f"![accuracy by epoch and by multiply-adds]({name})", "",
                 *figures.compare(some, task, os.path.join(out, name)),
                 *rows(["rule", "seeds", "test accuracy at the end, %", "best epoch, %",
                        f"epochs to {100 * level:.1f} % (seeds that got there)",
                        "multiply-adds of an update / backprop's", "1e12 multiply-adds to that accuracy"], lines)]
    head = ("The level is a point below what backprop ended at. Multiply-adds are counted from an update that is made "
            "(nplearn.metrics.cost), with recirculation, inverses and off-line phases; tests are not counted. One "
            "recirculation sends as many patterns through a layer as it has inputs (each unit alone, at most 2^20 "
            "numbers in all), where a batch is 64.")
    return [head, "", *text] if text else []


def depth(found, out):
    """Angle of each hidden layer's update to backprop's at the end of compare."""
    angles, text = {}, []
    for task in TASKS:
        some, names = {}, []
        for (rule, _), results in of(found, "compare", task).items():
            ends = [result["history"][-1]["layers"][:-1] for result in results if "diverged" not in result]
            if ends and rule != "backprop":
                some[rule] = [[layer["gradient_angle"] for layer in layers] for layers in ends]
                names = [layer["layer"] for layer in ends[0]]
        if some:
            angles[task] = names, some
            text += [f"**{task}**", "", *rows(["rule", *names], [
                [rule, *map(spread, zip(*series, strict=True))] for rule, series in some.items()])]
    if not text:
        return []
    figures.depth(angles, os.path.join(out, "depth.png"))
    return ["On 256 training images; the last layer's update is backprop's under every rule.", "",
            "![angle of each layer's update](depth.png)", "", *text]


def stale(found, out):
    """Feedback that is refreshed seldom."""
    some, lines, accuracy, cosines, dots = of(found, "stale", ROBUST), [], {}, {}, {}
    if not some:
        return []
    for kind, rule in {"exact": "rf-exact", "recirculated": "rf-sleep"}.items():
        for at, refresh in enumerate(STALE):
            results = some.get((rule, refresh))
            if not results:
                continue
            measures = {key: by_result(results, key) for key in ("moved", "off", "to_fresh", "to_backprop", "least")}
            lines.append([kind, refresh, spread(finals(results), 2, 100) + lost(results),
                          *(spread(measures[key], 2, 100) for key in ("moved", "off")),
                          *(spread(measures[key], 3) for key in ("to_fresh", "to_backprop", "least"))])
            accuracy.setdefault(kind, []).append((at, [100 * a for a in finals(results)]))
            cosines.setdefault(kind, []).append((at, measures["to_fresh"]))
            dots.setdefault(kind, []).extend(
                (layer["moved"], layer["off"]) for result in results for look in result["looks"]
                for layer in look["layers"] if layer["moved"] and layer["off"])     # no 0 on a log axis
    for rule in "backprop", "fa":
        results = some.get((rule, "reference"), [])
        if results:
            values = [100 * a for a in finals(results)]
            lines.append([rule, "-", spread(values, 2) + lost(results), *"-----"])
            accuracy[rule] = [(at, values) for at in range(len(STALE))]
    figures.stale(accuracy, cosines, dots, os.path.join(out, "stale.png"))
    return [f"At the settings of rf-exact; backprop and fa, for reference, at their own. Exact: the Tikhonov inverse, "
            f"computed at each refresh. Recirculated: {SLEEP} recirculations at each refresh, from where V stands. "
            "Never: V of the start. Looked at when feedback is stalest, before every 100th update and an epoch's last; "
            "columns are means over the layers that send and the second half of the training.",
            "", "![stale feedback](stale.png)", "",
            *rows(["feedback", "refresh every", "test accuracy, %", "change of W since, %", *MEASURES], lines)]


def steps(found, out):
    """Feedback that has not converged."""
    some, lines, accuracy, off, cosines = of(found, "steps", ROBUST), [], {}, {}, {}
    if not some:
        return []
    for start in ("zero", "random"):
        for k in STEPS:
            results = some.get(("rf", f"{k} {start}"))
            if not results:
                continue
            measures = {key: by_result(results, key) for key in ("off", "to_fresh", "to_backprop", "least")}
            lines.append([start, k, spread(finals(results), 2, 100) + lost(results), spread(measures["off"], 2, 100),
                          *(spread(measures[key], 3) for key in ("to_fresh", "to_backprop", "least"))])
            for points, values in ((accuracy, [100 * a for a in finals(results)]), (off, measures["off"]),
                                   (cosines, measures["to_backprop"])):
                points.setdefault(f"V from {start}", []).append((float(k), values))
    figures.steps(accuracy, off, cosines, os.path.join(out, "steps.png"))
    return ["Recirculations with one unit active at a time (no noise); 0.1 is one after every tenth update. V goes on "
            "from where it stands. Columns as above.", "",
            "![unconverged feedback](steps.png)", "",
            *rows(["V starts", "recirculations per update", "test accuracy, %", *MEASURES], lines)]


def curvature(found, out):
    """Updates to a training loss."""
    every = {rule: results for (rule, _), results in of(found, "curvature", ROBUST).items()}
    looks = {rule: [result["looks"] for result in every[rule] if "diverged" not in result]
             for rule in CURVED if rule in every}
    if not any(looks.values()):
        return []
    lines = []
    for rule, seeds in looks.items():
        cells = []
        for level in LEVELS:
            at = [reached([look["step"] for look in seed], [look["loss"] for look in seed], level, falling=True)
                  for seed in seeds]
            cells.append(f"{spread(at, 0)} ({sum(a == a for a in at)})")
        lines.append([rule, f"{len(seeds)}{lost(every[rule])}", *cells])
    longest = max((seed for seeds in looks.values() for seed in seeds), key=len)
    losses = {rule: [[look["loss"] for look in seed] for seed in seeds] for rule, seeds in looks.items() if seeds}
    figures.curvature([look["step"] for look in longest], losses, os.path.join(out, "curvature.png"))
    return ["Loss on 2,000 training images, every 25 updates; each contender at the learning rate that the search "
            "found for it. -sgd is without momentum. In brackets: seeds that got there. If feedback through an inverse "
            "acted as a second-order step, rf-exact-sgd would need fewer updates than backprop-sgd, and hardly more "
            "than backprop-adam.", "", "![training loss by update](curvature.png)", "",
            *rows(["rule", "seeds", *(f"updates to {level:g}" for level in LEVELS)], lines)]


def loop(found, out):
    """The simulated loop of dynamic inversion against its closed form."""
    some, lines = of(found, "loop", ROBUST), []
    for setting in LOOPS:
        for result in some.get(("ndi", setting), []):
            lines.append([setting, percent(result, 2),
                          *(", ".join(f"{column[0]:.6f}" for column in by_layer([result], key))
                            for key in ("to_closed", "off"))])
    if not lines:
        return []
    return ["One seed; errors of the loop (dt by the rule's own bound, at most 0.5) against those of the closed form, "
            "on the same 64 images and weights, from the lowest layer up.", "",
            *rows(["loop", "test accuracy, %", "cosine to the closed form", "relative distance"], lines)]


SECTIONS = {"Settings found": ("search", search), "Comparison": ("compare", compare),
            "Alignment by depth": ("compare", depth), "Stale feedback": ("stale", stale),
            "Unconverged feedback": ("steps", steps), "Is it a second-order method?": ("curvature", curvature),
            "Dynamic inversion: the loop and its closed form": ("loop", loop)}


# -- the whole --------------------------------------------------------------------------------------------------------

def write_report(found, failed, out, caps):
    """report.md, figures and results.json; returns a line on how much of it there is.

    found {cell: result or None}; failed {cell: its error, the last line}; caps {name of a cap: what it is, or None}
    """
    done = sum(result is not None for result in found.values())
    summary = f"{done} of {len(found)} trainings are finished"
    capped = ", ".join(f"{name} {cap}" for name, cap in caps.items() if cap and cap != name)
    text = ["# Reciprocal (pseudoinverse) feedback", "",
            *([f"**A run with caps, not the study itself: {capped}.**", ""] if capped else []),
            f"Made by `python examples/reciprocal_study.py`; {summary}. Rules are those of `python -m nplearn rules`: "
            f"{', '.join(COMPARED)}. Numbers are mean ± standard deviation over seeds. rf: V learns by one "
            f"recirculation after each update; rf-sleep: by {SLEEP} before the first and after every 50th; rf-exact: V "
            "is the Tikhonov inverse, computed after each update, the reference for both. lam is a tenth of the mean "
            "squared singular value.", ""]
    for title, (part, section) in SECTIONS.items():
        text += [f"## {title}", "", *(section(found, out) or [f"Nothing of `{part}` is finished.", ""])]
    missing = Counter((cell.part, cell.task, cell.rule) for cell, result in found.items() if result is None)
    lists = {"What diverged": [f"{cell.file[:-5]}: {result['diverged']}" for cell, result in found.items()
                               if result and "diverged" in result],
             "What failed, and is tried again next time": [f"{cell.file[:-5]}: {error}"
                                                           for cell, error in failed.items()],
             "What is missing: how many trainings of each": [f"{part}, {task}, {rule}: {n}"
                                                             for (part, task, rule), n in missing.items()]}
    text += ["## What was cut", "", CUT, ""]
    for title, some in lists.items():
        if some or "failed" not in title:               # nothing fails in a sound study
            text += [f"## {title}", "", *([f"- {line}" for line in some] or ["Nothing."]), ""]
    write(os.path.join(out, "report.md"), "\n".join(text))
    write(os.path.join(out, "results.json"), json.dumps([result for result in found.values() if result]))
    return summary


def write(path, text):
    """All of it or nothing: a file that is there is whole."""
    with open(path + ".part", "w") as file:
        file.write(text)
    os.replace(path + ".part", path)

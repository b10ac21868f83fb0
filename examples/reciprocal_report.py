"""The report of reciprocal_study.py: tables and figures from the trainings that are finished, and what is missing."""
import json
import math
import os
import statistics
from collections import Counter

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
)

from nplearn import plots

STYLE = plots.STYLE | {                                 # those of compare_rules, and the rest told apart
    "rf": ("#e41a1c", "-", "D"), "rf-sleep": ("#a50f15", "--", "v"), "rf-exact": ("#fb6a4a", "-.", "s"),
    "ndi": ("#8c510a", "-", "P"), "dtp": ("#4d9221", "--", "h"), "pc": ("#c51b7d", "-", "*"),
    "wm": ("#80cdc1", "--", "p"), "rf-exact-sgd": ("#fb6a4a", ":", "o"), "backprop-sgd": ("#000000", ":", "s"),
    "backprop-adam": ("#888888", "--", "^"), "recirculated": ("#a50f15", "--", "v"), "exact": ("#fb6a4a", "-", "s"),
    "V from zero": ("#e41a1c", "-", "D"), "V from random": ("#0072b2", "--", "o"),
}
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


# -- numbers ----------------------------------------------------------------------------------------------------------

def mean(values):
    values = [v for v in values if v is not None and not math.isnan(v)]
    return statistics.mean(values) if values else math.nan


def spread(values, digits=1, scale=1.0):
    """"mean ± s.d." of a list, "-" where nothing was measured."""
    values = [scale * v for v in values if v is not None and not math.isnan(v)]
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def of(found, part, task):
    """{(rule, setting): finished results by seed} in the order of the plan; what diverged has "diverged"."""
    some = {}
    for cell, result in found.items():
        if result and (cell.part, cell.task) == (part, task):
            some.setdefault((cell.rule, cell.setting), []).append(result)
    return some


def final(result, key="test_accuracy"):
    return math.nan if "diverged" in result else result["history"][-1][key]


def reached(xs, values, level):
    """The first x at which a value is there (>= level), NaN if never."""
    return next((x for x, value in zip(xs, values, strict=True) if value is not None and value >= level), math.nan)


def spent(result):
    """Multiply-adds at the end of each epoch from the first on, in units of 1e12."""
    cost = result["cost"]
    return [(cost["start"] + record["step"] * cost["update"]) / 1e12 for record in result["history"][1:]]


def over(results, *keys):
    """Mean over looks of a training's second half of a layer's measure, by layer: [[per result] per layer]."""
    def one(result, i):
        looks = result["looks"][len(result["looks"]) // 2:]
        return mean([value(look["layers"][i], keys) for look in looks])
    depth = min((len(look["layers"]) for result in results for look in result["looks"]), default=0)
    return [[one(result, i) for result in results] for i in range(depth)]


def value(layer, keys):
    found = layer
    for key in keys:
        found = found[key]
    return found


def rows(header, lines):
    return ["| " + " | ".join(header) + " |", "|---" * len(header) + "|", *("| " + " | ".join(line) + " |"
                                                                           for line in lines), ""]


# -- figures ----------------------------------------------------------------------------------------------------------

def figure(panels, path, title):
    """Panels, two a row: title, xlabel, ylabel, lines {name: (x, [curve of each seed])}; perhaps ylim, log ("x", "xy"),
    ticks (names of the x), dots {name: [(x, y)]} and names (True: at the ends of lines)."""
    plt = plots.pyplot()
    across = min(2, len(panels))
    down = math.ceil(len(panels) / across)
    with plt.rc_context({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
                         "grid.alpha": 0.25, "lines.linewidth": 2, "figure.constrained_layout.use": True}):
        drawing, axes = plt.subplots(down, across, figsize=(7.2 * across, 4.7 * down + 0.8), squeeze=False)
        ends, handles = [], {}
        for axis, panel in zip(axes.flat, panels, strict=False):
            last = []
            for name, (x, series) in panel.get("lines", {}).items():
                middle, deviation = plots.mean_and_spread(series)
                if all(math.isnan(m) for m in middle):
                    continue
                colour, dash, mark = STYLE.get(name) or plots.style(name)
                band = [[m + sign * s for m, s in zip(middle, deviation, strict=True)] for sign in (-1, 1)]
                axis.fill_between(x[:len(middle)], *band, color=colour, alpha=0.15, lw=0)
                axis.plot(x[:len(middle)], middle, color=colour, ls=dash, marker=mark, ms=6, label=name,
                          markevery=max(1, len(middle) // 6))
                last.append((middle[-1], name, colour))
            for name, dots in panel.get("dots", {}).items():
                axis.plot(*zip(*dots, strict=True), STYLE[name][2], color=STYLE[name][0], ms=4, alpha=0.5, label=name)
            for direction in panel.get("log", ""):
                getattr(axis, f"set_{direction}scale")("log")
                low, high = getattr(axis, f"get_{direction}lim")()
                one = getattr(axis, f"{direction}axis")
                one.set_major_locator(plt.LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
                one.set_major_formatter("{x:g}")
                one.set_minor_formatter("")
            if "ticks" not in panel and "x" not in panel.get("log", ""):
                axis.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
            axis.set(title=panel.get("title", ""), xlabel=panel["xlabel"], ylabel=panel["ylabel"])
            if "ticks" in panel:
                axis.set_xticks(range(len(panel["ticks"])), panel["ticks"])
            if "ylim" in panel:
                axis.set_ylim(*panel["ylim"])
            if panel.get("names"):
                ends.append((axis, last))
            drawn, names = axis.get_legend_handles_labels()
            handles = dict(zip(names, drawn, strict=True)) | handles
        for axis in list(axes.flat)[len(panels):]:
            axis.set_axis_off()
        if handles:
            drawing.legend(handles.values(), handles.keys(), loc="outside lower center", frameon=False,
                           ncols=min(6, len(handles)))
        drawing.suptitle(title)
        for axis, last in ends:
            plots.label_ends(axis, last)
        drawing.savefig(path, dpi=150)
        plt.close(drawing)


# -- the parts --------------------------------------------------------------------------------------------------------

def search(found, out):
    """Settings found, on each task."""
    tables, edges = [], []
    for task in TASKS:
        tried = {}
        for (rule, setting), (result, *_) in of(found, "search", task).items():
            tried.setdefault(rule, []).append((0.0 if "diverged" in result else final(result), setting))
        lines = []
        for rule, pairs in tried.items():
            best = max(pairs, key=lambda pair: pair[0])
            rates = sorted({trial["lr"] for trial in CONTENDERS[rule].trials})
            at_edge = float(best[1].partition("=")[2].partition(",")[0]) in (float(f"{rates[0]:.2g}"),
                                                                             float(f"{rates[-1]:.2g}"))
            edges += [f"{rule} on {task}"] * at_edge
            whole = f"{len(pairs)} of {len(CONTENDERS[rule].trials)}"
            lines.append([rule, f"`{CONTENDERS[rule].rule(task, 'α')}`", best[1], f"{100 * best[0]:.1f}",
                          ", ".join(f"{100 * a:.1f}" for a, _ in pairs), whole])
        if lines:
            tables += [f"**{task}**: {TASKS[task].says}", "", *rows(
                ["rule", "made as", "found", "accuracy, %", "of each setting, in order", "tried"], lines)]
    if not tables:
        return []
    note = f"At the end of its range of learning rates: {', '.join(edges)}." if edges else ""
    return [f"Each rule on each task: {len(CONTENDERS['rf'].trials)} settings, chosen by accuracy on the last sixth of "
            f"the training images after {', '.join(f'{t.search} ({n})' for n, t in TASKS.items())} epochs, seed 0. SGD "
            f"with momentum {MOMENTUM}, batches of {BATCH}, decay {DECAY:g} (kp 1e-3: its decay is what aligns it); "
            "contenders of curvature have their own momentum, or Adam.", "", *tables, *([note, ""] if note else [])]


def compare(found, out):
    """Accuracy by epoch and by multiply-adds, on each task."""
    text = []
    for task in TASKS:
        some = {rule: results for (rule, _), results in of(found, "compare", task).items()}
        if not some:
            continue
        reference = some.get("backprop", [])
        level = mean(list(map(final, reference))) - 0.01
        base = mean([result["cost"]["update"] for result in reference])
        lines = []
        for rule in sorted(some, key=lambda rule: order(some[rule])):
            results = some[rule]
            accuracy = [[record["test_accuracy"] for record in result["history"][1:]] for result in results]
            epochs = [reached(range(1, len(a) + 1), a, level) for a in accuracy]
            price = [reached(spent(result), a, level) for result, a in zip(results, accuracy, strict=True)]
            lost = sum("diverged" in result for result in results)
            lines.append([rule + (f" ({lost} diverged)" if lost else ""), str(len(results)),
                          spread(list(map(final, results)), 2, 100),
                          spread([max(a, default=math.nan) for a in accuracy], 2, 100),
                          f"{spread(epochs)} ({sum(e == e for e in epochs)})",
                          f"{mean([result['cost']['update'] for result in results]) / base:.2f}", spread(price, 3)])
        name = f"compare-{task}.png"
        text += [f"### {task}: {TASKS[task].says}", "", f"![accuracy by epoch and by multiply-adds]({name})", "",
                 *draw_compare(some, task, os.path.join(out, name)),
                 *rows(["rule", "seeds", "test accuracy at the end, %", "best epoch, %",
                        f"epochs to {100 * level:.1f} % (seeds that got there)",
                        "multiply-adds of an update / backprop's", "1e12 multiply-adds to that accuracy"], lines)]
    head = ("The level is a point below what backprop ended at. Multiply-adds are counted from an update that is made "
            "(nplearn.metrics.cost), with recirculation, inverses and off-line phases; tests are not counted. One "
            "recirculation sends as many patterns through a layer as it has inputs (each unit alone, at most 2^20 "
            "numbers in all), where a batch is 64.")
    return [head, "", *text] if text else []


def order(results):
    """Best first; what diverged last."""
    accuracy = mean(list(map(final, results)))
    return math.inf if math.isnan(accuracy) else -accuracy


def draw_compare(some, task, path):
    whole = {rule: [[100 * record["test_accuracy"] for record in result["history"][1:]] for result in results
                    if "diverged" not in result] for rule, results in some.items()}
    whole = {rule: series for rule, series in whole.items() if series}
    ends = {rule: mean([curve[-1] for curve in series]) for rule, series in whole.items()}
    best = max(ends.values(), default=100)
    low = min(end for end in [best, *ends.values()] if end > best - 12) - 2
    longest = max((len(curve) for series in whole.values() for curve in series), default=0)
    panel = {"ylabel": "test accuracy, %", "ylim": (low, best + 1), "names": True}
    figure([{**panel, "xlabel": "epoch", "lines": {r: (list(range(1, longest + 1)), s) for r, s in whole.items()}},
            {**panel, "xlabel": "multiply-adds, 1e12", "log": "x",
             "lines": {r: (spent(some[r][0]), s) for r, s in whole.items()}}], path,
           f"{task}, mean ± s.d. over {max(map(len, some.values()))} seeds")
    below = [f"{rule} ({end:.1f} %)" for rule, end in ends.items() if end <= low]
    return [f"Below the figure: {', '.join(below)}.", ""] if below else []


def depth(found, out):
    """Angle of each layer's update to backprop's at the end of compare."""
    panels, text = [], []
    for task in TASKS:
        ends = {rule: [r["history"][-1]["layers"] for r in results if "diverged" not in r]
                for (rule, _), results in of(found, "compare", task).items() if rule != "backprop"}
        angles = {rule: [[layer["gradient_angle"] for layer in run] for run in runs] for rule, runs in ends.items()
                  if runs}
        if not angles:
            continue
        names = [layer["layer"] for layer in ends[next(iter(angles))][0]]
        hidden = range(len(names) - 1)
        text += [f"**{task}**", "", *rows(["rule", *names[:-1]], [
            [rule, *(spread([run[i] for run in runs]) for i in hidden)] for rule, runs in angles.items()])]
        panels.append({"title": task, "xlabel": "layer", "ylabel": "angle to backprop's update, degrees",
                       "ticks": names[:-1], "ylim": (-3, 115), "names": True,
                       "lines": {rule: (list(hidden), [run[:-1] for run in runs])
                                 for rule, runs in angles.items()}})
    if panels:
        figure(panels, os.path.join(out, "depth.png"), "updates after the last epoch, mean ± s.d. over seeds")
        text = ["On 256 training images; the last layer's update is backprop's under every rule.", "",
                "![angle of each layer's update](depth.png)", "", *text]
    return text


def stale(found, out):
    """Feedback that is refreshed seldom."""
    some, kinds = of(found, "stale", ROBUST), {"exact": "rf-exact", "recirculated": "rf-sleep"}
    if not some:
        return []
    lines, accuracy, cosines, dots = [], {}, {}, {}
    for kind, rule in kinds.items():
        for at, refresh in enumerate(STALE):
            results = some.get((rule, refresh))
            if not results:
                continue
            measures = {key: whole(results, key) for key in ("moved", "off", "to_fresh", "to_backprop", "least")}
            lines.append([kind, refresh, spread(list(map(final, results)), 2, 100),
                          *(spread(measures[key], 2, 100) for key in ("moved", "off")),
                          *(spread(measures[key], 3) for key in ("to_fresh", "to_backprop", "least"))])
            accuracy.setdefault(kind, []).append((at, [100 * final(result) for result in results]))
            cosines.setdefault(kind, []).append((at, measures["to_fresh"]))
            dots.setdefault(kind, []).extend(
                (layer["moved"], layer["off"]) for result in results for look in result["looks"]
                for layer in look["layers"] if layer["moved"])
    for rule in "backprop", "fa":
        values = [100 * final(result) for result in some.get((rule, "reference"), [])]
        if values:
            lines.append([rule, "-", spread(values, 2), *"-----"])
            accuracy[rule] = [(at, values) for at in range(len(STALE))]
    figure([{"xlabel": "updates between refreshes", "ylabel": "test accuracy, %", "ticks": STALE, "names": True,
             "lines": across(accuracy)},
            {"xlabel": "updates between refreshes", "ylabel": "cosine of the error to that of fresh feedback",
             "ticks": STALE, "lines": across(cosines)},
            {"xlabel": "relative change of W since the refresh", "ylabel": "relative distance of V from the inverse",
             "log": "xy", "dots": {kind: some for kind, some in dots.items() if some}}][:2 + any(dots.values())],
           os.path.join(out, "stale.png"), f"stale feedback, {ROBUST}, mean ± s.d. over seeds")
    return [f"At the settings of rf-exact; backprop and fa, for reference, at their own. Exact: the Tikhonov inverse, "
            f"computed at each refresh. Recirculated: {SLEEP} recirculations at each refresh, from where V stands. "
            "Never: V of the start. Looked at when feedback is stalest, before every 100th update and an epoch's last; "
            "columns are means over the layers that send and the second half of the training.",
            "", "![stale feedback](stale.png)", "",
            *rows(["feedback", "refresh every", "test accuracy, %", "change of W since, %", *MEASURES], lines)]


def whole(results, key):
    """A measure of each result, over its layers and the second half of its looks."""
    return [mean(column) for column in zip(*over(results, key), strict=True)]


def across(points):
    """{name: [(x, values of seeds)]} as lines of a figure: a curve for each seed, NaN where one is missing."""
    found = {}
    for name, some in points.items():
        seeds = max(len(values) for _, values in some)
        found[name] = [x for x, _ in some], [[values[i] if i < len(values) else math.nan for _, values in some]
                                             for i in range(seeds)]
    return found


def steps(found, out):
    """Feedback that has not converged."""
    some = of(found, "steps", ROBUST)
    if not some:
        return []
    lines, accuracy, off, cosines = [], {}, {}, {}
    for start in ("zero", "random"):
        for k in STEPS:
            results = some.get(("rf", f"{k} {start}"))
            if not results:
                continue
            measures = {key: whole(results, key) for key in ("off", "to_fresh", "to_backprop", "least")}
            lines.append([start, k, spread(list(map(final, results)), 2, 100), spread(measures["off"], 2, 100),
                          *(spread(measures[key], 3) for key in ("to_fresh", "to_backprop", "least"))])
            percent = [100 * final(result) for result in results]
            for points, values in (accuracy, percent), (off, measures["off"]), (cosines, measures["to_backprop"]):
                points.setdefault(f"V from {start}", []).append((float(k), values))
    panel = {"xlabel": "recirculations per update", "log": "x"}
    figure([{**panel, "ylabel": "test accuracy, %", "lines": across(accuracy), "names": True},
            {**panel, "ylabel": "relative distance of V from the inverse", "lines": across(off), "log": "xy"},
            {**panel, "ylabel": "cosine of the error to backprop's", "lines": across(cosines)}],
           os.path.join(out, "steps.png"), f"unconverged feedback, {ROBUST}, mean ± s.d. over seeds")
    return ["Recirculations with one unit active at a time (no noise); 0.1 is one after every tenth update. V goes on "
            "from where it stands. Columns as above.", "",
            "![unconverged feedback](steps.png)", "",
            *rows(["V starts", "recirculations per update", "test accuracy, %", *MEASURES], lines)]


def curvature(found, out):
    """Updates to a training loss."""
    some = {rule: [r for r in results if "diverged" not in r]
            for (rule, _), results in of(found, "curvature", ROBUST).items()}
    some = {rule: some[rule] for rule in CURVED if some.get(rule)}
    if not some:
        return []
    lines = []
    for rule, results in some.items():
        cells = []
        for level in LEVELS:
            at = [reached([look["step"] for look in r["looks"]], [-look["loss"] for look in r["looks"]], -level)
                  for r in results]
            cells.append(f"{spread(at, 0)} ({sum(a == a for a in at)})")
        lines.append([rule, str(len(results)), *cells])
    longest = max((r["looks"] for results in some.values() for r in results), key=len)
    losses = {rule: [[look["loss"] for look in r["looks"]] for r in results] for rule, results in some.items()}
    figure([{"xlabel": "updates", "ylabel": "training loss", "log": log, "names": True, "lines": {
        rule: ([look["step"] for look in longest[first:]], [curve[first:] for curve in curves])
        for rule, curves in losses.items()}} for first, log in enumerate(("y", "xy"))],     # no 0 on a log axis
        os.path.join(out, "curvature.png"),
        f"training loss by update, {ROBUST}, mean ± s.d. over seeds")
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
            cosines, off = over([result], "to_closed"), over([result], "off")
            shown = [", ".join(f"{column[0]:.6f}" for column in columns) for columns in (cosines, off)]
            lines.append([setting, f"{100 * final(result):.2f}", *shown])
    if not lines:
        return []
    return ["One seed; errors of the loop (dt by the rule's own bound, at most 0.5) against those of the closed form, "
            "on the same 64 images and weights, from the lowest layer up.", "",
            *rows(["loop", "test accuracy, %", "cosine to the closed form", "relative distance"], lines)]


# -- the report -------------------------------------------------------------------------------------------------------

SECTIONS = {"Settings found": ("search", search), "Comparison": ("compare", compare),
            "Alignment by depth": ("compare", depth), "Stale feedback": ("stale", stale),
            "Unconverged feedback": ("steps", steps), "Is it a second-order method?": ("curvature", curvature),
            "Dynamic inversion: the loop and its closed form": ("loop", loop)}


def write_report(found, out, caps):
    """report.md, figures and results.json from {cell: result or None}; returns a line on how much of it there is."""
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
    lost = [f"{cell.file[:-5]}: {result['diverged']}" for cell, result in found.items()
            if result and "diverged" in result]
    lines = [f"{part}, {task}, {rule}: {n}" for (part, task, rule), n in missing.items()]
    text += ["## What was cut", "", CUT, ""]
    for title, some in ("What diverged", lost), ("What is missing: how many trainings of each", lines):
        text += [f"## {title}", "", *([f"- {line}" for line in some] or ["Nothing."]), ""]
    write(os.path.join(out, "report.md"), "\n".join(text))
    write(os.path.join(out, "results.json"), json.dumps([result for result in found.values() if result]))
    return summary


def write(path, text):
    with open(path + ".part", "w") as file:
        file.write(text)
    os.replace(path + ".part", path)

"""Figures for the report of reciprocal_study.py: one function for each picture, all drawn by `figure`."""
import math

from reciprocal_cells import ROBUST, STALE
from reciprocal_numbers import accuracies, mean, spent

from nplearn import plots

STYLE = plots.STYLE | {                                 # families of rules meet here, whose own colours are the same
    "rf": ("#e41a1c", "-", "D"), "rf-sleep": ("#a50f15", "--", "v"), "rf-exact": ("#fb6a4a", "-.", "s"),
    "ndi": ("#8c510a", "-", "P"), "dtp": ("#4d9221", "--", "h"), "pc": ("#c51b7d", "-", "*"),
    "wm": ("#80cdc1", "--", "p"),
}
STYLE |= {                                              # what is a variant has the colour of its rule
    "backprop-sgd": (STYLE["backprop"][0], ":", "s"), "backprop-adam": ("#888888", "--", "^"),
    "rf-exact-sgd": (STYLE["rf-exact"][0], ":", "o"), "exact": (STYLE["rf-exact"][0], "-", "s"),
    "recirculated": STYLE["rf-sleep"], "V from zero": STYLE["rf"], "V from random": (STYLE["usf"][0], "--", "o"),
}
LOOK = {"font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
        "lines.linewidth": 2, "figure.constrained_layout.use": True}


def style(name):
    """(colour, dash, mark); of a rule that is not in STYLE those of every other figure."""
    return STYLE.get(name) or plots.style(name)


# -- how all are drawn ------------------------------------------------------------------------------------------------

def figure(panels, path, title):
    """Panels, two a row: title, xlabel, ylabel, lines {name: (x, [curve of each seed])}; perhaps ylim, log ("x", "xy"),
    ticks (names of the x), dots {name: [(x, y)]} and names (True: at the ends of lines)."""
    plt = plots.pyplot()
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    with plt.rc_context(LOOK):
        drawing, axes = plt.subplots(rows, columns, figsize=(7.2 * columns, 4.7 * rows + 0.8), squeeze=False)
        ends, handles = [], {}
        for axis, panel in zip(axes.flat, panels, strict=False):
            last = draw(plt, axis, panel)
            if panel.get("names"):
                ends.append((axis, last))
            drawn, names = axis.get_legend_handles_labels()
            handles = dict(zip(names, drawn, strict=True)) | handles
        for unused in axes.flat[len(panels):]:
            unused.set_axis_off()
        if handles:
            drawing.legend(handles.values(), handles.keys(), loc="outside lower center", frameon=False,
                           ncols=min(6, len(handles)))
        drawing.suptitle(title)
        for axis, last in ends:
            plots.label_ends(axis, last)
        drawing.savefig(path, dpi=150)
        plt.close(drawing)


def draw(plt, axis, panel):
    """One panel; returns [(end of a line, its name, its colour)]."""
    ends = []
    for name, (x, series) in panel.get("lines", {}).items():
        middle, deviation = plots.mean_and_spread(series)
        if all(math.isnan(m) for m in middle):
            continue
        (colour, dash, mark), x = style(name), x[:len(middle)]
        low, high = ([m + sign * s for m, s in zip(middle, deviation, strict=True)] for sign in (-1, 1))
        axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        axis.plot(x, middle, color=colour, ls=dash, marker=mark, ms=6, label=name, markevery=max(1, len(middle) // 6))
        ends.append((middle[-1], name, colour))
    for name, dots in panel.get("dots", {}).items():
        colour, _, mark = style(name)
        axis.plot(*zip(*dots, strict=True), mark, color=colour, ms=4, alpha=0.5, label=name)
    for direction in panel.get("log", ""):
        logarithmic(plt, axis, direction)
    if "ticks" in panel:
        axis.set_xticks(range(len(panel["ticks"])), panel["ticks"])
    elif "x" not in panel.get("log", ""):
        axis.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    axis.set(title=panel.get("title", ""), xlabel=panel["xlabel"], ylabel=panel["ylabel"])
    if "ylim" in panel:
        axis.set_ylim(*panel["ylim"])
    return ends


def logarithmic(plt, axis, direction):
    """A log scale with plain numbers, as many as a short or a long range needs."""
    getattr(axis, f"set_{direction}scale")("log")
    low, high = getattr(axis, f"get_{direction}lim")()
    scale = getattr(axis, f"{direction}axis")
    scale.set_major_locator(plt.LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    scale.set_major_formatter("{x:g}")
    scale.set_minor_formatter("")


def seed_by_seed(points):
    """{name: [(x, values of seeds)]} as lines: a curve for each seed, NaN where one is missing."""
    found = {}
    for name, some in points.items():
        seeds = max(len(values) for _, values in some)
        found[name] = [x for x, _ in some], [[values[i] if i < len(values) else math.nan for _, values in some]
                                             for i in range(seeds)]
    return found


# -- the pictures -----------------------------------------------------------------------------------------------------

def compare(some, task, path):
    """Accuracy by epoch and by multiply-adds of {rule: results}; returns in words which rules end below the figure."""
    curves = {rule: [[100 * a for a in accuracies(result)] for result in results if "diverged" not in result]
              for rule, results in some.items()}
    curves = {rule: series for rule, series in curves.items() if series}
    ends = {rule: mean([curve[-1] for curve in series]) for rule, series in curves.items()}
    best = max(ends.values(), default=100)
    low = min(end for end in [best, *ends.values()] if end > best - 12) - 2
    longest = max((len(curve) for series in curves.values() for curve in series), default=0)
    panel = {"ylabel": "test accuracy, %", "ylim": (low, best + 1), "names": True}
    figure([{**panel, "xlabel": "epoch", "lines": {r: (list(range(1, longest + 1)), s) for r, s in curves.items()}},
            {**panel, "xlabel": "multiply-adds, 1e12", "log": "x",
             "lines": {r: (spent(some[r][0]), s) for r, s in curves.items()}}], path,
           f"{task}, mean ± s.d. over {max(map(len, some.values()))} seeds")
    below = [f"{rule} ({end:.1f} %)" for rule, end in ends.items() if end <= low]
    return [f"Below the figure: {', '.join(below)}.", ""] if below else []


def depth(angles, path):
    """{task: (names of layers, {rule: [angles of a seed, by layer]})}, a panel a task."""
    figure([{"title": task, "xlabel": "layer", "ylabel": "angle to backprop's update, degrees", "ticks": names,
             "ylim": (-3, 115), "names": True,
             "lines": {rule: (list(range(len(names))), series) for rule, series in some.items()}}
            for task, (names, some) in angles.items()],
           path, "updates after the last epoch, mean ± s.d. over seeds")


def stale(accuracy, cosines, dots, path):
    """{kind: [(place in STALE, values of seeds)]} twice, and {kind: [(how far W has moved, how far V is off)]}."""
    dots = {kind: some for kind, some in dots.items() if some}
    panel = {"xlabel": "updates between refreshes", "ticks": STALE}
    figure([{**panel, "ylabel": "test accuracy, %", "names": True, "lines": seed_by_seed(accuracy)},
            {**panel, "ylabel": "cosine of the error to that of fresh feedback", "lines": seed_by_seed(cosines)},
            *([{"xlabel": "relative change of W since the refresh", "ylabel": "relative distance of V from the inverse",
                "log": "xy", "dots": dots}] if dots else [])],
           path, f"stale feedback, {ROBUST}, mean ± s.d. over seeds")


def steps(accuracy, off, cosines, path):
    """{start: [(recirculations, values of seeds)]}, three times."""
    panel = {"xlabel": "recirculations per update", "log": "x"}
    figure([{**panel, "ylabel": "test accuracy, %", "lines": seed_by_seed(accuracy), "names": True},
            {**panel, "ylabel": "relative distance of V from the inverse", "lines": seed_by_seed(off), "log": "xy"},
            {**panel, "ylabel": "cosine of the error to backprop's", "lines": seed_by_seed(cosines)}],
           path, f"unconverged feedback, {ROBUST}, mean ± s.d. over seeds")


def curvature(updates, losses, path):
    """{rule: [loss of a seed at these updates]}, on two scales."""
    figure([{"xlabel": "updates", "ylabel": "training loss", "log": log, "names": True, "lines": {
        rule: (updates[first:], [curve[first:] for curve in curves]) for rule, curves in losses.items()}}
        for first, log in enumerate(("y", "xy"))],      # no 0 on a log axis
        path, f"training loss by update, {ROBUST}, mean ± s.d. over seeds")

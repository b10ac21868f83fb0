"""Figures for a comparison of rules: one colour and one mark a rule everywhere, bands for spread, legible in grey.

Needs the extra `plots` (matplotlib), imported only when a figure is drawn.
"""
import math
import zlib

from nplearn.errors import SettingError
from nplearn.rules import registry

# colour, dash, mark: neighbours in one figure differ in lightness and in mark too, so that a grey print can be read
STYLE = {
    "backprop": ("#000000", "-", "o"),
    "usf": ("#0072b2", "-", "s"),
    "frsf": ("#56b4e9", "--", "D"),
    "brsf": ("#00487a", ":", "v"),
    "fa": ("#d55e00", "-", "^"),
    "dfa": ("#e69f00", "--", "P"),
    "kp": ("#009e73", "-", "X"),
    "pfa": ("#cc79a7", "-", "*"),
    "pfa-o": ("#7b3294", "--", "h"),
    "frozen": ("#777777", (0, (1, 1)), ""),
    "shuffled": ("#aaaaaa", (0, (4, 2, 1, 2)), ""),
}
OTHERS = ("#8c510a", "#01665e", "#c51b7d", "#4d9221", "#542788", "#b35806", "#2166ac", "#b2182b", "#666600")
DASHES, MARKS = ("-", "--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1))), "<>pdH8sD^"


MOST = 14                                               # names in a legend


def style(rule):
    """(colour, dash, mark) of a rule by its short name; the same for every figure and every run.

    With options ("pfa:expand=5") it keeps the colour of its name, and gets a dash and a mark of its own.
    """
    if rule in STYLE:
        return STYLE[rule]
    for family in registry.FAMILIES.values():           # those that share a figure differ
        if rule in family:
            i = [name for name in family if name not in STYLE].index(rule)
            return OTHERS[i % len(OTHERS)], DASHES[i % len(DASHES)], MARKS[i % len(MARKS)]
    name, key = rule.partition(":")[0], zlib.crc32(rule.encode())
    colour = STYLE[name][0] if name in STYLE else OTHERS[zlib.crc32(name.encode()) % len(OTHERS)]
    return colour, DASHES[2 + key % 3], MARKS[key // 3 % 6]


def pyplot():
    """matplotlib without a screen, or a SettingError that says how to install it."""
    try:
        import matplotlib
    except ImportError as error:
        raise SettingError("plots", "matplotlib is not installed", "the extra 'plots'",
                           "pip install -e '.[plots]' (in a checkout) or pip install 'nplearn[plots]'") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    return plt


def mean_and_spread(series):
    """Curves of several seeds -> (mean, standard deviation) per point, over those that are numbers there."""
    means, spreads = [], []
    for point in zip(*series, strict=False):
        values = [v for v in point if v is not None and not math.isnan(v)]
        mean = sum(values) / len(values) if values else math.nan
        means.append(mean)
        spreads.append((sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else 0.0)
    return means, spreads


def curves(panels, path, title="", columns=None):
    """Draw panels of curves side by side, or in so many columns, and write the figure to `path` (PNG).

    panels  list of dicts: title, xlabel, ylabel, series {rule: [curve of seed 0, curve of seed 1, ...]}, x (list),
            and perhaps ylim, names (False: no names at the ends of curves)
    """
    plt = pyplot()
    with plt.rc_context({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
                         "grid.alpha": 0.25, "lines.linewidth": 2, "figure.constrained_layout.use": True}):
        across = columns or len(panels)
        down = -(-len(panels) // across)
        figure, axes = plt.subplots(down, across, figsize=(7.2 * across, 5.2 * down), squeeze=False)
        for unused in axes.flat[len(panels):]:
            unused.set_axis_off()
        labels = []
        for axis, panel in zip(axes.flat, panels, strict=False):
            ends = []
            for rule, series in panel["series"].items():
                mean, spread = mean_and_spread(series)
                if all(math.isnan(v) for v in mean):
                    continue
                colour, dash, mark = style(rule)
                x = panel["x"][:len(mean)]
                axis.fill_between(x, [m - s for m, s in zip(mean, spread, strict=True)],
                                  [m + s for m, s in zip(mean, spread, strict=True)], color=colour, alpha=0.15, lw=0)
                axis.plot(x, mean, color=colour, ls=dash, marker=mark, markevery=max(1, len(x) // 6), ms=7, label=rule)
                ends.append((mean[-1], rule, colour))
            axis.set(title=panel.get("title", ""), xlabel=panel["xlabel"], ylabel=panel["ylabel"])
            axis.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
            if "ylim" in panel:
                axis.set_ylim(*panel["ylim"])
            labels.append((axis, ends if panel.get("names", True) else []))
        handles = {}
        for axis in axes.flat:
            drawn, names = axis.get_legend_handles_labels()
            handles |= dict(zip(names, drawn, strict=True))
        if handles and len(handles) <= MOST:            # of more, the names at the ends of curves must do
            figure.legend(handles.values(), handles.keys(), loc="outside lower center", frameon=False,
                          ncols=min(4 if len(panels) == 1 else 6, len(handles)))
        if title:
            figure.suptitle(title)
        for axis, ends in labels:
            label_ends(axis, ends)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def label_ends(axis, ends):
    """Each curve's name at the right edge, at the height of its end; moved apart where names would meet.

    A curve that ends outside the axis has no name there.
    """
    axis.figure.canvas.draw()
    low, high = axis.get_ylim()
    ends = sorted((end for end in ends if low <= end[0] <= high), key=lambda end: end[0])
    gap = 14 / 72 * axis.figure.dpi / axis.get_window_extent().height
    heights, least, most = [], 0.0, 1.0
    for value, _, _ in ends:                            # in shares of the axis, so that a change of layout moves all
        at = axis.transAxes.inverted().transform(axis.transData.transform((0, value)))[1]
        heights.append(max(at, least))
        least = heights[-1] + gap
    for i in reversed(range(len(ends))):
        heights[i] = min(heights[i], most)
        most = heights[i] - gap
    for (_, rule, colour), at in zip(ends, heights, strict=True):
        axis.annotate(rule, xy=(1, at), xycoords="axes fraction", xytext=(4, 0), textcoords="offset points",
                      color=colour, va="center", fontsize=11, annotation_clip=False)

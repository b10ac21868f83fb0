"""How the cost of a training step grows with batch, width, depth, map and channels: time against operation count.

If the work alone decides, the points of a series lie on a line of slope 1 in log-log axes. A lower slope at the small
end is what a step costs beside its work; a higher one would be a cost that grows faster than the work.
"""
from typing import NamedTuple

import numpy as np
from benchmark_ours import whole_step
from benchmark_race import Candidate, race

from nplearn.layers import Conv2d, Dense, GlobalAvgPool, ReLU, Sequential
from nplearn.nets import mlp
from nplearn.plots import pyplot

COLOUR = "#0072b2"


class Series(NamedTuple):
    """grows, of  what is said of it        sizes  its points        make  size -> (net, shape, batch)"""

    grows: str
    of: str
    sizes: tuple
    make: object


def maps(channels):
    return Sequential(Conv2d(channels, 3), ReLU(), Conv2d(channels, 3), ReLU(), GlobalAvgPool(), Dense(10))


SERIES = (
    Series("batch", "784-500-500-10", (16, 32, 64, 128, 256, 512, 1024), lambda n: (mlp(10, (500, 500)), (784,), n)),
    Series("width", "n-n-n-10, batch 128", (128, 256, 512, 1024, 2048), lambda n: (mlp(10, (n, n)), (n,), 128)),
    Series("depth", "layers of 512, batch 128", (2, 4, 8, 16, 32), lambda n: (mlp(10, (512,) * n), (512,), 128)),
    Series("batch", "two 3x3 layers, 16 channels, 32x32", (8, 16, 32, 64, 128, 256),
           lambda n: (maps(16), (32, 32, 16), n)),
    Series("side of the map", "two 3x3 layers, 32 channels, batch 32", (8, 16, 24, 32, 48, 64),
           lambda n: (maps(32), (n, n, 32), 32)),
    Series("channels", "two 3x3 layers, 16x16, batch 32", (8, 16, 32, 64, 128), lambda n: (maps(n), (16, 16, n), 32)),
)


def point(series, size, threads):
    """(step, multiply-adds) of one point of SERIES[series]."""
    net, shape, batch = SERIES[series].make(size)
    return whole_step(net.build(shape, seed=0), [batch], threads=threads)


def slope(work, seconds):
    """Of the straight line through log(seconds) over log(work), by least squares."""
    return float(np.polyfit(np.log(work), np.log(seconds), 1)[0])


def measure(rounds, threads, patience):
    """[{grows, of, sizes, multiply_adds, ms, slope}]; the points of a series take turns. Prints as it goes."""
    found = []
    for i, series in enumerate(SERIES):
        racers = [Candidate("growth", str(i), str(size)) for size in series.sizes]
        timings = race(racers, rounds, threads, patience).timings
        work, seconds = [timings[c].work for c in racers], [timings[c].best for c in racers]
        found.append({"grows": series.grows, "of": series.of, "sizes": list(series.sizes), "multiply_adds": work,
                      "ms": [1e3 * s for s in seconds], "slope": slope(work, seconds)})
        print(f"{series.grows}, {series.of}: slope {found[-1]['slope']:.2f}")
        for size, m, s in zip(series.sizes, work, seconds, strict=True):
            print(f"    {size:5d}  {m / 1e6:9.1f} million multiply-adds {1e3 * s:9.3f} ms {2e-9 * m / s:6.1f} Gflop/s",
                  flush=True)
    return found


def draw(found, path):
    """The figure: a panel a series, its points, and the line of slope 1 through the largest; a decade is a decade."""
    plt = pyplot()
    with plt.rc_context({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
                         "grid.alpha": 0.25, "lines.linewidth": 2, "figure.constrained_layout.use": True}):
        figure, axes = plt.subplots(-(-len(found) // 3), 3, figsize=(16, 5.6 * -(-len(found) // 3)), squeeze=False)
        for axis, one in zip(axes.flat, found, strict=False):
            work, ms = np.array(one["multiply_adds"]) / 1e6, np.array(one["ms"])
            axis.plot(work, ms[-1] * work / work[-1], color="#777777", ls="--", lw=1.5, label="slope 1, the work's own")
            axis.plot(work, ms, color=COLOUR, marker="o", ms=8, lw=0, label="measured")
            for size, x, y in zip(one["sizes"], work, ms, strict=True):
                axis.annotate(size, (x, y), xytext=(-9, 5), textcoords="offset points", ha="right", color=COLOUR,
                              bbox={"fc": "white", "ec": "none", "pad": 1, "alpha": 0.8})
            axis.set(title=f"{one['grows']}: slope {one['slope']:.2f}\n{one['of']}", xscale="log", yscale="log",
                     xlabel="multiply-adds of a step, millions", ylabel="time of a step, ms")
            axis.margins(0.15)
            axis.set_aspect("equal", adjustable="datalim")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
            axis.legend(loc="upper left", frameon=False, fontsize=11)
        for axis in axes.flat[len(found):]:
            axis.remove()
        figure.savefig(path, dpi=150)
        plt.close(figure)

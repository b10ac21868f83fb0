"""Numbers for the report of reciprocal_study.py: from the results of finished trainings to means, levels, spreads."""
import math
import statistics


def of(found, part, task):
    """{(rule, setting): finished results by seed} in the order of the plan; what diverged has "diverged"."""
    some = {}
    for cell, result in found.items():
        if result and (cell.part, cell.task) == (part, task):
            some.setdefault((cell.rule, cell.setting), []).append(result)
    return some


def numbers(values):
    return [v for v in values if v is not None and not math.isnan(v)]


def mean(values):
    """Of those that are numbers; NaN of none."""
    values = numbers(values)
    return statistics.mean(values) if values else math.nan


def spread(values, digits=1, scale=1.0):
    """"mean ± s.d." of a list, "-" where nothing was measured."""
    values = [scale * v for v in numbers(values)]
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def lost(results):
    """" (2 diverged)", or "" where none did."""
    n = sum("diverged" in result for result in results)
    return f" ({n} diverged)" if n else ""


def final(result):
    """Test accuracy after the last epoch, NaN of what diverged."""
    return math.nan if "diverged" in result else result["history"][-1]["test_accuracy"]


def score(result):
    """Accuracy after the last epoch, by which the search chooses; what diverged is worth nothing."""
    return 0.0 if "diverged" in result else final(result)


def finals(results):
    return [final(result) for result in results]


def percent(result, digits=1):
    return "diverged" if "diverged" in result else f"{100 * final(result):.{digits}f}"


def order(results):
    """Best first; what diverged last."""
    accuracy = mean(finals(results))
    return math.inf if math.isnan(accuracy) else -accuracy


def accuracies(result):
    """Test accuracy after each epoch."""
    return [record["test_accuracy"] for record in result["history"][1:]]


def reached(xs, values, level, falling=False):
    """The first x at which a value has risen (or fallen) to the level, NaN if none has."""
    sign = -1 if falling else 1
    return next((x for x, value in zip(xs, values, strict=True) if value is not None and sign * value >= sign * level),
                math.nan)


def spent(result):
    """Multiply-adds at the end of each epoch from the first on, in units of 1e12."""
    cost = result["cost"]
    return [(cost["start"] + record["step"] * cost["update"]) / 1e12 for record in result["history"][1:]]


def by_layer(results, key):
    """What was looked at, mean over the second half of a training's looks: [[per result] per layer]."""
    def one(result, i):
        looks = result["looks"][len(result["looks"]) // 2:]
        return mean([look["layers"][i][key] for look in looks])
    depth = min((len(look["layers"]) for result in results for look in result["looks"]), default=0)
    return [[one(result, i) for result in results] for i in range(depth)]


def by_result(results, key):
    """The same, mean over layers: [per result]."""
    return [mean(column) for column in zip(*by_layer(results, key), strict=True)]

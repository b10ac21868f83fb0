"""Train the same net under each rule, several seeds, and say what each rule reached and how far it is from backprop.

    python examples/compare_rules.py                         nine rules and two controls
    python examples/compare_rules.py --rules all --seeds 1   every rule there is
    python examples/compare_rules.py --rules backprop,fa,pfa:expand=5 --seeds 5 --epochs 20 --out runs/mine
    python examples/compare_rules.py --data cifar-10 --net lenet --resume

Weights start the same and batches come in the same order under every rule; only the feedback differs. Rules get the
same learning rate under SGD, unless they were published to live elsewhere: such a rule brings its own optimiser, loss,
nonlinearity or net (`home` on its page), and those that relax take fewer steps here than there (HERE below). Rules
whose feedback learns with W's gradient (kp, pfa, pfa-o) get a high decay in the first epochs, as published, since it is
the decay that makes their feedback forget its random start. Those that mirror (wm, ia, sa, aa) get a quarter of --lr:
they start as feedback alignment, whose loss jumps at 0.02, and would run apart before they have learned; ia, sa and aa
besides a thousand times their published constants, which are for a hundred times as many updates. Two controls stand
beside the rules: hidden layers frozen, and backprop whose signal goes to the wrong samples. Written to --out: table.md,
results.json (all histories, per layer), accuracy.png, angles.png. Ctrl-C keeps what is finished; --resume goes on, to
more --epochs too. A rule that refuses the net or diverges is left out, and named with the reason.
"""
import argparse
import json
import math
import os
import statistics
from dataclasses import asdict

from tqdm import tqdm

from nplearn import plots
from nplearn.cli import guarded
from nplearn.data import load
from nplearn.errors import BuildError, SettingError, TrainingError
from nplearn.metrics import cost, held
from nplearn.nets import NETS
from nplearn.rules import registry
from nplearn.runs import Settings, pick

USUAL = "backprop,fa,dfa,usf,brsf,frsf,kp,pfa,pfa-o,frozen,shuffled"
CALM = "wm", "ia", "sa", "aa"                           # at a quarter of --lr: see above
HIDDEN = {"mlp": {"hidden": [256, 256]}, "ff": {"hidden": [256, 256]}, "vector": {"hidden": [128, 128]},
          "square": {"widths": [256, 256, 256]}}
HERE = {                                                # options of some rules, unless others are given
    "ia": "amp=2,null=0.1,decay=1,noise=1", "sa": "decay=1,self_=2", "aa": "sparse=1,amp=2,noise=1",
    "ep": "free_steps=20,nudged_steps=6", "fpa": "steps=10", "di": "steps=30",
    **dict.fromkeys(("pc", "pc-fa", "pc-kp", "pc-rf"), "steps=10"),
}

OURS = ("done.json", "log.jsonl", "checkpoint.npz", "checkpoint.npz.previous")      # what a training's folder holds


def settings_for(rule, seed, options):
    """The settings of one training: the same for all rules, as far as they are not at home elsewhere."""
    name, home = rule.partition(":")[0], registry.make(rule).home
    net = options.net or home.get("net", "mlp")
    own = {} if "lr" in home else {"lr": options.lr / 4 if name in CALM else options.lr}
    return Settings.for_rule(f"{rule}:{HERE[rule]}" if rule in HERE else rule, net=net, data=options.data,
                             epochs=options.epochs, seed=seed, device=options.device,
                             net_options=HIDDEN.get(net, {}), **own)


def cost_of(trainer):
    """What an update costs, in plain numbers: multiply-adds, numbers the rule keeps, bytes a step holds at once."""
    if trainer.net.device.name != "cpu":
        return {}
    inputs, labels = next(iter(trainer.train.epoch(0)))
    step = trainer.net, trainer.rule, trainer.loss, inputs, labels
    return {"multiply_adds": cost(*step, steps=10).total.multiply_adds / 10, "held": held(*step),
            "parameters": sum(array.size for array in trainer.rule.arrays().values())}


def train(settings, data, folder, bar, resume):
    """One training, or its result where it is finished already; returns {settings, history, memory}."""
    done, described = os.path.join(folder, "done.json"), json.loads(json.dumps(asdict(settings)))
    if resume and os.path.exists(done):
        with open(done) as file:
            result = json.load(file)
        theirs = result["settings"]
        other = [name for name in described if described[name] != theirs.get(name)]
        if other and (other != ["epochs"] or described["epochs"] < theirs["epochs"]):
            raise SettingError("--resume", f"other settings in {done}: " + ", ".join(
                f"{name} {theirs.get(name)}, here {described[name]}" for name in other), "those of the first run, or "
                "more epochs", "give the same options, or another --out")
        if not other:
            bar.update(math.ceil(len(data[0]) / settings.batch) * settings.epochs)
            return result
    for old in OURS if not resume else ():
        if os.path.exists(os.path.join(folder, old)):
            os.remove(os.path.join(folder, old))
    trainer = settings.trainer(data, folder=folder, bar=bar, label=f"{settings.rule} seed {settings.seed}")
    found = cost_of(trainer)
    history = trainer.fit(settings.epochs, resume=resume)
    result = {"settings": described, "history": history, "memory": trainer.rule.memory(), "cost": found}
    write(done, json.dumps(result))
    return result


def refusal(settings, data):
    """The error with which the rule refuses net or options before any training, or None."""
    try:
        settings.trainer(data)
    except (BuildError, TrainingError) as error:
        return error
    return None


def hidden(record, key):
    """Mean of a measure over the layers whose gradient the rule decides (all but the last)."""
    values = [layer[key] for layer in record["layers"][:-1]]
    return mean(values)


def feedback(record, key):
    """Mean of a measure over the layers that send through feedback of a weight's shape."""
    return mean([layer[key] for layer in record["layers"] if layer["sends"]])


def mean(values):
    values = [v for v in values if v is not None and not math.isnan(v)]
    return sum(values) / len(values) if values else math.nan


def spread(values, digits, scale=1.0):
    """"mean ± standard deviation" of a list, or "-" where nothing was measured."""
    values = [scale * v for v in values if v is not None and not math.isnan(v)]
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def table(results):
    """Markdown, best first: results is {rule: [result of each finished seed]}."""
    def final(rule, f):
        return [f(result["history"][-1]) for result in results[rule]]

    def step(rule):                                     # the quietest epoch; one resumed at its end has no time
        times = [r["step_ms"] for result in results[rule] for r in result["history"][1:] if r["step_ms"] is not None]
        return min(times, default=math.nan)
    def beside(rule, key):                              # over backprop's
        mine, theirs = (results[r][0]["cost"].get(key) for r in (rule, "backprop")) if "backprop" in results else (0, 0)
        return f"{mine / theirs:.2f}" if mine and theirs else "-"
    reference = step("backprop") if "backprop" in results else math.nan
    order = sorted(results, key=lambda rule: -statistics.mean(final(rule, lambda r: r["test_accuracy"])))
    lines = ["| rule | test accuracy, % | update to backprop's, degrees | weight or path angle, degrees | norm ratio "
             "| multiply-adds / backprop | step time / backprop | numbers kept besides W, thousands "
             "| held in a step / backprop |", "|---|---|---|---|---|---|---|---|---|"]
    for rule in order:
        name = f"{rule} (control)" if rule in registry.CONTROLS else rule
        ratio = step(rule) / reference
        lines.append(f"| {name} | {spread(final(rule, lambda r: r['test_accuracy']), 1, 100)} "
                     f"| {spread(final(rule, lambda r: hidden(r, 'gradient_angle')), 1)} "
                     f"| {spread(final(rule, lambda r: feedback(r, 'weight_angle')), 1)} "
                     f"| {spread(final(rule, lambda r: feedback(r, 'norm_ratio')), 2)} "
                     f"| {beside(rule, 'multiply_adds')} | {'-' if math.isnan(ratio) else f'{ratio:.2f}'} "
                     f"| {results[rule][0]['cost'].get('parameters', 0) / 1e3:.0f} | {beside(rule, 'held')} |")
    return "\n".join(lines)


def last_move(runs):
    """How far accuracy moved in the last epoch, in points, the mean of a rule's runs; 0 before the fourth."""
    ends = [[record["test_accuracy"] for record in run["history"][-2:]] for run in runs if len(run["history"]) > 4]
    return 100 * mean([abs(last - before) for before, last in ends]) if ends else 0


def draw(results, out, what):
    """accuracy.png and angles.png."""
    epochs = [record["epoch"] for record in next(iter(results.values()))[0]["history"]]

    def series(f):
        return {rule: [[f(record) for record in result["history"]] for result in finished]
                for rule, finished in results.items()}
    accuracy = series(lambda r: 100 * r["test_accuracy"])
    if len(results) > plots.MOST:                       # a panel for each family, backprop and a control in all
        update = series(lambda r: hidden(r, "gradient_angle"))
        for name, measured, label, ylim in (("accuracy", accuracy, "test accuracy, %", (50, 97)),
                                            ("angles", update, "angle to backprop's update, degrees", (-3, 110))):
            panels = [{"x": epochs, "xlabel": "epoch", "ylabel": label, "ylim": ylim, "title": title, "series": {
                rule: runs for rule, runs in measured.items()
                if rule.partition(":")[0] in (*family, "backprop", "frozen")}}
                for title, family in registry.FAMILIES.items()]
            plots.curves(panels, os.path.join(out, f"{name}.png"), title=what, columns=3)
        return
    ends = [mean([run[-1] for run in runs]) for rule, runs in accuracy.items() if rule not in registry.CONTROLS]
    whole = {"x": epochs, "xlabel": "epoch", "ylabel": "test accuracy, %", "series": accuracy, "ylim": (0, 100),
             "names": False}
    near = {**whole, "title": "nearer", "names": True, "ylim": (min(ends, default=0) - 5, max(ends, default=99) + 1)}
    plots.curves([whole, near], os.path.join(out, "accuracy.png"), title=what)
    plots.curves([{"x": epochs, "xlabel": "epoch", "ylabel": "angle to backprop's update, degrees", "ylim": (-3, 110),
                   "title": "update of the hidden layers", "series": series(lambda r: hidden(r, "gradient_angle"))},
                  {"x": epochs, "xlabel": "epoch", "ylabel": "angle of feedback to W, degrees", "ylim": (-3, 110),
                   "title": "feedback (weight or path)", "series": series(lambda r: feedback(r, "weight_angle"))}],
                 os.path.join(out, "angles.png"), title=what)


def write(path, text):
    with open(path + ".part", "w") as file:
        file.write(text)
    os.replace(path + ".part", path)


def report(results, out, options, data, figures):
    """All files of --out from what is finished; returns the table."""
    text = table(results)
    write(os.path.join(out, "table.md"), text + "\n")
    found = {"name": data[0].name, "source": data[0].source, "records": list(map(len, data))}
    runs = [{"rule": rule, **result} for rule, finished in results.items() for result in finished]
    write(os.path.join(out, "results.json"), json.dumps({"options": vars(options), "data": found, "runs": runs}))
    if figures:
        seeds = f"mean ± s.d. over {options.seeds} seeds" if options.seeds > 1 else "one seed"
        draw(results, out, f"{data[0].name}, {options.net or 'each rule at home'}, {seeds}")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist5k", help="mnist5k, mnist, fashion-mnist, cifar-10, or a path")
    parser.add_argument("--data-dir", help="where to look for the data set first")
    parser.add_argument("--net", help=f"{', '.join(NETS)} (default: mlp, or where the rule is at home)")
    parser.add_argument("--rules", default=USUAL, help=f"all, or some of {','.join(registry.names(controls=True))} "
                                                       "(default %(default)s)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N-1")
    parser.add_argument("--lr", type=float, default=0.02,
                        help="learning rate of rules that bring none of their own (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, gpu or gpu:N")
    parser.add_argument("--out", default="runs/compare_rules")
    parser.add_argument("--resume", action="store_true", help="keep finished trainings in --out and go on")
    parser.add_argument("--overwrite", action="store_true", help="make the comparison in --out anew")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args()
    asked = [rule.strip() for rule in registry.split(options.rules)]
    rules = list(dict.fromkeys(rule for name in asked
                               for rule in (registry.names(controls=True) if name == "all" else [name])))
    pick("net", options.net or "mlp", NETS)
    for rule in rules:
        registry.make(rule)                             # a misspelt name should fail now
    plots.pyplot()                                      # and so should a missing matplotlib
    for name in ("epochs", "seeds"):
        if getattr(options, name) < 1:
            raise SettingError(f"--{name}", f"{getattr(options, name)}", "1 or more", "ask for some")
    data = load(options.data, options.data_dir)
    print(f"{data[0].name} from {data[0].source}: {len(data[0])} training and {len(data[1])} test records")
    os.makedirs(options.out, exist_ok=True)
    if not (options.resume or options.overwrite) and os.path.exists(os.path.join(options.out, "results.json")):
        raise SettingError("--out", f"{options.out}, which holds a comparison", "--resume to go on with it or "
                           "--overwrite to make it anew", "give one of them, or another --out")
    left_out = {rule: why for rule in rules if (why := refusal(settings_for(rule, 0, options), data))}
    results, batch, rules = {}, Settings().batch, [rule for rule in rules if rule not in left_out]
    total = len(rules) * options.seeds * options.epochs * math.ceil(len(data[0]) / batch)
    try:
        with tqdm(total=total, unit="step", dynamic_ncols=True, smoothing=0.05) as bar:
            for seed in range(options.seeds):           # seeds outside, so that a short stop has every rule once
                for rule in rules:
                    folder = os.path.join(options.out, "runs", f"{rule.replace(':', '_').replace(',', '_')}-{seed}")
                    os.makedirs(folder, exist_ok=True)
                    if rule in left_out:
                        continue
                    try:
                        results.setdefault(rule, []).append(
                            train(settings_for(rule, seed, options), data, folder, bar, options.resume))
                    except TrainingError as error:      # one rule that diverges should not stop the others
                        left_out[rule] = error
                        del results[rule]
                        continue
                    report({r: f for r, f in results.items() if f}, options.out, options, data, figures=False)
    except KeyboardInterrupt:
        finished = {rule: runs for rule, runs in results.items() if runs}
        if finished:
            report(finished, options.out, options, data, figures=True)
        print(f"\n{sum(map(len, finished.values()))} of {len(rules) * options.seeds} trainings are finished and stand "
              f"in {options.out}; go on with the same command and --resume")
        raise
    for rule, error in left_out.items():
        print(f"{rule} is not in the table: {error}")
    if not results:
        raise next(iter(left_out.values()))
    print(report(results, options.out, options, data, figures=True))
    if "backprop" not in results:
        print("\nWithout backprop among --rules there is nothing to divide by: columns over backprop's are empty.")
    if moving := {rule: move for rule, runs in results.items() if (move := last_move(runs)) > 2}:
        print("\nNot at rest, so that another epoch may turn the order (points between the last two epochs): "
              + ", ".join(f"{rule} {move:.1f}" for rule, move in moving.items()))
    print(f"\nmean ± standard deviation over {options.seeds} seed(s) after {options.epochs} epochs; update angle: mean "
          f"over hidden layers.\nWritten to {options.out}: table.md, results.json, accuracy.png, angles.png")


if __name__ == "__main__":
    guarded(main)

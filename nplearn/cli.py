"""The command line: python -m nplearn rules | scope | train | evaluate.

Every error is one line and exit status 2; `--debug` shows where it was raised.
"""
import argparse
import inspect
import json
import os
import sys
import textwrap
import traceback

import numpy as np

from nplearn import checkpoint
from nplearn.columns import outside
from nplearn.data import Loader, load
from nplearn.errors import CheckpointError, NplearnError, SettingError
from nplearn.feedback import Cut
from nplearn.kernels.threads import use_threads
from nplearn.layers import Weighted, laned, leaves
from nplearn.layers.initial import LAWS
from nplearn.metrics import evaluate
from nplearn.nets import NETS
from nplearn.nets.mlp import ACTIVATIONS
from nplearn.resume import copy_into, net_arrays
from nplearn.rules import EXACT_TOP, registry
from nplearn.runs import LOSSES, OPTIMISERS, Settings, pick

SIZES = {**dict.fromkeys(("mnist5k", "mnist", "fashion-mnist"), (28, 28, 1)), "cifar-10": (32, 32, 3)}


def main(argv=None):
    return guarded(lambda: run(argv), argv)


def guarded(function, argv=None):
    """Run a program's main function: an error in what it was given becomes one line and status 2, Ctrl-C status 130."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):     # a diverging loss has its own error
            function()
        return _leave(0, argv)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return _leave(130, argv)
    except BrokenPipeError:                             # the reader (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _leave(0, argv)
    except (NplearnError, OSError) as error:
        if "--debug" in arguments:
            traceback.print_exc()
        said = error if isinstance(error, NplearnError) else NplearnError(
            error.filename or "a file", error.strerror or error, "a place to read and write", "choose another")
        print(f"error: {said}", file=sys.stderr)
        return _leave(2, argv)


def _leave(status, argv):
    if argv is None:
        sys.exit(status)
    return status


def run(argv):
    parser = argparse.ArgumentParser(prog="python -m nplearn",
                                     description="Credit assignment, read, changed and measured.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in {"rules": rules, "scope": scope, "train": train, "evaluate": evaluate_command}.items():
        sub = commands.add_parser(name, help=function.__doc__.split("\n")[0], description=function.__doc__)
        ARGUMENTS[name](sub)
        sub.add_argument("--debug", action="store_true", help="show a traceback with an error")
        sub.set_defaults(function=function)
    options = parser.parse_args(argv)
    options.function(options)


# -- rules ------------------------------------------------------------------------------------------------------------

def rules(options):
    """List every rule: its short name, idea, paper, what its feedback keeps and who learns when; or the page of one."""
    if options.rule:
        return page(options.rule)
    header = ("name", "idea", "paper", "feedback keeps", "who learns when")
    lines = []
    for name in registry.names(controls=True):
        try:
            rule = registry.make(name)
        except NplearnError as error:                   # another package's rule should not hide ours
            lines.append((name, f"cannot be made: {error}", "-", "-", "-"))
            continue
        made = ", ".join(f"{key} {value}" for key, value in registry.options_of(name).items())
        lines.append((name, rule.idea + (f" ({made})" if made else ""), rule.paper, rule.keeps, rule.learns_when))
    print(table(header, lines, widths=(16, 42, 22, 18, 26)))
    print("\nOptions follow a colon, as in pfa:expand=5,density=0.3; python -m nplearn rules NAME tells a rule's.")


def page(name):
    """Print what there is to know of a rule: its module's docstring, options, claims, home and file."""
    rule, module = registry.make(name), sys.modules[type(registry.make(name)).__module__]
    lines = {"class": type(rule).__name__, "file": module.__file__,
             "options": ", ".join(f"{key}={json.dumps(value, default=str)}"
                                  for key, value in registry.takes(name.partition(":")[0]).items()) or "none",
             "claims": ", ".join(sorted(rule.claims)) or "nothing",
             "settings at home": ", ".join(f"{key} {value}" for key, value in rule.home.items()) or "the usual ones"}
    print(inspect.getdoc(module) or rule.idea, "", *(f"{key}: {said}" for key, said in lines.items()), sep="\n")
    if doc := vars(type(rule)).get("__doc__"):
        print(f"\n{inspect.cleandoc(doc)}")


def table(header, lines, widths):
    """A plain text table whose cells are wrapped to their column's width."""
    rows = []
    for line in (header, *lines):
        cells = [textwrap.wrap(str(cell), width) or [""] for cell, width in zip(line, widths, strict=True)]
        for i in range(max(map(len, cells))):
            rows.append("  ".join((cell[i] if i < len(cell) else "").ljust(width)
                                  for cell, width in zip(cells, widths, strict=True)).rstrip())
        if line is header:
            rows.append("  ".join("-" * width for width in widths))
    return "\n".join(rows)


# -- scope ------------------------------------------------------------------------------------------------------------

def scope(options):
    """Say for each layer which signal is the rule's, which stays exact backprop, and where nothing is sent."""
    in_shape = pick("data", options.data, SIZES)
    given = {} if options.net is None else {"net": options.net}
    settings = Settings.for_rule(options.rule, **given)
    net = settings.build(in_shape, 10)
    rule = registry.make(options.rule).attach(net, 0)
    lines = [(layer.path, type(layer).__name__, "x".join(map(str, outside(layer.out_shape))), signal(layer, rule))
             for layer in leaves(net)]
    paper = f" ({rule.paper})" if rule.paper else ""
    print(f"{settings.net} for inputs {'x'.join(map(str, in_shape))} under {options.rule}{paper}: "
          "what each layer sends to the one below\n")
    print(table(("layer", "kind", "output", "error at its input comes from"), reversed(lines),
                (max(len(line[0]) for line in lines), 18, 12, 62)))
    top = "The last layer's delta is the loss's own. " if EXACT_TOP in rule.claims else ""
    print(f"\n{top}Feedback needs {rule.memory() / 2**20:.2f} MiB besides W.")


def signal(layer, rule):
    """In words, what takes the error from this layer's output to its input."""
    feedback = getattr(layer, "feedback", None)
    if rule.walk and layer.sends and isinstance(layer, Weighted):
        by = "" if isinstance(feedback, Cut) else f" {feedback.says}"
        return f"the rule: {rule.walk}{by}"
    if not layer.sends:
        learns = feedback is not None and feedback.params()
        return f"none: no parameters below{', its feedback learns and drives nothing' if learns else ''}"
    if feedback is None:
        return "exact backprop of what arrives: its own derivative"
    ours = feedback.says.startswith(("exact", "none"))
    return feedback.says if ours else f"the rule: {feedback.says}"


# -- train and evaluate -----------------------------------------------------------------------------------------------

def train(options):
    """Train one net under one rule; log, checkpoint and exact resume in the folder --out.

    A rule that needs a net, a loss or a learning rate of its own kind brings it, unless another is given.
    """
    chosen = {name: value for name, value in vars(options).items() if name in Settings.__dataclass_fields__}
    rule = chosen.pop("rule")
    registry.make(rule)                                 # a misspelt name should not wait for the data
    of_mlp = {name: getattr(options, name) for name in ("hidden", "activation", "init") if getattr(options, name)}
    if of_mlp and chosen.get("net", "mlp") != "mlp":
        raise SettingError(f"--{next(iter(of_mlp))}", f"net {options.net}", "mlp", "leave it out")
    if options.hidden and min(options.hidden) < 1:
        raise SettingError("--hidden", f"{options.hidden}", "widths of 1 or more", "change them")
    chosen["net_options"] = of_mlp
    settings = Settings.for_rule(rule, **chosen)
    pick("net", settings.net, NETS)
    if settings.epochs < 1:
        raise SettingError("--epochs", f"{settings.epochs}", "1 or more", "ask for some")
    data = load(settings.data, options.data_dir)
    print(f"{data[0].name} from {data[0].source}: {len(data[0])} training and {len(data[1])} test records")
    trainer = settings.trainer(data, folder=options.out, bar=True, label=settings.rule)
    os.makedirs(options.out, exist_ok=True)
    if not options.resume and any(map(os.path.exists, (trainer.file, trainer.file + checkpoint.PREVIOUS))):
        raise SettingError("--out", f"{options.out}, which holds a run", "an empty folder",
                           "add --resume to go on with it, or choose another folder")
    if options.resume and checkpoint.latest(trainer.file) is None:
        print(f"nothing to resume in {options.out}: starting anew")
    try:
        history = trainer.fit(settings.epochs, resume=options.resume)
    except KeyboardInterrupt:
        saved = "and saved" if trainer.whole else "inside the next; the checkpoint before stands"
        print(f"\nstopped after {trainer.step} updates {saved}; go on with the same command and --resume")
        raise
    last = history[-1]
    if last["epoch"] > settings.epochs:
        print(f"it has {last['epoch']} epochs already: nothing to do for {settings.epochs}")
    for key, words in ("gradient_angle", "update to backprop's"), ("weight_angle", "feedback to W"):
        angles = ", ".join(f"{layer['layer']} {layer[key]:.1f}" for layer in last.get("layers", [])
                           if layer[key] is not None)
        if angles:
            print(f"{words}, degrees: {angles}")
    print(f"test accuracy {100 * last['test_accuracy']:.2f} % after {last['epoch']} epochs; log and checkpoint in "
          f"{options.out}")


def evaluate_command(options):
    """Evaluate a checkpoint on its test set, or on the one given."""
    path = os.path.join(options.run, "checkpoint.npz") if os.path.isdir(options.run) else options.run
    if not os.path.exists(path):
        raise CheckpointError(options.run, "no checkpoint there", "a folder written by train, or a checkpoint file",
                              "check the path")
    arrays, meta = checkpoint.load(path)
    about = meta.get("about", {})
    if "run" not in about:
        raise CheckpointError(path, "no description of its net", "a checkpoint written by python -m nplearn train",
                              "load it in Python, into a net you build")
    settings = Settings(**{**about["run"], "device": options.device})
    net = settings.build(tuple(about["in_shape"]), len(about["classes"]))
    rule = registry.make(settings.rule).attach(net, settings.seed)
    live = net_arrays(net) | {f"rule/{name}": array for name, array in rule.arrays().items()}
    found = {name: array for name, array in arrays.items() if name.startswith(("net/", "rule/"))}
    copy_into(live, found, where=path)
    _, test = load(options.data or settings.data, options.data_dir)
    use_threads(settings.threads, laned(net))
    result = evaluate(net, LOSSES[settings.loss](), Loader(test, 500, shuffle=False, dtype=settings.dtype),
                      rule=rule)
    print(f"{settings.net} under {settings.rule}, {meta['step']} updates, on {result['n']} test records of {test.name} "
          f"({test.source})")
    print(f"loss {result['loss']:.4f}   accuracy {100 * result['accuracy']:.2f} %   "
          f"top 5 {100 * result['top_k']:.2f} %")
    print("confusion, a row per true class:")
    width = max(len(str(result["confusion"].max())), *(len(str(name)) for name in about["classes"]))
    for name, counts in zip(about["classes"], result["confusion"], strict=True):
        print(str(name).rjust(width), *(str(n).rjust(width) for n in counts))
    if options.json:
        text = json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in result.items()})
        with open(options.json, "w") as file:
            file.write(text)


def arguments_train(sub):
    given = {"default": argparse.SUPPRESS}              # what is not given is the rule's own, or the usual
    sub.add_argument("--net", help=", ".join(NETS), **given)
    sub.add_argument("--hidden", type=widths, metavar="N,N,...", help="widths of the mlp: 256,256")
    sub.add_argument("--activation", help=f"of the mlp: {', '.join(ACTIVATIONS)} (default: the rule's own, or relu)")
    sub.add_argument("--init", help=f"law of the mlp's weights: {', '.join(LAWS)} (default xavier)")
    sub.add_argument("--rule", default="backprop", help=", ".join(registry.names(controls=True)))
    sub.add_argument("--data", default="mnist5k", help="mnist5k, mnist, fashion-mnist, cifar-10, or a path")
    sub.add_argument("--data-dir", help="folder that holds the data set")
    for name, help_ in (("epochs", ""), ("batch", "samples an update"), ("lr", "learning rate"),
                        ("momentum", "of sgd, rmsprop and manhattan"), ("decay", "weight decay"),
                        ("augment", "pixels of random shift"), ("seed", ""),
                        ("threads", "over chunks, or of BLAS in dense nets")):
        default = getattr(Settings(), name)
        sub.add_argument(f"--{name}", type=type(default), help=f"{help_} (default {default})".strip(), **given)
    sub.add_argument("--optimiser", help=f"{', '.join(OPTIMISERS)} (default sgd)", **given)
    for name in ("lr_steps", "decay_steps"):
        sub.add_argument(f"--{name.replace('_', '-')}", type=factors, metavar="EPOCH:FACTOR,...",
                         help="factors from those epochs on: 20:0.5,30:0.5", **given)
    sub.add_argument("--loss", help=f"{', '.join(LOSSES)} (default softmax)", **given)
    sub.add_argument("--dtype", choices=("float32", "float64"), help="(default float32)", **given)
    sub.add_argument("--device", help="cpu, gpu or gpu:N (default cpu)", **given)
    sub.add_argument("--out", default="runs/train", help="folder for log and checkpoint (default %(default)s)")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")


def factors(text):
    """"20:0.5,30:0.5" -> {20: 0.5, 30: 0.5}."""
    try:
        return {int(at): float(factor) for at, _, factor in (part.partition(":") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not EPOCH:FACTOR,... such as 20:0.5,30:0.5") from None


def widths(text):
    """"256,128" -> [256, 128]."""
    try:
        return [int(n) for n in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of widths such as 256,256") from None


def arguments_scope(sub):
    sub.add_argument("--net", help=f"{', '.join(NETS)} (default: the rule's own, or mlp)")
    sub.add_argument("--rule", default="fa", help=", ".join(registry.names(controls=True)))
    sub.add_argument("--data", default="mnist5k", help=f"decides the size of the input: {', '.join(SIZES)}")


def arguments_evaluate(sub):
    sub.add_argument("run", help="a folder written by train, or a checkpoint file")
    sub.add_argument("--data", help="another data set than the run's own")
    sub.add_argument("--data-dir", help="folder that holds the data set")
    sub.add_argument("--device", default="cpu", help="cpu, gpu or gpu:N")
    sub.add_argument("--json", help="also write the figures to this file")


def arguments_rules(sub):
    sub.add_argument("rule", nargs="?", metavar="NAME", help="one of them: its page")


ARGUMENTS = {"rules": arguments_rules, "scope": arguments_scope, "train": arguments_train,
             "evaluate": arguments_evaluate}

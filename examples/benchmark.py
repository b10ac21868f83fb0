"""Time whole training steps (forward, credit, feedback learning, optimiser), ours under each rule beside PyTorch's.

    python examples/benchmark.py --quick                        under two minutes
    python examples/benchmark.py --nets mlp,lenet --rules fa,kp --rounds 12 --json runs/benchmark.json
    python examples/benchmark.py --net conv64 --also mine.py:fast       a step of your own, which make("fast") returns
    python examples/benchmark.py --growth growth.png            how cost grows with batch, width, depth, map, channels
    python examples/benchmark.py --odd                          odd sizes: times what their operation count suggests
    python examples/benchmark.py --profile resnet20             where one step's time goes, on one lane
    python examples/benchmark.py --device gpu --nets resnet20,resnet20x1024,resnet18 --rules fa,usf,pfa

Every candidate is a process of its own; they take turns (benchmark_race.py) on the same nets (benchmark_nets.py), with
the same number of threads, in float32, SGD with momentum; all but a step of your own flush denormals. Ratios are of
minima over all rounds; beside them stand median and range of the ratios round by round. PyTorch's rows (backprop)
appear where torch is installed, BioTorch's where biotorch is: pip install --no-deps biotorch.
"""
import argparse
import importlib.util
import json
import os
import statistics

from benchmark_nets import BIOTORCH, BIOTORCH_NET, NETS, QUICK
from benchmark_race import Candidate, race

from nplearn.backend import Device
from nplearn.cli import guarded
from nplearn.errors import SettingError
from nplearn.plots import pyplot
from nplearn.rules import registry

RULES = "fa,dfa,usf,kp,pfa"
GEMM, BACKPROP = Candidate("gemm"), "backprop"
NOISY = 0.3                                             # of a ratio: what other work on the machine may have made of it


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise SettingError("command line", message, "what --help shows", "change it")


# -- the races --------------------------------------------------------------------------------------------------------

def compare(nets, rules, also, biotorch, rounds, threads, patience):
    """Race every net's candidates, and BioTorch's if asked to; prints the tables, returns what --json holds."""
    result = {"threads": threads, "gemm_gflops": 0.0, "ratios": {}, "channels_last": {}, "rules": {}, "biotorch": {},
              "memory_ratio": {}, "peak_share": {}, "also": {}}
    installed = importlib.util.find_spec("torch") is not None
    print("ratios are of times: our backprop to a rival, our other rules to our backprop"
          + ("" if installed else "; PyTorch is not installed"), flush=True)
    for net in nets:
        layouts = ["default", "channels_last"][:1 + NETS[net].maps] if installed else []
        theirs = {layout: Candidate("torch", net, layout) for layout in layouts}
        mine, other = Candidate("ours", net, BACKPROP), {rule: Candidate("ours", net, rule) for rule in rules}
        run = race([GEMM, *theirs.values(), *also, mine, *other.values()], rounds, threads, patience,
                   set(other.values()))
        pairs = {**{c: (mine, c) for c in (*theirs.values(), *also)}, mine: None,
                 **{c: (c, mine) for c in other.values() if c in run.timings}}
        result["gemm_gflops"] = max(result["gemm_gflops"], gflops(run.timings[GEMM]))
        tell(net, run, pairs, mine, like_mine={mine, *theirs.values(), *also})
        result["peak_share"][net] = gflops(run.timings[mine]) / gflops(run.timings[GEMM])
        if theirs:
            result["ratios"][net] = ratio(run, mine, theirs["default"])
            result["memory_ratio"][net] = run.timings[mine].memory / run.timings[theirs["default"]].memory
        if "channels_last" in theirs:
            result["channels_last"][net] = ratio(run, mine, theirs["channels_last"])
        result["rules"][net] = {rule: ratio(run, c, mine) for rule, c in other.items() if c in run.timings}
        result["also"] |= {str(c): ratio(run, mine, c) for c in also}
    if biotorch and BIOTORCH_NET in nets and installed and importlib.util.find_spec("biotorch"):
        result["biotorch"], peak = compare_biotorch(rounds, threads, patience)
        result["gemm_gflops"] = max(result["gemm_gflops"], peak)
    print(f"GEMM peak of the run: {result['gemm_gflops']:.0f} Gflop/s with {threads} thread(s)")
    return result


def compare_biotorch(rounds, threads, patience):
    """({rule: ratio of our step to BioTorch's under the same rule, on the same net}, GEMM's Gflop/s)."""
    theirs = {mode: Candidate("biotorch", BIOTORCH_NET, mode) for mode in BIOTORCH}
    mine = {mode: Candidate("ours", BIOTORCH_NET, rule) for mode, rule in BIOTORCH.items()}
    run = race([GEMM, *theirs.values(), *mine.values()], rounds, threads, patience, set(theirs.values()))
    ran = [mode for mode, c in theirs.items() if c in run.timings]
    pairs = {c: (mine[mode], c) for mode, c in theirs.items() if mode in ran}
    tell(f"{BIOTORCH_NET} beside BioTorch", run, {**pairs, **dict.fromkeys(mine.values())},
         mine["backpropagation"], {mine["backpropagation"], theirs["backpropagation"]})
    found = {BIOTORCH[mode].partition(":")[0]: ratio(run, *pairs[theirs[mode]]) for mode in ran}
    return found, gflops(run.timings[GEMM])


def ratio(run, a, b):
    """Of the minima over all rounds."""
    return run.timings[a].best / run.timings[b].best


def gflops(timing):
    return 2e-9 * timing.work / timing.best


def tell(title, run, pairs, counted, like_mine):
    """Print a race as a table.

    pairs      {candidate: (a, b), whose ratio a / b stands in its row, or None}
    counted    whose multiply-adds are those of all candidates in `like_mine`, which get a share of the GEMM peak
    """
    work, peak = run.timings[counted].work, gflops(run.timings[GEMM])
    rounds = len(run.timings[GEMM].seconds)
    quiet = "nothing tells whether the machine was quiet" if run.quiet is None else \
        f"{run.quiet} of {rounds} rounds began on a quiet machine"
    samples = f", ours {NETS[title].batch / run.timings[counted].best:.0f} samples a second" if title in NETS else ""
    print(f"\n{title}: {work / 1e6:.1f} million multiply-adds a step{samples}, GEMM {peak:.0f} Gflop/s; {quiet}\n"
          "| candidate | ms | ratio | of minima | median by round | range | GEMM peak, % | MiB |\n"
          "|---|---|---|---|---|---|---|---|")
    for candidate, pair in pairs.items():
        timing = run.timings[candidate]
        share = f"{100 * 2e-9 * work / timing.best / peak:.0f}" if candidate in like_mine else "-"
        print(f"| {candidate} | {1e3 * timing.best:.3f} | {ratios(run, pair)} | {share} | {timing.memory:.0f} |")
    for candidate, why in run.refused.items():
        print(f"{candidate} does not run here: {why}")
    if noisy := [str(candidate) for candidate, pair in pairs.items() if pair and not settled(run, pair)]:
        print(f"Not to be relied on, minima and medians differ by more than {NOISY:.0%}: {', '.join(noisy)}")
    print(flush=True)


def by_round(run, pair):
    return [a / b for a, b in zip(*(run.timings[c].seconds for c in pair), strict=True)]


def settled(run, pair):
    """Whether the ratio of minima is near the median of the ratios round by round."""
    return abs(ratio(run, *pair) / statistics.median(by_round(run, pair)) - 1) <= NOISY


def ratios(run, pair):
    """Cells of a pair's ratio: in words, of minima, median and range round by round."""
    if pair is None:
        return "- | - | - | -"
    rounds = by_round(run, pair)
    return (f"{pair[0].how} / {pair[1]} | {ratio(run, *pair):.2f} | {statistics.median(rounds):.2f} "
            f"| {min(rounds):.2f}-{max(rounds):.2f}")


# -- the command line -------------------------------------------------------------------------------------------------

def parsed():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", "--net", help="some of " + ",".join(NETS) + "; all unless given")
    parser.add_argument("--rules", default=RULES, help="timed beside our own backprop; '' for none")
    parser.add_argument("--also", action="append", default=[], metavar="FILE.py:NAME",
                        help="another rival, of your own: make(NAME) of that file returns a function that makes one "
                             "step of the one net named with --nets; may be given again")
    parser.add_argument("--rounds", type=int, help="turns of each candidate: 10 unless given")
    parser.add_argument("--threads", type=int, default=2, help="of a candidate")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where both sides compute")
    parser.add_argument("--patience", type=float, help="seconds to wait for a quiet machine before a round: 5")
    parser.add_argument("--quick", action="store_true", help=f"{','.join(QUICK)}, 3 rounds, patience 1, no BioTorch")
    parser.add_argument("--growth", metavar="FILE.png", help="how cost grows, as a figure, instead of races")
    parser.add_argument("--odd", action="store_true", help="odd sizes, instead of races")
    parser.add_argument("--profile", metavar="NET[:RULE]", help="a step by kind of work, instead of races")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args()
    options.rounds = options.rounds if options.rounds is not None else 3 if options.quick else 10
    options.patience = options.patience if options.patience is not None else 1.0 if options.quick else 5.0
    for name, least in (("rounds", 1), ("threads", 1), ("patience", 0)):
        if not least <= getattr(options, name) < float("inf"):
            raise SettingError(f"--{name}", getattr(options, name), f"{least} or more", "change it")
    given = list(dict.fromkeys(options.nets.split(","))) if options.nets is not None else []
    options.nets = [one_of("--nets", net, NETS) for net in given] or \
        list(QUICK if options.quick else (name for name, net in NETS.items() if not net.large))
    options.rules = [rule for rule in dict.fromkeys(registry.split(options.rules)) if rule and rule != BACKPROP]
    for rule in options.rules:
        registry.make(rule)
    options.also = list(dict.fromkeys(map(rival, options.also)))
    if options.also and len(given) != 1:
        raise SettingError("--also", f"{len(given)} nets named", "one", "name it with --nets NET")
    if options.profile is not None:
        net, _, rule = options.profile.partition(":")
        options.profile = one_of("--profile", net, NETS), rule or BACKPROP
        registry.make(rule or BACKPROP)
    for name, kinds in (("growth", (".png", ".pdf", ".svg")), ("json", (".json",))):
        if (path := getattr(options, name)) is not None:
            writable(f"--{name}", path, kinds)
    if options.growth:
        pyplot()                                        # it says what to install before minutes have gone by
    return options


def one_of(option, name, known):
    if name not in known:
        raise SettingError(option, repr(name), f"one of {', '.join(known)}", "choose among these")
    return name


def rival(text):
    """A candidate from FILE.py:NAME; a name may hold colons of its own."""
    file, found, name = text.partition(".py:")
    if not found or not name:
        raise SettingError("--also", repr(text), "FILE.py:NAME", "write it so")
    if not os.path.isfile(file + ".py"):
        raise SettingError("--also", f"no file {file}.py", "a file with make(name)", "check the path")
    return Candidate("also", file + ".py", name)


def writable(option, path, kinds):
    """The file can be written at the end: or a SettingError now."""
    if not path.endswith(kinds):
        raise SettingError(option, repr(path), f"a name that ends in {' or '.join(kinds)}", "change it")
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    if os.path.isdir(path) or not os.access(folder, os.W_OK):
        raise SettingError(option, repr(path), "a file that can be written", "choose another place")


def main():
    options = parsed()
    Device(options.device)                              # says what is missing
    os.environ["NPLEARN_BENCHMARK_DEVICE"] = options.device             # for the candidates' processes
    how = options.rounds, options.threads, options.patience
    result = {}
    if options.profile:
        from benchmark_profile import profile, report
        found, plain = profile(*options.profile, steps=options.rounds)
        print(report(*options.profile, found, plain))
        result["profile"] = {kind: 1e3 * seconds for kind, seconds in found.items()}
    if options.odd:
        from benchmark_odd import measure
        result["odd"] = measure(*how)
    if options.growth:
        from benchmark_growth import draw, measure
        result["growth"] = measure(*how)
        draw(result["growth"], options.growth)
    if not result:
        result = compare(options.nets, options.rules, options.also, not options.quick, *how)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    guarded(main)

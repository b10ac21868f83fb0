"""The rule contract: what every rule keeps, and what a rule declares, checked on nets made to catch it out.

    report = check_rule(FeedbackAlignment)             a class, or a function that makes a new rule at each call
    report.count, report.clauses, print(report)        how many checks ran, in all and for each clause

A claim (`rule.claims`) is tested both ways: declared, it must hold on every net; not declared, it must fail on one. The
clauses of `ALWAYS` hold for every rule. A net that the rule refuses at `attach`, with a BuildError, is passed over; a
rule that refuses where the way divides needs a chain, and declares it. A failure is an AssertionError that says rule,
net, seed, clause, layer and sizes, for all failures at once.
"""
from collections import Counter
from contextlib import contextmanager
from functools import partial

import numpy as np

from nplearn.columns import outside
from nplearn.errors import BuildError, SettingError
from nplearn.layers import holders, stages, weighted
from nplearn.metrics.probe import compare
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, NOISY, REDUCES, SAMPLES_APART, Rule
from nplearn.testing.trial import NETS, Batches, N, Trial, copies, differ

UPDATES = 3             # looked at for weight transport: rules that read W now and then are tried where it is so often


# -- claims: each says why it does not hold, or "" --------------------------------------------------------------------

def no_transport(make):
    clean, blind, why = make(), make(), ""
    with np.errstate(all="ignore"):
        for step in range(UPDATES):
            for trial in clean, blind:
                trial.run(step)
            with blindfolded(blind.net):
                why = differ(blind.assign(), clean.assign())
            for trial in clean, blind:
                trial.optimiser.step()
            clean.rule.learn(clean.net, clean.tape)
            with blindfolded(blind.net):
                blind.rule.learn(blind.net, blind.tape)
            why = why or differ(blind.rule.arrays(), clean.rule.arrays())
            if why:
                break
            blind.net.arena.value[...] = clean.net.arena.value      # what `learn` wrote into W went with the blindfold
    return why


@contextmanager
def blindfolded(net):
    """Every W is NaN but on its layer's own way up, which a second pass may take: other reads poison what follows."""
    def blind(layer):
        W, true, apply = layer.weight.value, layer.weight.value.copy(), layer.apply
        W[...] = np.nan
        layer.apply = lambda x, V: apply(x, true if V is W else V)
        return W, true
    covered = {layer: blind(layer) for layer in weighted(net)}
    try:
        yield
    finally:
        for layer, (W, true) in covered.items():
            W[...] = true
            del layer.apply


def reduces(make):
    trial = make()
    for layer in trial.rule.layers:
        if not layer.feedback.become_exact(layer):
            return f"{layer.path}: its feedback cannot be set to W"
    trial.run()
    return differ(trial.assign(), trial.backprop(), 1e-12)


def exact_top(make):
    trial = make()
    trial.step(0)                                       # what the rule learns has left its start
    trial.run(1)
    top = {p.path for p in weighted(trial.net)[-1].params().values()}
    mine, true = trial.assign(), trial.backprop()
    return differ(mine, {path: true[path] for path in top})


def samples_apart(make):
    trial = make()
    if coupled(trial, trial.backprop):
        return None                                     # the net's own samples meet: it cannot judge
    return coupled(trial, trial.assign)


def coupled(trial, gradients):
    """Why the gradient of a batch is not the mean over its samples, or ""."""
    trial.run()
    whole = gradients()
    singles = []
    for n in range(N):
        trial.run(rows=[n])
        singles.append(gradients())
    return differ({path: sum(single[path] for single in singles) / N for path in whole}, whole, 1e-11)


def noisy(make):
    return "" if a_batch_twice_is_the_batch(make) else "a batch twice gives the batch's gradient: no noise is in it"


CLAIMS = {NO_TRANSPORT: no_transport, REDUCES: reduces, EXACT_TOP: exact_top, SAMPLES_APART: samples_apart,
          NOISY: noisy}


# -- what holds for every rule ----------------------------------------------------------------------------------------

def assign_moves_nothing(make):
    trial = make()
    trial.step(0)
    trial.run(1)
    before = copies(trial.state())
    trial.assign()
    return differ(trial.state(), before)


def assign_fills_every_gradient(make):
    trial = make()
    trial.run()
    trial.net.arena.grad.fill(np.nan)
    if trial.rule.state is not None:
        trial.rule.state.grad.fill(np.nan)
    for path, gradient in trial.assign().items():
        if np.isnan(gradient).any():
            return f"{path} ({gradient.shape}) was not filled"
    trial.optimiser.step()
    trial.rule.learn(trial.net, trial.tape)
    return next((f"{path} learned from a gradient that was not filled" for path, array in trial.state().items()
                 if np.isnan(array).any()), "")


def assign_can_be_repeated(make):
    trial = make()
    trial.run()
    first = trial.assign()
    return differ(trial.assign(trial.tape.walk()), first) or differ(trial.assign(), first)


def fixed_feedback_stays(make):
    trial = make()
    def fixed():
        return trial.rule.fixed() | {f"{layer.path}.{name}": array for layer in holders(trial.net)
                                     for name, array in layer.feedback.fixed().items()}
    before = copies(fixed())
    for step in range(4):
        trial.step(step)
    return differ(fixed(), before)


def phase_leaves_the_forward_pass(make):
    trial = make()
    for step in range(3):
        before, gradients = copies(trial.forward_state()), trial.gradients()
        trial.rule.phase(trial.net, Batches(trial, step))
        why = differ(trial.forward_state(), before) or differ(trial.gradients(), gradients)
        if why:
            return why
        trial.step(step)
    return ""


def seed_decides(make):
    one, two, other = make(), make(), make(seed=1000, net_seed=make.keywords["seed"])
    other.seed = one.seed                               # its batches are the same: the rule's seed alone is another
    asleep = make()
    for trial in asleep, other:
        trial.rule.phase(trial.net, Batches(trial, 0))  # where what a rule keeps may be drawn too
    feedback, elsewhere = asleep.feedback_arrays(), other.feedback_arrays()
    if feedback and one.rule.drawn and not differ(elsewhere, feedback):
        return "another seed gives the same feedback"
    for trial in one, two:
        for step in range(3):
            trial.step(step)
    return differ(two.state(), one.state())


def looking_changes_nothing(make):
    def look():
        watched.net.predict(np.ones((2, *outside(watched.net.in_shape))))
        probe = watched.tape.again()
        probe.run(watched.net)
        compare(watched.net, watched.rule, probe)       # what a Probe does
    alone, watched = make(), make()
    for step in range(3):
        alone.step(step)
        watched.step(step, look)
    return differ(watched.state(), alone.state())


def resumes(make):
    saved = make()
    for step in range(2):
        saved.step(step)
    fresh = make(net_seed=2000)                         # what it holds of its own start must be overwritten
    for name, array in saved.state().items():
        fresh.state()[name][...] = array
    fresh.optimiser.load(saved.optimiser.state())
    for name, optimiser in fresh.rule.optimisers().items():
        optimiser.load(saved.rule.optimisers()[name].state())
    for trial in saved, fresh:
        for step in (2, 3):
            trial.step(step)
    return differ(fresh.state(), saved.state())


def never_hands_down_a_forward_weight(make):
    trial = make()
    if NO_TRANSPORT not in trial.rule.claims:
        return None
    found = []
    def watch(layer, adjoint):
        def watched(d, W, shape):
            if np.may_share_memory(W, trial.net.arena.value):
                found.append(f"{layer.path} ({W.shape}): adjoint was given a forward weight")
            return adjoint(d, W, shape)
        layer.adjoint = watched
    for layer in weighted(trial.net):
        watch(layer, layer.adjoint)
    trial.step(0)
    return found[0] if found else ""


def every_layer_learns(make):
    trial = make()
    for step in range(3):
        trial.step(step)
    gradients = trial.gradients()
    return next((f"{layer.path}: its gradient is all zero" for layer in weighted(trial.net)
                 if not gradients[layer.weight.path].any()), "")


def a_batch_twice_is_the_batch(make):
    trial = make()
    trial.run()
    once = trial.assign()
    trial.run(rows=np.tile(np.arange(N), 2))
    return differ(trial.assign(), once, 1e-11)


ALWAYS = (assign_moves_nothing, assign_fills_every_gradient, assign_can_be_repeated, fixed_feedback_stays,
          phase_leaves_the_forward_pass, seed_decides, looking_changes_nothing, resumes,
          never_hands_down_a_forward_weight)
UNLESS_NOISY = (every_layer_learns,)
UNLESS_CONTROL = (*UNLESS_NOISY, a_batch_twice_is_the_batch)


# -- the contract -----------------------------------------------------------------------------------------------------

class Report:
    """How many checks ran: `count` in all, `clauses` {clause: checks}; `refused` {net: why the rule refuses it}."""

    def __init__(self, rule, nets, seeds):
        self.rule, self.nets, self.seeds, self.clauses, self.refused = rule, list(nets), list(seeds), Counter(), {}

    @property
    def count(self):
        return self.clauses.total()

    def __int__(self):
        return self.count

    def __str__(self):
        taken = [net for net in self.nets if net not in self.refused]
        lines = [f"{self.rule}: {self.count} checks on {', '.join(taken)}, seeds {self.seeds}"]
        return "\n".join(lines + [f"    {n:4d}  {clause}" for clause, n in self.clauses.items()]
                         + [f"    refused {net}: {why}" for net, why in self.refused.items()])


def check_rule(rule_factory, nets=None, seeds=(0, 1), loss=None, control=False):
    """Run the contract; returns and prints a Report, or raises an AssertionError that lists every failure.

    nets      {name: function(seed) -> built net}, default `NETS`; widths should differ, so that no transpose hides
    loss      default softmax cross-entropy
    control   the rule is not meant to teach hidden layers: spares the clauses of `UNLESS_CONTROL`

    >>> from nplearn.rules import FeedbackAlignment
    >>> report = check_rule(FeedbackAlignment, seeds=[0])                        # doctest: +ELLIPSIS
    FeedbackAlignment: ... checks on dense, stride, map, norm, residual, seeds [0]
    ...
    """
    if not callable(rule_factory) or not isinstance(rule_factory(), Rule):
        raise SettingError("check_rule", f"{rule_factory!r}", "a Rule class, or a function that makes a new rule",
                           "give check_rule(MyRule) or check_rule(lambda: MyRule(option=1))")
    nets, claims = nets or NETS, rule_factory().claims
    unknown = sorted(set(claims) - {*CLAIMS, NEEDS_CHAIN})
    if unknown:
        raise SettingError(f"{type(rule_factory()).__name__}.claims", f"{unknown}",
                           f"some of {[*CLAIMS, NEEDS_CHAIN]}", "import them from nplearn.rules")
    report, failures, missed = Report(type(rule_factory()).__name__, nets, seeds), [], Counter()
    unless = () if control else UNLESS_NOISY if NOISY in claims else UNLESS_CONTROL
    clauses = {**CLAIMS, **{words(f): f for f in (*ALWAYS, *unless)}}
    for net, build in nets.items():
        why = refusal(build, rule_factory)
        if why:
            report.refused[net] = why
            continue
        for seed in seeds:
            make = partial(Trial, build, rule_factory, seed=seed, loss=loss)
            for clause, check in clauses.items():
                try:
                    why = check(make)
                except Exception as error:
                    error.add_note(f"{report.rule} on {net}, seed {seed}: {clause}")
                    raise
                if why is None:
                    continue
                report.clauses[clause] += 1
                missed[clause] += bool(why)
                if why and (clause not in CLAIMS or clause in claims):
                    failures.append(f"{report.rule} on {net}, seed {seed}: {clause}: {why}")
    failures += [f"{report.rule}: {clause} holds on every net and is not declared: declare it in `claims`"
                 for clause in CLAIMS if clause not in claims and report.clauses[clause] and not missed[clause]]
    failures += chain_claim(report, nets, claims)
    failures += [f"{report.rule}: {clause} is declared and was never checked: give nets that can judge it"
                 for clause in sorted(claims - {NEEDS_CHAIN}) if not report.clauses[clause]]
    assert not failures, "\n".join(failures)
    print(report)
    return report


def refusal(build, rule_factory):
    """What the rule says to a net that it does not take, or ""."""
    try:
        rule_factory().attach(build(0))
    except BuildError as error:
        return str(error)
    return ""


def chain_claim(report, nets, claims):
    """Failures of NEEDS_CHAIN, declared or not; and of a rule that takes no net at all."""
    if len(report.refused) == len(nets):
        return [f"{report.rule}: refuses {net}: {why}" for net, why in report.refused.items()]
    def chains(net):
        try:
            return bool(stages(nets[net](0)))
        except BuildError:
            return False
    divided = [net for net in nets if not chains(net)]
    if NEEDS_CHAIN in claims:
        return [f"{report.rule}: {NEEDS_CHAIN}, it says, and takes {net}" for net in divided
                if net not in report.refused]
    if set(report.refused) - set(divided):              # some chains too, for another reason
        return []
    return [f"{report.rule}: refuses {net}, which is no chain: declare {NEEDS_CHAIN!r} ({report.refused[net]})"
            for net in divided if net in report.refused]


def words(function):
    return function.__name__.replace("_", " ")

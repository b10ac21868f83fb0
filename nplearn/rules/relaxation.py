"""What rules have in common whose activities settle: the feedback of another rule, through which they do.

Messages go down by the feedback that `through` puts on the layers: W's transpose under Backprop, another matrix under
FeedbackAlignment, one that learns under KolenPollack. What that rule keeps and learns, it keeps and learns here.

    through  a rule, or its class: one with the plain walk down, whose feedback is linear in the delta
"""
from nplearn.errors import BuildError, SettingError
from nplearn.layers import stages
from nplearn.rules.backprop import Backprop
from nplearn.rules.base import NEEDS_CHAIN, NO_TRANSPORT, SAMPLES_APART, SEVERAL, Rule


class Relaxation(Rule):
    """Base of rules over `self.chain`, the stages of a net, that relax through the feedback of `self.through`."""

    claims = frozenset({NEEDS_CHAIN})
    walk = "errors of activities as they settle, by"

    def __init__(self, through=Backprop):
        super().__init__()
        rule = through() if isinstance(through, type) else through
        if not isinstance(rule, Rule) or not rule.walks_plainly:
            raise SettingError(type(self).__name__, f"through {rule!r}", "a rule with the plain walk down",
                               "give one such as Backprop() or KolenPollack()")
        self.through = rule
        self.home = {**rule.home, **self.home}
        self.lowest, self.learned, self.drawn = rule.lowest, rule.learned, rule.drawn
        self.claims = self.claims | rule.claims & {NO_TRANSPORT, SAMPLES_APART}
        if type(rule) is not Backprop:
            self.idea = f"{self.idea} (through {type(rule).__name__})"

    def attach(self, net, seed=0, layers=None):
        self.through.attach(net, seed, layers)
        net.served_by = self if layers is None else SEVERAL
        self.net, self.seed, self.layers = net, seed, self.through.layers
        self.state, self.optimiser = self.through.state, None
        for layer in self.layers:
            if layer.feedback.effective(layer) is None or not layer.feedback.linear:
                how = "" if layer.feedback.linear else ", not linear in the delta"
                raise BuildError(layer.path, f"feedback that is {layer.feedback.says}{how}",
                                 "feedback that takes a delta down by a matrix, as W does",
                                 f"let {type(self).__name__} go through Backprop(), FeedbackAlignment() or the like")
        self.chain = stages(net)
        self.prepare(net)
        return self

    def read(self, layer, d, sweep, tape):
        """The gradients of one layer, from its input in the pass `sweep` and the delta d, for the walk `tape`."""
        x = sweep.seen(layer)[0]
        layer.collect(x, d, tape)
        layer.feedback.collect(layer, d, x, tape)

    def read_out(self, stage, e, sweep, tape):
        """The same from the error e at the end of a stage: delta = f'(a) e; and those of what is below the lowest."""
        layer, walk = stage.layer, sweep.walk(records=False)
        delta = stage.above.backward(e, walk)
        tape.record(layer, delta)
        self.read(layer, delta, sweep, tape)
        if stage is self.chain[0] and layer.sends:
            stage.below.backward(layer.feedback.carry(layer, delta, sweep.seen(layer)[0], tape), walk)

    def params(self):
        return self.through.params()

    def fixed(self):
        return self.through.fixed()

    def follow(self, optimiser):
        self.through.follow(optimiser)
        self.optimiser = self.through.optimiser

    def learn(self, net, tape):
        self.through.learn(net, tape)

    def phase(self, net, batches):
        self.through.phase(net, batches)

    def states(self):
        return self.through.states()

    def optimisers(self):
        return self.through.optimisers()

    def memory(self):
        return self.through.memory()

    def settings(self):
        return {**super().settings(), "through": [type(self.through).__name__, self.through.settings()]}

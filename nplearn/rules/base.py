"""What a rule is: it fits feedback to layers and turns a batch into gradients.

    attach(net, seed)        once, after build: every layer that sends gets the rule's feedback
    follow(optimiser)        what the rule learns gets a twin of the forward optimiser, or the rule's own
    forward(x, tape)         what the net says of x: a forward pass, unless the rule lets the net settle
    assign(net, tape)        fills every gradient of the pass, with the weights as they were; moves nothing
    learn(net, tape)         after the weights have moved: moves the feedback
    phase(net, batches)      off-line work: once before the first update and again after every `learn`

A rule writes `feedback(layer, rng)`, and of the others only what it needs. Unweighted layers send exact derivatives
under every rule, biases and normalisation get the exact gradient of the delta that reached them, and the last layer's
delta is the loss's own. A rule with a walk of its own writes `assign`, begins it with `begin_walk`, and keeps what is
not on a layer (a chain, learned inverses) in `prepare`, `params` and `fixed`.

A rule declares what it claims; the contract tests each claim, and its absence.
"""
import inspect
from types import MappingProxyType

import numpy as np

from nplearn.backend import stream
from nplearn.errors import BuildError, SettingError
from nplearn.feedback import Transport
from nplearn.layers import holders, weighted
from nplearn.params import Arena
from nplearn.rules.checks import fits

SEVERAL = "several rules, each on layers of its own"
NO_TRANSPORT = "free of weight transport"               # W replaced by NaN after the forward pass changes no bit
REDUCES = "backprop when feedback is W"                 # (PFA: B orthonormal, R = B' W)
EXACT_TOP = "last layer exact"                          # its gradient equals backprop's, to the bit
SAMPLES_APART = "samples apart"                         # a batch's gradient is the mean over its samples (no BatchNorm)
NEEDS_CHAIN = "needs a chain"                           # refuses nets whose way divides
NOISY = "gradients from noise"                          # a sample's gradient depends on draws of its own


class Rule:
    """Base of all rules.

    optimiser  None, or a function arena -> Optimiser for what the feedback learns; else a twin of the forward one

    idea, paper, keeps, learns_when   one line each, for `python -m nplearn rules`
    claims     what the contract may hold the rule to
    lowest     also ask for feedback of layers with nothing below, where it learns and drives nothing
    learned    whether any of the feedback learns
    drawn      whether the seed decides what the rule keeps
    walk       for a rule with a walk of its own, in words: what a weighted layer gives the one below, for `scope`
    home       where the rule was published to work, as far as it is not the usual: settings of `runs.Settings`
    """

    idea = paper = keeps = learns_when = ""
    claims = frozenset()
    lowest = learned = False
    drawn, walk = True, ""
    home = MappingProxyType({})

    def __init__(self, optimiser=None):
        self.net = None
        self.own_optimiser, self.optimiser, self.state, self.layers = optimiser, None, None, []
        if not (optimiser is None or callable(optimiser)):
            raise SettingError(type(self).__name__, f"optimiser {optimiser!r}", "a function arena -> Optimiser",
                               "give one in Python, such as lambda arena: SGD(arena, lr=0.1)")

    # -- what a rule writes -----------------------------------------------------------------------------------------

    def feedback(self, layer, rng):
        """The feedback of one layer; `rng` is that layer's own stream, the same whatever the other layers draw."""
        return Transport()

    def prepare(self, net):
        """Make what the rule keeps besides the feedback on layers, or refuse the net; asked once, at `attach`."""

    def params(self):
        """{path: Param} of all that the rule learns."""
        return {f"{layer.path}.{name}": param for layer in self.layers
                for name, param in layer.feedback.params().items()}

    def fixed(self):
        """{path: array} of what is drawn once and stays."""
        return {f"{layer.path}.{name}": array for layer in self.layers
                for name, array in layer.feedback.fixed().items()}

    def forward(self, x, tape=None):
        """What the net says of x; without a tape in inference."""
        return self.net.forward(x, tape)

    def assign(self, net, tape):
        self.check(net)
        net.backward(tape.error, tape)

    def learn(self, net, tape):
        """Step the feedback's own parameters with the gradients that `assign` left."""
        if self.state is None:
            return
        if self.optimiser is None:
            raise BuildError(type(self).__name__, "feedback that learns, and no optimiser for it", "one",
                             "call rule.follow(optimiser) after rule.attach(net, seed)")
        self.optimiser.step()

    def phase(self, net, batches):
        pass

    def unrest(self, tape):
        """{layer: number}, of a rule whose activities settle: how far those of a layer still move in one more sweep."""
        return {}

    # -- what every rule does ---------------------------------------------------------------------------------------

    def attach(self, net, seed=0, layers=None):
        """Fit feedback to `layers` (default: every weighted layer of the net that sends). Returns the rule."""
        if net.in_shape is None:
            raise BuildError(type(self).__name__, "a net that is not built", "net.build(in_shape) first", "build it")
        net.served_by = self if layers is None else SEVERAL
        if layers is None:
            for holder in holders(net):
                holder.feedback = holder.exact
            layers = [layer for layer in weighted(net) if layer.sends or self.lowest]
        self.net, self.seed, self.layers, self.optimiser = net, seed, list(layers), None
        self.prepare(net)
        for layer in self.layers:
            layer.feedback = self.feedback(layer, stream(seed, "feedback", layer.path))
            fits(layer)
        learned = self.params()
        for path, param in learned.items():
            param.path = path
        stepped = [param for param in learned.values() if param.kind != "measured"]
        self.state = Arena(stepped) if stepped else None
        return self

    def check(self, net):
        """The rule was the last to be attached to this net: or BuildError. Else another's feedback would be at work."""
        if self.net is not net or net.served_by not in (self, SEVERAL):
            other = "" if net.served_by is None else f"; {type(net.served_by).__name__} was attached to it since"
            raise BuildError(type(self).__name__, f"a net it is not attached to{other if self.net is net else ''}",
                             "rule.attach(net, seed) first", "attach it after net.build(...), and after other rules")

    @property
    def walks_plainly(self):
        """Whether its forward pass and its walk are those of every rule, so that several can share a net."""
        return type(self).assign is Rule.assign and type(self).forward is Rule.forward

    def begin_walk(self, net, tape):
        """A walk of the rule's own begins."""
        self.check(net)
        tape.arrive(net)

    def follow(self, optimiser):
        if self.state is not None:
            self.optimiser = self.own_optimiser(self.state) if self.own_optimiser else optimiser.like(self.state)

    def put(self, host):
        """A host array in the net's precision, on its device."""
        return self.net.device.put(np.ascontiguousarray(host, self.net.dtype))

    def arrays(self):
        """{path: array} of all the rule keeps, learned and fixed: what a checkpoint holds besides weights."""
        return {**{path: param.value for path, param in self.params().items()}, **self.fixed()}

    def states(self):
        """The arenas of what the rule learns."""
        return [] if self.state is None else [self.state]

    def optimisers(self):
        """{name: Optimiser} of what the rule steps itself."""
        return {} if self.optimiser is None else {"state": self.optimiser}

    def memory(self):
        """Bytes the rule needs beyond backprop: feedback, its gradient, its optimiser's slots."""
        arrays = sum(array.nbytes for array in self.arrays().values())
        gradient = self.state.grad.nbytes if self.state else 0
        return arrays + gradient + sum(o.nbytes for o in self.optimisers().values())

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.settings().items())})"

    def settings(self):
        """The options this rule was made with, for a run's record: its arguments, as far as it keeps them by name."""
        return {name: value for name in inspect.signature(type(self).__init__).parameters
                if isinstance(value := vars(self).get(name), (int, float, str, bool))}

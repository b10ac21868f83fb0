"""How the states of a chain settle: the prototypical dynamics of equilibrium propagation, all layers at once.

    s_l <- m s_l + (1 - m) sigma_l(v_l)      v_l = pool(W_l s_{l-1} + b_l) + adjoint(unpool(s_{l+1}), W_{l+1})

s_0 = x stays. v_L has a nudge in place of the second term, and a last layer without nonlinearity is a read-out: it has
no state, and a nudge of its output goes down to s_{L-1} by its adjoint. unpool is the adjoint of the stage's pooling:
the largest is where the map of the moment has it. In a stage sigma comes last, wherever it stands in the net. Adjoints
go through the feedback that the layers hold.

With m = 0 large weights can make two states alternate for ever; m = 0.7 settles them and keeps the fixed points.
"""
from typing import NamedTuple

from nplearn.backend import array_module
from nplearn.columns import batch_shape
from nplearn.errors import BuildError
from nplearn.layers.stages import chain_of
from nplearn.tape import Tape


class State(NamedTuple):
    """Where a chain has come to.

    s       s_0 = x, s_1, ...                    up      the pass that made v
    v       the linear part of each stage, of s  bottom  its part that never changes, that of the first stage
    """

    s: list
    v: list
    up: Tape
    bottom: Tape


class Settling:
    """The dynamics over the stages `chain`; `damping` is m."""

    def __init__(self, chain, damping):
        for stage in chain:
            for layer in stage.linear.layers:
                if not layer.settles:
                    raise BuildError(layer.path, f"a {type(layer).__name__}, among states that settle",
                                     "weighted layers, nonlinearities, pooling and Flatten", "take it away")
            if stage.activation is None and stage is not chain[-1]:
                raise BuildError(stage.path, "no nonlinearity behind it", "one behind every layer but the last",
                                 "put one there, such as Clip() or SteepSigmoid()")
        self.damping, self.linear = damping, [stage.linear for stage in chain]
        self.pools = [chain_of(stage.between.layers + stage.behind) for stage in chain]
        self.stages = chain if chain[-1].activation else chain[:-1]         # those that have a state
        self.reads_out = len(self.stages) < len(chain)

    def start(self, x, tape):
        """All states zero."""
        bottom = tape.again(collects=False, records=False)
        zeros = [array_module(x).zeros(batch_shape(stage.out_shape, x), x.dtype) for stage in self.stages]
        return self.over([x, *zeros], self.linear[0].forward(x, bottom), bottom)

    def settle(self, state, steps, force=None):
        """The State after so many sweeps; `force` is None, or a function of the State: a nudge of the output."""
        for _ in range(steps):
            state = self.sweep(state, force and force(state))
        return state

    def over(self, s, drive, bottom):
        """The State of s; `drive` is what the first stage makes of x."""
        up = bottom.walk()
        return State(s, [drive, *(f.forward(h, up) for f, h in zip(self.linear[1:], s[1:], strict=False))], up, bottom)

    def output(self, state):
        return state.v[-1] if self.reads_out else state.s[-1]

    def unpool(self, i, d, state):
        """d at the end of stage i, at the output of its weighted layer."""
        return self.pools[i].backward(d, state.up.walk())

    def sweep(self, state, nudge=None):
        """The next State; `nudge` is a force on the output, None if it is free."""
        (x, *s), down = state.s, state.up.walk()
        back = [f.backward(h, down) for f, h in zip(self.linear[1:], s[1:], strict=False)]
        if nudge is not None and self.reads_out:
            nudge = self.linear[-1].backward(nudge, down)
        back.append(0 if nudge is None else nudge)
        new = [stage.activation.forward(v + b) for stage, v, b in zip(self.stages, state.v, back, strict=False)]
        if self.damping:
            new = [self.damping * h + (1 - self.damping) * f for h, f in zip(s, new, strict=True)]
        return self.over([x, *new], state.v[0], state.bottom)

    def unrest(self, state):
        """{layer: the largest change of its state in one more free sweep}: the gradient has that divided by beta."""
        pairs = zip(self.stages, self.sweep(state).s[1:], state.s[1:], strict=True)
        return {stage.layer: float(abs(a - b).max()) for stage, a, b in pairs}

"""Direct feedback alignment (DFA): fixed random matrices carry the output error straight to every hidden layer.

With e (K, N) the output error, for every weighted layer l that has parameters below it:

    error at the input of l     author    B_l' e                     B_l (K, size of the input), a row for every unit
                                biotorch  adjoint(spread(e), B_l)    B_l of W_l's kind with K outputs: one kernel, e the
                                                                     same at every position
    from there down to layer l-1 exactly (activation, pooling, BatchNorm); dW_l = outer(x_l, d_l)

No input product is ever computed with W or with a delta. In residual nets three rules hide under the name:

    biotorch  identity shortcuts carry errors exactly: a block's input error is a running sum of the signals above it
    pure      shortcuts carry nothing: every layer has its own signal alone
    block     one signal per block input, exact backprop inside the block, shortcuts carry nothing

Kept: B_l, fixed: author U(-m, m), m = 1 / sqrt(size) unless `scale` gives it; biotorch by W's law. W learns each step.
Source: Nokland 2016, arXiv 1609.01596 (code dfa-torch); Sanfiz and Akrout 2021, arXiv 2108.13446 (code BioTorch).
"""
from math import prod

from nplearn.backend import memory_left
from nplearn.columns import outside
from nplearn.errors import BuildError, unwritten
from nplearn.feedback import Broadcast, Cut, Transport
from nplearn.layers import holders, residuals, weighted
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, SAMPLES_APART, Rule
from nplearn.rules.checks import choice, number, outputs


class DirectRule(Rule):
    """`signal(tape)` (K, N) goes straight to every hidden layer, along the walk described above."""

    keeps, learns_when = "B, fixed", "W every step"
    claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART})

    def __init__(self, form="author", residual="biotorch", scale=None):
        super().__init__()
        self.form = choice(self, "form", form, ("author", "biotorch"))
        self.residual = choice(self, "residual", residual, ("biotorch", "pure", "block"))
        self.scale = scale if scale is None else number(self, "scale", scale, least=0)
        if residual == "block":                         # inside a block W carries
            self.claims = self.claims - {NO_TRANSPORT}

    def signal(self, tape):
        raise unwritten(self, "signal(self, tape)")

    def feedback(self, layer, rng):
        K, size = outputs(self.net, self), prod(layer.in_shape)
        if self.form == "biotorch":
            if K % layer.groups:
                raise BuildError(layer.path, f"{K} outputs for {layer.groups} groups", "a multiple of the groups",
                                 'use DirectFeedbackAlignment(form="author")')
            return Broadcast(layer.draw(rng, K), self.signal, flat=False)
        if layer.other_shapes:
            raise BuildError(layer.path, f"inputs of {outside(layer.in_shape)} and, at another place, "
                             f"{outside(layer.other_shapes[0])}",
                             "one shape, since every unit of the input has a row of the feedback matrix",
                             'use DirectFeedbackAlignment(form="biotorch"), or a layer of its own at the second place')
        m = size ** -0.5 if self.scale is None else self.scale
        need, have = K * size * (16 + self.net.dtype.itemsize), memory_left()       # drawn in float64, then cast
        if need > have:
            raise BuildError(layer.path, f"a feedback matrix of {K} x {size}, {need / 2**30:.1f} GiB to draw it",
                             f"at most the {have / 2**30:.1f} GiB left", "use a smaller net or form='biotorch'")
        return Broadcast(self.put(rng.uniform(-m, m, (K, size))), self.signal, flat=True)

    def attach(self, net, seed=0, layers=None):
        super().attach(net, seed, layers)
        for block in residuals(net) if self.residual != "biotorch" else ():
            inside = [layer for layer in weighted(block.branch) if layer in self.layers]
            for holder in holders(block.shortcut) if inside else ():
                holder.feedback = Cut()
            for layer in inside[1:] if self.residual == "block" else ():
                layer.feedback = Transport()
        return self


class DirectFeedbackAlignment(DirectRule):
    flows = True
    idea = "the output error goes straight to every hidden layer through a fixed random matrix"
    paper = "Nokland 2016"

    def signal(self, tape):
        return tape.error

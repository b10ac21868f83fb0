"""Feedback is an object on a layer: it takes a delta one weighted layer down.

The walk down is the same under every rule; only `carry` differs. With x the layer's input (T, ..., nb), d the delta at
its output and W its weight:

    Transport   adjoint(d, W)                 backprop: the forward weight itself
    Matrix      adjoint(d, B)                 B shaped like W, fixed or learned (feedback alignment, Kolen-Pollack)
    Product     adjoint(mix(d, B), R)         through an intermediate population; mix(d, B) = B' d over channels
    Broadcast   adjoint(spread(e), B)         the output error e straight to the layer's input; d is not read
    Through     d                             a Port's identity
    Cut         0                             nothing goes down, at no cost
"""
from nplearn.backend import array_module
from nplearn.columns import everywhere, nothing_like, over_channels
from nplearn.errors import unwritten
from nplearn.kernels.lanes import MayFlow, call
from nplearn.params import Param


class Feedback(MayFlow):
    """What takes a delta from a layer's output to its input.

    carry(layer, d, x, tape)    the error at the input, shaped like x
    collect(layer, d, x, tape)  gradients of the feedback's own parameters, where the walk gives them
    effective(layer)            the array to compare with W (None where there is none, as for a broadcast)
    params(), fixed()           {name: Param} that learn; {name: array} drawn once and never moved
    become_exact(layer)         set the feedback to W, so that the walk is backprop; False where that has no meaning
    linear                      carry(d + e) is carry(d) + carry(e), as rules need whose errors settle
    """

    linear = True
    says = ""                                           # in words, for `python -m nplearn scope`

    def carry(self, layer, d, x, tape):
        raise unwritten(self, "carry(self, layer, d, x, tape)", layer.path)

    def collect(self, layer, d, x, tape):
        pass

    def effective(self, layer):
        return None

    def params(self):
        return {}

    def fixed(self):
        return {}

    def become_exact(self, layer):
        return False


class Transport(Feedback):
    flows = True
    says = "exact backprop: the layer's own W"

    def carry(self, layer, d, x, tape):
        return layer.adjoint(d, layer.weight.value, x.shape)

    def effective(self, layer):
        return layer.weight.value

    def become_exact(self, layer):
        return True


class Matrix(Feedback):
    """A matrix B of the weight's shape in W's place; `learns` says whether a rule moves it."""

    flows = True

    def __init__(self, B, learns=False):
        self.matrix, self.learns = Param(B), learns
        self.says = "a learned matrix B" if learns else "a fixed random matrix B"

    def carry(self, layer, d, x, tape):
        return layer.adjoint(d, self.matrix.value, x.shape)

    def effective(self, layer):
        return self.matrix.value

    def params(self):
        return {"matrix": self.matrix} if self.learns else {}

    def fixed(self):
        return {} if self.learns else {"matrix": self.matrix.value}

    def become_exact(self, layer):
        self.matrix.value[...] = layer.weight.value
        return True


class Product(Feedback):
    """Two steps: the fixed `lift` B (n_out, N) mixes the delta, the learned `lower` R (W's kind) takes it down.

    The path is P = B R. Its gradient is outer(x, B' d) = B' outer(x, d); `collapsed` computes P and the right-hand side
    once a batch (cheaper where a weight is used often, as in convolutions), else both products are taken per sample.
    """

    flows = True
    says = "a learned path B R through an intermediate population"

    def __init__(self, lift, lower, collapsed=False, mask=None):
        self.lift, self.lower, self.collapsed, self.mask = lift, Param(lower), collapsed, mask
        if mask is not None:                            # zeros of a sparse R stay zero after every step
            self.lower.project = lambda R: R.__imul__(mask)

    def carry(self, layer, d, x, tape):
        if self.collapsed:
            return layer.adjoint(d, self.effective(layer), x.shape)
        return layer.adjoint(self.mixed(layer, d, tape), self.lower.value, x.shape)

    def collect(self, layer, d, x, tape):
        if not self.collapsed:
            tape.add(self.lower, layer.outer(x, self.mixed(layer, d, tape)))

    def mixed(self, layer, d, tape):
        """B' d, which both ways want."""
        return tape.once(layer, d, lambda: layer.mix(d, self.lift))

    def gather(self, layer):
        """The gradient of `lower` from the whole batch's weight gradient, where the path is collapsed."""
        if self.collapsed:
            self.lower.grad[...] = layer.widen(layer.weight.grad, self.lift)

    def effective(self, layer):
        return layer.widen(self.lower.value, self.lift.T)

    def params(self):
        return {"lower": self.lower}

    def fixed(self):
        return {"lift": self.lift} if self.mask is None else {"lift": self.lift, "mask": self.mask}

    def become_exact(self, layer):
        """R := B' W, after the rows of B are made orthonormal (B B' = I)."""
        self.lift[...] = orthonormal_rows(self.lift)
        self.lower.value[...] = layer.widen(layer.weight.value, self.lift)
        return True


class Broadcast(Feedback):
    """A signal of K numbers per sample goes to every position of the layer's output and from there through B.

    flat=False  B is of the weight's kind with K outputs: adjoint(spread(signal), B); one kernel for all positions
    flat=True   B is (K, size of the layer's input): every unit of the input has a row of its own
    signal      a function of the tape -> (T, K, nb); the output error for direct feedback alignment
    """

    flows = True

    def __init__(self, B, signal, flat):
        self.matrix, self.signal, self.flat = B, signal, flat
        self.says = f"the output error through a fixed random matrix {'x'.join(map(str, B.shape))}"

    def carry(self, layer, d, x, tape):
        e = call(self.signal, tape)
        if self.flat:
            return over_channels(self.matrix.T, e).reshape(x.shape)
        seen = x.shape[1:-1]                            # where the layer is used on a map of another size, not its own
        shape = layer.out_shape if seen == layer.in_shape else layer.infer(seen)
        return layer.adjoint(everywhere(e, shape), self.matrix, x.shape)

    def fixed(self):
        return {"matrix": self.matrix}


class Through(Feedback):
    flows = True
    says = "exact: the identity"

    def carry(self, layer, d, x, tape):
        return d

    def become_exact(self, layer):
        return True


class Cut(Feedback):
    flows = True
    says = "none: nothing goes down"

    def carry(self, layer, d, x, tape):
        return nothing_like(x)


def orthonormal_rows(B):
    """The rows of B (n, N), n <= N, made orthonormal; blocks of zeros stay zero (B B' keeps them)."""
    xp = array_module(B)
    wide = B.astype("float64")
    return xp.linalg.solve(xp.linalg.cholesky(wide @ wide.T), wide)

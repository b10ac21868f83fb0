"""Parameters: a value and its gradient, both views into one flat buffer.

A `Param` is what an optimiser moves. An `Arena` lays many of them side by side (each on a 64-byte boundary), so that an
optimiser, a checkpoint or an all-reduce sees one flat array. Weights of a net live in one arena; what a rule learns in
its feedback lives in another.
"""
from nplearn.backend import array_module
from nplearn.kernels.workspace import ALIGN, zeros


class Param:
    """One array that learns, and its gradient.

    value    the array; the gradient has its shape and dtype
    kind     "weight", "bias" or "norm": optimisers may spare biases and normalisation from decay; "measured": a rule
             writes it itself, and no optimiser moves it
    project  None, or a function that restores a constraint on the value, in place, after each optimiser step
    """

    def __init__(self, value, kind="weight"):
        self.value, self.grad = value, array_module(value).zeros_like(value)
        self.kind, self.path, self.project = kind, "", None

    def __repr__(self):
        return f"Param({self.path or '?'}, {'x'.join(map(str, self.value.shape))}, {self.kind})"


class Arena:
    """Params side by side: `value` and `grad` are flat, and each Param's arrays become views of them.

    The few entries of padding between Params are zero in both and stay zero under every optimiser.
    """

    def __init__(self, params):
        self.params = list(params)
        first = self.params[0].value
        xp, step = array_module(first), ALIGN // first.dtype.itemsize
        starts, n = [], 0
        for p in self.params:
            starts.append(n)
            n += -(-p.value.size // step) * step
        self.value, self.grad = (zeros(xp, (n,), first.dtype) for _ in range(2))
        self.slices = [slice(s, s + p.value.size) for s, p in zip(starts, self.params, strict=True)]
        for p, s in zip(self.params, self.slices, strict=True):
            self.value[s], self.grad[s] = p.value.ravel(), p.grad.ravel()
            p.value, p.grad = self.value[s].reshape(p.value.shape), self.grad[s].reshape(p.grad.shape)

    def pieces(self):
        """[(value, grad, slice)] to walk: the whole, cut where a Param was given another's gradient for its own."""
        xp, found, start = array_module(self.value), [], 0
        for p, s in zip(self.params, self.slices, strict=True):
            if not xp.shares_memory(p.grad, self.grad[s]) and p.grad.size:
                found += [(self.value[start:s.start], self.grad[start:s.start], slice(start, s.start)),
                          (self.value[s], p.grad.reshape(-1), s)]
                start = s.stop
        found.append((self.value[start:], self.grad[start:], slice(start, self.value.size)))
        return [piece for piece in found if piece[0].size]

    @property
    def nbytes(self):
        return self.value.nbytes

    def project(self):
        """Restore every constraint; optimisers call it after each step."""
        for p in self.params:
            if p.project is not None:
                p.project(p.value)

    def where(self, chosen):
        """A flat 0/1 array over the entries of those Params for which `chosen(param)` holds."""
        mask = array_module(self.value).zeros_like(self.value)
        for p, s in zip(self.params, self.slices, strict=True):
            mask[s] = bool(chosen(p))
        return mask

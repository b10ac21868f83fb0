"""Watching a step: what it multiplies, moves and draws, noted as it happens; `cost` adds the notes up.

Operators, passes and optimisers' steps are shadowed on the objects. The step's arrays are of a class that sees every
call of NumPy, so that a rule's own products count too. Inside an operator nobody looks: it counts for all its kernel
does.
"""
import inspect
import sys
from contextlib import contextmanager, nullcontext
from math import isqrt, prod

import numpy as np

from nplearn.backend import stream
from nplearn.layers import Layer, Weighted
from nplearn.metrics.unchanged import reachable
from nplearn.optim.base import Optimiser
from nplearn.params import Param


class Watch:
    """Notes what a step does: methods of layers and optimisers are shadowed on the objects, the step's arrays are Seen.

    blind  inside an operator, which counts for all that its kernel does; whole  inside what says its own bytes
    """

    def __init__(self):
        self.notes = []                                 # (phase, path, operation, *Counts); lanes append to it too
        self.phase, self.path, self.blind, self.whole = "forward", "", False, False

    def note(self, operation, multiply_adds=0, bytes=0, draws=0):
        self.notes.append((self.phase, self.path, operation, multiply_adds, bytes, draws))

    def rest(self, operation, start, bytes):
        """Note bytes that include those noted since `start`."""
        self.note(operation, bytes=max(0, bytes - sum(note[4] for note in self.notes[start:])))

    @contextmanager
    def at(self, path, **how):
        """For a while notes are of `path`; blind=True, whole=True."""
        outside = {name: getattr(self, name) for name in ("path", *how)}
        vars(self).update(path=path, **how)
        try:
            yield
        finally:
            vars(self).update(outside)

    def see(self, x):
        """The array x, as one that tells what is computed with it; anything else as it is."""
        if not isinstance(x, np.ndarray):
            return x
        x = x.view(Seen)
        x.watch = self
        return x

    @contextmanager
    def over(self, *roots):
        """Shadow all that the roots hold, and `stream`; `unchanged` takes the shadows off the objects again."""
        for held in reachable(*roots):
            if isinstance(held, Layer):
                self.shadow(held)
            elif isinstance(held, Optimiser):
                held.step = self.counted_step(held)
            elif isinstance(held, Param):
                held.value, held.grad = self.see(held.value), self.see(held.grad)
            for name, x in list(getattr(held, "__dict__", {}).items()):
                if isinstance(x, np.random.Generator):
                    setattr(held, name, Drawn(x, self))
        true = stream                                   # this module's own name is among those that are lent out
        modules = [m for m in list(sys.modules.values()) if getattr(m, "__dict__", {}).get("stream") is true]
        try:
            for module in modules:
                module.stream = lambda *key: Drawn(true(*key), self)
            yield
        finally:
            for module in modules:
                module.stream = true

    def shadow(self, layer):
        for name in ("forward", "backward", "tangent"):
            setattr(layer, name, self.counted_pass(layer, name))
        for name in OPERATORS if isinstance(layer, Weighted) else ():
            setattr(layer, name, self.counted_operator(layer, name))

    def counted_operator(self, layer, name):
        call = getattr(layer, name)
        signature = inspect.signature(call)

        def counted(*args, **options):
            if self.blind:                              # a transposed layer asks another one: counted once
                return call(*args, **options)
            given = signature.bind(*args, **options).arguments
            operands = [plain(x) for key, x in given.items() if key != "out"][:2]
            with self.at(layer.path, blind=True):
                result = call(*map(plain, args), **{key: plain(x) for key, x in options.items()})
                self.note(name, OPERATORS[name](layer, result, *operands), touched(operands) + touched(result))
            out = given.get("out")                      # which an operator may fill, or leave alone
            return out if out is not None and np.may_share_memory(out, result) else self.see(result)
        return counted

    def counted_pass(self, layer, name):
        """What a container does itself is seen, and on the way down what feedback does. Elsewhere the layer says its
        bytes, less those of its operators; what its kernel does is its own affair."""
        call, weighted = getattr(layer, name), hasattr(layer, "feedback")
        seen = layer.children() or (weighted and name != "forward")
        how = {"whole": True} if weighted else {"blind": True}

        def counted(x, tape=None):
            start, kept = len(self.notes), []
            with self.at(layer.path):
                if seen or self.blind:
                    return self.see(call(x, tape))
                asked = "keep" if name == "forward" else "take"
                with self.at(layer.path, **how), listening(tape, asked, kept) if tape else nullcontext():
                    y = call(x if weighted else plain(x), tape)
                if not any(np.may_share_memory(a, b) for a in arrays_in(x) for b in arrays_in(y)):  # not a view of x
                    params = layer.params().values()
                    filled = [p.grad for p in params] if name == "backward" and tape.collects else []
                    self.rest(name, start, touched([x, y, kept, [p.value for p in params], filled]))
                return self.see(y)
        return counted

    def counted_step(self, optimiser):
        call = optimiser.step

        def counted():
            start, W, slots = len(self.notes), optimiser.arena.value, list(optimiser.slots.values())
            masks = [x for x in vars(optimiser).values() if isinstance(x, np.ndarray) and x.shape == W.shape]
            with self.at("", whole=True):
                call()
            with self.at(""):
                self.rest("step", start, touched([W, optimiser.arena.grad, slots, masks]) + touched([W, slots]))
        return counted


@contextmanager
def listening(tape, name, heard):
    """Put what the tape's `keep` is given, or its `take` gives, into `heard`."""
    def call(layer, *value):
        result = getattr(type(tape), name)(tape, layer, *value)
        heard.append(value or result)
        return result
    setattr(tape, name, call)
    try:
        yield
    finally:
        delattr(tape, name)


def through(layer, d):
    """Multiply-adds of an operator, from the array on the output's side: its entries times the weights each meets."""
    return d.size * layer.weight.value.size * layer.uses // prod(layer.out_shape)


OPERATORS = {                                           # multiply-adds, from the result and two operands
    "apply": lambda layer, a, x, W: through(layer, a),
    "adjoint": lambda layer, dx, d, W: through(layer, d),
    "outer": lambda layer, dW, x, d: through(layer, d),
    "mix": lambda layer, q, d, B: q.size * len(B),
    "widen": lambda layer, wide, W, B: wide.size * len(B),
    "over_bias": lambda layer, db, d: 0,
}


class Seen(np.ndarray):
    """An array of a step: what NumPy computes with it is noted by `watch`."""

    def __array_finalize__(self, source):
        self.watch = getattr(source, "watch", None)

    def __array_ufunc__(self, ufunc, method, *args, out=(), **options):
        options = {key: plain(x) for key, x in options.items()} | ({"out": tuple(map(plain, out))} if out else {})
        watch = who_watches(args, out)
        result = getattr(ufunc, method)(*map(plain, args), **options)
        if result is NotImplemented or watch.blind:
            pass
        elif ufunc.__name__ in ("matmul", "matvec", "vecmat"):
            watch.note("product", np.size(result) * np.shape(args[0])[-1], touched(args) + touched(result))
        elif not watch.whole:
            watch.note("elementwise", bytes=touched(args) + touched(result))
        if out:
            return out[0] if len(out) == 1 else out
        return tuple(map(watch.see, result)) if isinstance(result, tuple) else watch.see(result)

    def __array_function__(self, function, types, args, kwargs):
        if function not in PRODUCTS:
            return super().__array_function__(function, types, args, kwargs)
        result = function(*map(plain, args), **{key: plain(x) for key, x in kwargs.items()})
        watch = who_watches(args, kwargs.values())
        if not watch.blind:
            watch.note("product", PRODUCTS[function](result, *args), touched(args) + touched(result))
        return watch.see(result)

    def dot(self, other, out=None):                     # the method alone would go unseen
        return np.dot(self, other) if out is None else np.dot(self, other, out)


def who_watches(*operands):
    """The Watch of the first that has one; a fresh one, which nobody asks, for arrays that were made to look Seen."""
    return next((x.watch for some in operands for x in some if isinstance(x, Seen) and x.watch), None) or Watch()


def contraction(result, a, b, *more):
    """M N K, from M K, K N and M N."""
    return isqrt(np.size(a) * np.size(b) * np.size(result))


def einsum(result, subscripts, *operands):
    """Every combination of the indices, where they are given in a string."""
    if not isinstance(subscripts, str):
        return 0
    sizes = {}
    for labels, x in zip(subscripts.replace(" ", "").partition("->")[0].split(","), operands, strict=True):
        several = np.ndim(x) - len(labels.replace("...", ""))
        labels = labels.replace("...", "0123456789"[10 - several:])     # broadcast from the right
        sizes.update({i: max(n, sizes.get(i, 1)) for i, n in zip(labels, np.shape(x), strict=True)})
    return prod(sizes.values())


def sides(a):
    """How many matrices are in the stack a, and the larger and the smaller side of one."""
    return prod(np.shape(a)[:-2]), max(np.shape(a)[-2:]), min(np.shape(a)[-2:])


def elimination(result, a, b):
    """n^3 / 3 to factorise, n^2 for each right-hand side."""
    count, n, _ = sides(a)
    return count * n ** 3 // 3 + n * np.size(result)


def inversion(result, a):
    """n^3: a third to factorise, and two for the inverse from the factors."""
    count, n, _ = sides(a)
    return count * n ** 3


def eigenvalues(result, a):
    """Hessenberg form and QR: 5 n^3, with vectors 25 n^3 / 2."""
    count, n, _ = sides(a)
    return count * (25 * n ** 3 // 2 if isinstance(result, tuple) else 5 * n ** 3)


def singular_values(result, a, *options):
    """Golub and Reinsch: 2 m n^2 - 2 n^3 / 3, with both sets of vectors 7 m n^2 + 4 n^3."""
    count, m, n = sides(a)
    return count * (7 * m * n ** 2 + 4 * n ** 3 if isinstance(result, tuple) else 2 * m * n ** 2 - 2 * n ** 3 // 3)


def pseudoinversion(result, a, *options):
    """Singular values with their vectors, and the product of both sets."""
    count, m, n = sides(a)
    return singular_values((), a) + count * m * n ** 2


PRODUCTS = {np.dot: contraction, np.inner: contraction, np.tensordot: contraction, np.einsum: einsum,
            np.linalg.solve: elimination, np.linalg.inv: inversion, np.linalg.pinv: pseudoinversion,
            np.linalg.svd: singular_values, np.linalg.cond: singular_values,
            np.linalg.eig: eigenvalues, np.linalg.eigvals: eigenvalues}


class Drawn:
    """A random generator whose draws are noted by `watch`."""

    def __init__(self, generator, watch):
        self.generator, self.watch = generator, watch

    def __getattr__(self, name):
        found = getattr(self.generator, name)
        if name == "spawn" or not callable(found):
            return found

        def draw(*args, **options):
            result, watch = found(*args, **options), self.watch
            made = args[0] if result is None else result        # shuffled in place
            watch.note("draw", bytes=0 if watch.whole or watch.blind else touched(made), draws=np.size(made))
            return watch.see(result)
        return draw


def plain(x):
    return x.view(np.ndarray) if isinstance(x, Seen) else x


def arrays_in(x):
    """The arrays in x, which may be one or hold some."""
    if isinstance(x, np.ndarray):
        return [x]
    return [array for part in x for array in arrays_in(part)] if isinstance(x, list | tuple) else []


def touched(x):
    """Bytes of the arrays in x, each stretch of memory once, however often it is repeated by a broadcast."""
    found = []
    for array in sorted(arrays_in(x), key=lambda array: -array.nbytes):
        if not any(np.may_share_memory(array, other) for other in found):
            found.append(array)
    return sum(x.itemsize * prod(n for n, step in zip(x.shape, x.strides, strict=True) if step) for x in found
               if any(x.strides) or x.ndim == 0)

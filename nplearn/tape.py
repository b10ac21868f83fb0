"""A tape is one pass of one batch: input, labels, loss, what each layer keeps, output, value per sample, error.

Layers hold parameters and nothing else between passes, so two passes (a probe beside the real one, a free and a nudged
phase, a second forward pass) never disturb each other. A walk down reads the tape and does not consume it.

    tape = Tape(net, loss)
    tape.begin(inputs, labels, seed=(run, step))       rows become columns; the last pass is forgotten
    tape.run(net)                                      output, values, error
    net.backward(tape.error, tape)                     a walk: gradients
    tape.walk(exact=True)                              another way down the same pass
    tape.again()                                       another pass of the same batch, with the same random draws

Mode "train" uses batch statistics and moves running averages; "probe" uses batch statistics and moves nothing.
"""
from copy import copy

import numpy as np

from nplearn.backend import stream, to_host
from nplearn.columns import columns, count
from nplearn.errors import BuildError, SettingError


class Tape:
    """One pass of one batch through `net`, whose error is that of `loss`.

    input    (T, ..., nb) columns            labels  (T, nb) classes, or columns like the output
    output   what the net made of the input  values  (T, nb) loss per sample
    error    gradient of the mean loss over the batch with respect to the output, structured as it
    deltas   {layer: [delta, ...]} of the last walk, top visit first, where `records` asks for them
    """

    exact = False           # walk through each layer's exact feedback instead of the one it holds
    collects = True         # fill gradients on the way down
    records = False         # keep every delta of the walk in `deltas`
    up = False              # read a layer's visits in forward order (for `tangent`)
    joins = False           # its gradients and deltas add to those of the walk it came from: a sweep of a relaxation

    def __init__(self, net, loss=None, mode="train"):
        self.net, self.loss, self.mode = net, loss, mode
        self._forget()

    def _forget(self):
        self.kept, self.output, self.values, self.error = {}, None, None, None
        self._rewind()

    def _rewind(self):
        self._taken, self._made = {}, None
        if not self.joins:
            self.deltas, self._visited = {}, set()

    # -- the pass ---------------------------------------------------------------------------------------------------

    def begin(self, inputs, labels=None, seed=0):
        """Take a batch as rows: inputs (N, features) or (N, H, W, C), labels (N,) classes or (N, ...) targets."""
        net, inputs = self.net, np.asarray(inputs) if isinstance(inputs, (list, tuple)) else inputs
        net.check(inputs)
        self.labels = None
        if labels is not None:
            labels = np.asarray(labels) if isinstance(labels, (list, tuple)) else labels
            if self.loss is not None:
                self.loss.check(to_host(labels), len(inputs), net.out_shape)
            self.labels = net.device.put(columns(labels, net.chunk(len(inputs))))
            if self.labels.dtype.kind == "f":           # targets in the net's precision, so that the error is
                self.labels = self.labels.astype(net.dtype, copy=False)
        self.input = net.columns(inputs)
        self.seed = seed
        self._forget()
        return self

    def run(self, net=None):
        """Forward pass and loss; fills output, values and error; returns the mean loss as a float."""
        if self.loss is None or self.labels is None:
            raise BuildError("tape", "no loss" if self.loss is None else "no labels", "both, to run to the error",
                             "make it with Tape(net, loss) and begin it with labels")
        self.output = (net or self.net).forward(self.input, self)
        self.values, self.error = self.loss(self.output, self.labels)
        return float(self.values.sum()) / self.count

    @property
    def count(self):
        """N, how many samples the batch has."""
        return count(self.input)

    @property
    def target(self):
        """The labels as the loss wants the output to be: one-hot classes, or the targets themselves."""
        return self.loss.target(self.labels, self.output)

    def again(self, **how):
        """Another pass of the same batch: same labels, same draws, nothing kept yet; mode "probe" unless told."""
        other = self._told(how)
        vars(other).update({"mode": "probe", "exact": False, "collects": True, "up": False, "joins": False, **how})
        other._forget()
        return other

    def walk(self, **how):
        """Another way down (or, with up=True, up) this pass: exact=..., collects=..., records=..."""
        other = self._told(how)
        other.kept = {layer: list(values) for layer, values in self.kept.items()}
        other._rewind()
        return other

    def _told(self, how):
        """A copy with the settings `how`, which must exist: a misspelt one would change nothing, silently."""
        other = copy(self)
        for name, value in how.items():
            if not hasattr(self, name):
                raise SettingError("tape", f"{name!r}", "exact, collects, records, up, joins or mode",
                                   "choose of these")
            setattr(other, name, value)
        return other

    # -- what layers ask --------------------------------------------------------------------------------------------

    def keep(self, layer, value):
        """Remember `value` for this visit of `layer`; an array in it may be unwritten until the pass has returned."""
        self.kept.setdefault(layer, []).append(value)

    def seen(self, layer):
        """Everything that `layer` kept in this pass, in the order of its visits; valid at any time."""
        return self.kept[layer]

    def arrive(self, net):
        """A walk that starts at the very top starts anew: called by containers at their start, and by `take`."""
        if net is self.net:
            self._rewind()

    def take(self, layer):
        """What `layer` kept at the visit that this walk has come to (the last first, on the way down)."""
        self.arrive(layer)
        n = self._taken.get(layer, 0)
        self._taken[layer] = n + 1
        try:
            return self.kept[layer][n if self.up else -1 - n]
        except LookupError as error:
            visits = len(self.kept.get(layer, ()))
            raise BuildError(layer.path or type(layer).__name__, f"a walk comes by for visit {n + 1}",
                             f"{visits} visits, as the pass made", "run net.forward(x, tape) first") from error

    def feedback(self, layer):
        """The feedback this walk goes through: the layer's own, or the exact one."""
        return layer.exact if self.exact else layer.feedback

    def add(self, param, gradient):
        """The one writer of gradients: assigns on a Param's first visit in a walk and adds after that."""
        if param in self._visited:
            param.grad += gradient
            return
        if gradient is not param.grad:
            param.grad[...] = gradient
        self._visited.add(param)

    def room(self, param):
        """Where the gradient that is about to be added may be computed to save a copy; None if it is to be summed."""
        return None if param in self._visited else param.grad

    def once(self, layer, d, make):
        """make() for the delta d of a layer, or what it gave when last asked for both: for `collect` and `carry`."""
        if self._made is None or self._made[0] is not layer or self._made[1] is not d:
            self._made = layer, d, make()
        return self._made[2]

    def record(self, layer, delta):
        """Keep a delta for whoever asked (`records`); it may be unwritten until the walk has returned."""
        if self.records:
            self.deltas.setdefault(layer, []).append(delta)

    def rng(self, layer, *key):
        """The random generator of this pass, layer and visit: a function of seed, path and visit alone."""
        return stream(self.seed, "pass", layer.path, len(self.kept.get(layer, ())), *key)

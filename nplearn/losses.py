"""Losses: a value per sample, and the gradient of their mean over the batch with respect to the output.

With output y (T, K, nb), N samples, class c or target t (T, K, nb):

    SoftmaxCrossEntropy   -log softmax(y)_c                          error (softmax(y) - onehot(c)) / N
    SquaredError          1/2 sum_k (y_k - t_k)^2                    error (y - t) / N
    SigmoidCrossEntropy   -sum_k t_k log s(y_k) + (1-t_k) log(1-s(y_k))   error (s(y) - t) / N

The 1/N stands in the error, so every gradient below it is of the mean loss. Where a target is wanted, class labels
(integers) are read as one-hot.
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.columns import count, one_hot, outside
from nplearn.errors import BuildError


class Loss:
    """loss(output, labels) -> (values (T, nb), error like output)."""

    classes_only = False

    def __call__(self, output, labels):
        raise NotImplementedError  # abstract

    def target(self, labels, output):
        """The labels in the shape of the output: one-hot classes, or the given targets."""
        return one_hot(labels, output.shape[1], output.dtype) if labels.dtype.kind in "iu" else labels

    def probability(self, output):
        """What the output says in the units of the target."""
        return output

    def check(self, labels, n, out_shape):
        """Labels, as rows on the host, fit a batch of n and an output of `out_shape`: or BuildError."""
        classes = out_shape[0]
        if labels.dtype.kind in "iu":
            if len(out_shape) != 1:
                raise BuildError("labels", f"class labels for a net whose output is {outside(out_shape)}",
                                 "an output of one axis", "end the net in one number per class")
            if labels.shape != (n,):
                raise BuildError("labels", f"shape {labels.shape}", f"({n},), one class per input",
                                 "pass one integer per input")
            if n and labels.astype(np.uint64).max() >= classes:         # which a negative one wraps to
                bad = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
                raise BuildError("labels", f"label {labels[bad]} at position {bad}",
                                 f"0 to {classes - 1}, as the net has {classes} outputs",
                                 "check the labels or the size of the last layer")
        elif self.classes_only:
            raise BuildError("labels", f"dtype {labels.dtype}", "integers", f"{type(self).__name__} takes class labels")
        elif labels.shape != (n, *outside(out_shape)):
            raise BuildError("labels", f"shape {labels.shape}", f"{(n, *outside(out_shape))}",
                             "give a target like the output, in rows")


class SoftmaxCrossEntropy(Loss):
    classes_only = True

    def __call__(self, output, labels):
        xp, hot = array_module(output), self.target(labels, output)
        shifted = output - output.max(axis=1, keepdims=True)
        e = xp.exp(shifted)
        total = e.sum(axis=1, keepdims=True)
        shifted *= hot
        values = xp.log(total[:, 0]) - shifted.sum(axis=1)
        e /= total
        e -= hot
        e /= count(output)
        return values, e

    def probability(self, output):
        e = array_module(output).exp(output - output.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)


class SquaredError(Loss):
    def __call__(self, output, labels):
        e = output - self.target(labels, output)
        flat = e.reshape(e.shape[0], -1, e.shape[-1])
        return (flat * flat).sum(axis=1) / 2, e / count(output)


class SigmoidCrossEntropy(Loss):
    def __call__(self, output, labels):
        xp, t = array_module(output), self.target(labels, output)
        terms = xp.maximum(output, 0) - output * t + xp.log1p(xp.exp(-abs(output)))     # no overflow on either side
        values = terms.reshape(terms.shape[0], -1, terms.shape[-1]).sum(axis=1)
        return values, (self.probability(output) - t) / count(output)

    def probability(self, output):
        xp = array_module(output)
        return (1 + xp.tanh(output / 2)) / 2

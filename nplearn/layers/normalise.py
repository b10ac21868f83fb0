"""Each sample divided by its root mean square: what is left of an activity is its direction.

    r = sqrt(mean x^2)        y = x / (r + eps)          mean over the entries of one sample, features or a whole map
    dx = (d - u mean(d y)) / (r + eps)                   u = x / r (0 for a sample of zeros)

The Jacobian is symmetric, so a tangent goes up as an error goes down. A sample of zeros stays one, and its error is
divided by eps: few rules should send one there.
Source: Hinton 2022, The Forward-Forward Algorithm, arXiv 2212.13345, section 2.1.
"""
from nplearn.backend import array_module
from nplearn.columns import beside, sample_sum
from nplearn.errors import SettingError
from nplearn.layers.base import Layer


class Normalise(Layer):
    """`Normalise()`: mean square 1 in each sample, whatever the others are."""

    forgets_length = True                               # of its input: it cannot be read off the output

    def __init__(self, eps=1e-8):
        if not eps > 0:
            raise SettingError("Normalise", f"eps {eps!r}", "a number above 0", "leave it at 1e-8")
        self.eps = eps

    def serves(self, in_shape):
        return True

    def forward(self, x, tape=None):
        r = mean(x * x) ** 0.5
        y = x / beside(r + self.eps, x)
        if tape is not None:
            tape.keep(self, (x, y, r))
        return y

    def backward(self, d, tape):
        x, y, r = tape.take(self)
        along = mean(d * y) / array_module(r).where(r > 0, r, 1)
        return (d - x * beside(along, x)) / beside(r + self.eps, x)

    def tangent(self, v, tape):
        return self.backward(v, tape)


def mean(x):
    """(T, nb): over the entries of each sample."""
    return sample_sum(x) / (x.size // (x.shape[0] * x.shape[-1]))

"""Dropout: in a training pass each unit is zero with probability p, and the others are divided by 1 - p.

The mask is a function of the tape's seed, the layer's path and the visit, drawn in the order of rows: another pass of
the same batch (`tape.again()`) sees the same mask, however the batch is cut. Without a tape nothing is dropped.
Source: Srivastava et al. 2014, JMLR 15:1929.
"""
import numpy as np

from nplearn.columns import draw_rows
from nplearn.errors import SettingError
from nplearn.layers.base import Layer


class Dropout(Layer):
    """`Dropout(p)`: p in [0, 1)."""

    def __init__(self, p=0.5):
        if not 0 <= p < 1:
            raise SettingError("Dropout", f"p = {p}", "0 <= p < 1", "choose a probability")
        self.p = p

    def serves(self, in_shape):
        return True

    def forward(self, x, tape=None):
        if tape is None:
            return x
        rng = tape.rng(self)
        mask = draw_rows(lambda shape: rng.random(shape, np.float32) >= self.p, x) / x.dtype.type(1 - self.p)
        tape.keep(self, mask)
        return x * mask

    def backward(self, d, tape):
        return d * tape.take(self)

    def tangent(self, v, tape):
        return v * tape.take(self)

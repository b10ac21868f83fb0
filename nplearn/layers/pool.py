"""Pooling over maps (T, H, C, W, nb): the largest, or the mean, of each window; or of the whole map."""
from nplearn.columns import batch_shape
from nplearn.errors import BuildError
from nplearn.kernels import pool
from nplearn.layers.base import Layer
from nplearn.layers.windowed import Windowed, need_map


class Pool(Windowed, Layer):
    """A window of `kernel`, moved by `stride` (the kernel's size unless given), over a map padded as Conv2d's is."""

    def __init__(self, kernel, stride=None, padding="valid"):
        self.settle(kernel, kernel if stride is None else stride, padding)

    def infer(self, in_shape):
        out, pads = self.over_map(in_shape), self.window_for(in_shape[0], in_shape[2]).pads
        if any(p >= k for around, k in zip(pads, self.kernel, strict=True) for p in around):
            raise BuildError(self.path or type(self).__name__, f"padding {pads}",
                             f"less than the window of {self.kernel}", "a window must see the map")
        return out

    def make(self, ground):
        self.window = self.window_for(self.in_shape[0], self.in_shape[2])


class MaxPool2d(Pool):
    """The largest of each window; on the way down the first tap that reached it takes all."""

    flows = settles = True

    def forward(self, x, tape=None):
        y = pool.max_forward(x, self.window)
        if tape is not None:
            tape.keep(self, pool.winners(x, y, self.window))
        return y

    def backward(self, d, tape):
        return pool.max_backward(d, tape.take(self), self.window)

    def tangent(self, v, tape):
        return pool.max_tangent(v, tape.take(self), self.window)


class AvgPool2d(Pool):
    """The mean of each window; padding counts as zeros."""

    flows = settles = True

    def forward(self, x, tape=None):
        return pool.mean_forward(x, self.window)

    def backward(self, d, tape):
        return pool.mean_backward(d, batch_shape(self.in_shape, d), self.window)

    def tangent(self, v, tape):
        return pool.mean_forward(v, self.window)


class GlobalAvgPool(Layer):
    """(H, C, W) -> (C,): each channel's mean over the map."""

    flows = settles = True

    def infer(self, in_shape):
        return (need_map(self, in_shape)[1],)

    def forward(self, x, tape=None):
        return pool.map_mean(x)

    def backward(self, d, tape):
        return pool.map_mean_backward(d, batch_shape(self.in_shape, d))

    def tangent(self, v, tape):
        return pool.map_mean(v)

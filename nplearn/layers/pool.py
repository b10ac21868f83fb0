"""Pooling over maps (T, H, C, W, nb): the largest, or the mean, of each window; or of the whole map."""
from nplearn.backend import array_module
from nplearn.columns import batch_shape
from nplearn.errors import BuildError
from nplearn.kernels import pool
from nplearn.kernels.lanes import share
from nplearn.kernels.workspace import empty
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

    flows = True

    def forward(self, x, tape=None):
        y = pool.max_forward(x, self.window)
        if tape is not None:
            won = pool.winners(x, y, self.window)
            tape.keep(self, (x, y) if won is None else (won,))
        return y

    def backward(self, d, tape):
        kept = tape.take(self)
        return pool.to_winners(d, *kept) if len(kept) == 1 else pool.max_backward(d, *kept, self.window)

    def tangent(self, v, tape):
        kept = tape.take(self)
        return pool.from_winners(v, *kept) if len(kept) == 1 else pool.max_tangent(v, *kept, self.window)


class AvgPool2d(Pool):
    """The mean of each window; padding counts as zeros."""

    flows = True

    def forward(self, x, tape=None):
        return pool.mean_forward(x, self.window)

    def backward(self, d, tape):
        return pool.mean_backward(d, (d.shape[0], *self.in_shape, d.shape[-1]), self.window)

    def tangent(self, v, tape):
        return pool.mean_forward(v, self.window)


class GlobalAvgPool(Layer):
    """(H, C, W) -> (C,): each channel's mean over the map."""

    flows = True

    def infer(self, in_shape):
        return (need_map(self, in_shape)[1],)

    def forward(self, x, tape=None):
        return pool.map_mean(x)

    def backward(self, d, tape):
        H, _, W = self.in_shape
        dx = empty(array_module(d), batch_shape(self.in_shape, d), d.dtype)

        def one(t):
            dx[t] = (d[t] / (H * W))[:, None]
        share(len(d), one)
        return dx

    def tangent(self, v, tape):
        return pool.map_mean(v)

"""A two-dimensional convolution (cross-correlation, as in every framework).

    x (T, H, C, W, nb), W (n_out, kh, kw, C / groups), a (T, H', n_out, W', nb), bias (n_out, 1, 1)
    a[h, o, w] = sum over taps i, j and channels c of its group   W[o, i, j, c] x[h s + i d - top, c, w s + j d - left]
"""
from nplearn.errors import BuildError
from nplearn.kernels import conv
from nplearn.kernels.norm import channel_sum
from nplearn.layers.base import Weighted, whole
from nplearn.layers.initial import XAVIER
from nplearn.layers.windowed import Windowed


class Conv2d(Windowed, Weighted):
    """`Conv2d(n, kernel)`: n output channels from kernels of kh x kw; stride, padding and dilation as in `Windowed`.

    groups    the channels are cut into so many blocks that do not meet; groups = channels is a depthwise convolution
    """

    flows = laned = True

    def __init__(self, n, kernel, stride=1, padding="same", dilation=1, groups=1, bias=True, init=XAVIER):
        super().__init__(bias, init)
        self.n, self.groups = whole("Conv2d", "n", n), whole("Conv2d", "groups", groups)
        self.settle(kernel, stride, padding, dilation)

    def infer(self, in_shape):
        out = self.over_map(in_shape, self.n)
        if in_shape[1] % self.groups or self.n % self.groups:
            raise BuildError(self.path or "Conv2d", f"{in_shape[1]} channels in, {self.n} out, {self.groups} groups",
                             "groups that divide both", "change groups or the number of channels")
        return out

    def serves(self, in_shape):
        return in_shape[1] == self.in_shape[1]          # a map of another size

    def make(self, ground):
        H, C, W = self.in_shape
        self.window = self.window_for(H, W)
        self.uses = self.out_shape[0] * self.out_shape[2]
        self.column_bytes = ground.dtype.itemsize * self.kernel[1] * C * H * W
        super().make(ground)

    def window_of(self, shape):
        """The window for an activation of `shape`: the layer's own, or another where it is used on another map."""
        return self.window if (shape[1], shape[3]) == (self.in_shape[0], self.in_shape[2]) \
            else self.window_for(shape[1], shape[3])

    def weight_shape(self, n_out):
        return n_out, *self.kernel, self.in_shape[1] // self.groups

    def bias_shape(self):
        return self.n, 1, 1

    def fans(self, n_out):
        taps = self.kernel[0] * self.kernel[1]
        return taps * self.in_shape[1] // self.groups, taps * n_out

    def apply(self, x, W):
        return conv.apply(x, W, self.window_of(x.shape), self.groups)

    def adjoint(self, d, W, shape):
        return conv.adjoint(d, W, shape, self.window_of(shape), self.groups)

    def over_bias(self, d, out=None):
        if out is None:
            return channel_sum(d).astype(d.dtype).reshape(self.bias_shape())
        channel_sum(d, out.reshape(-1))
        return out

    def outer(self, x, d, out=None):
        return conv.outer(x, d, self.window_of(x.shape), self.groups, out)

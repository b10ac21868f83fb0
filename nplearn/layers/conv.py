"""A two-dimensional convolution (cross-correlation, as in every framework).

    x (T, H, C, W, nb), W (n_out, kh, kw, C / groups), a (T, H', n_out, W', nb), bias (n_out, 1, 1)
    a[h, o, w] = sum over taps i, j and channels c of its group   W[o, i, j, c] x[h s + i d - top, c, w s + j d - left]
"""
from nplearn.errors import BuildError
from nplearn.kernels import conv
from nplearn.kernels.window import Window, pads_for, pair
from nplearn.layers.base import Weighted
from nplearn.layers.initial import XAVIER


class Conv2d(Weighted):
    """`Conv2d(n, kernel)`: n output channels from kernels of kh x kw.

    padding   "same" (output ceil(n / stride), an odd pad goes below and right), "valid", a number,
              (vertical, horizontal), or ((top, bottom), (left, right))
    groups    the channels are cut into so many blocks that do not meet; groups = channels is a depthwise convolution
    """

    def __init__(self, n, kernel, stride=1, padding="same", dilation=1, groups=1, bias=True, init=XAVIER):
        super().__init__(bias, init)
        self.n, self.groups, self.padding = n, groups, padding
        self.kernel, self.stride, self.dilation = pair(kernel), pair(stride), pair(dilation)

    def infer(self, in_shape):
        where = self.path or "Conv2d"
        if len(in_shape) != 3:
            raise BuildError(where, f"input of shape {in_shape}", "a map (H, C, W)", "put a Reshape before it")
        H, C, W = in_shape
        if C % self.groups or self.n % self.groups:
            raise BuildError(where, f"{C} channels in, {self.n} out, {self.groups} groups", "groups that divide both",
                             "change groups or the number of channels")
        window = self.window_for(H, W)
        h, w = window.out(H, W)
        if h < 1 or w < 1:
            raise BuildError(where, f"a map of {H} x {W}", f"at least what a kernel of {self.kernel} covers",
                             "use a larger input, more padding or fewer layers")
        return h, self.n, w

    def serves(self, in_shape):
        return in_shape[1] == self.in_shape[1]          # a map of another size

    def window_for(self, H, W):
        pads = pads_for(self.padding, H, W, self.kernel, self.stride, self.dilation)
        return Window(self.kernel, self.stride, pads, self.dilation)

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

    def outer(self, x, d):
        return conv.outer(x, d, self.window_of(x.shape), self.groups)

"""A locally connected layer: the window of a convolution, with a matrix of its own at every position.

    x (T, H, C, W, nb), W (H', W', n_out, kh kw C), taps in (i, j, c) order
    a (T, H', n_out, W', nb), bias (H', n_out, W', 1)
    a[h, :, w] = W[h, w] patch(h, w)

Bartunov et al. 2018 (arXiv 1807.04587) use it with "same" padding as TensorFlow defines it.
"""
from nplearn.errors import BuildError
from nplearn.kernels import local
from nplearn.kernels.window import Window, pads_for, pair
from nplearn.layers.base import Weighted
from nplearn.layers.initial import XAVIER


class LocallyConnected2d(Weighted):
    """`LocallyConnected2d(n, kernel, stride)`: n output channels; padding as in Conv2d; no weight is shared."""

    out_axis = 2

    def __init__(self, n, kernel, stride=1, padding="same", bias=True, init=XAVIER):
        super().__init__(bias, init)
        self.n, self.padding = n, padding
        self.kernel, self.stride = pair(kernel), pair(stride)

    def infer(self, in_shape):
        where = self.path or "LocallyConnected2d"
        if len(in_shape) != 3:
            raise BuildError(where, f"input of shape {in_shape}", "a map (H, C, W)", "put a Reshape before it")
        H, _, W = in_shape
        h, w = self.window_for(H, W).out(H, W)
        if h < 1 or w < 1:
            raise BuildError(where, f"a map of {H} x {W}", f"at least what a kernel of {self.kernel} covers",
                             "use a larger input, more padding or fewer layers")
        return h, self.n, w

    def window_for(self, H, W):
        return Window(self.kernel, self.stride, pads_for(self.padding, H, W, self.kernel, self.stride, (1, 1)), (1, 1))

    def make(self, ground):
        self.window = self.window_for(self.in_shape[0], self.in_shape[2])
        super().make(ground)

    def weight_shape(self, n_out):
        return self.out_shape[0], self.out_shape[2], n_out, self.kernel[0] * self.kernel[1] * self.in_shape[1]

    def bias_shape(self):
        return *self.out_shape, 1

    def fans(self, n_out):
        taps = self.kernel[0] * self.kernel[1]
        return taps * self.in_shape[1], taps * n_out

    def apply(self, x, W):
        return local.apply(x, W, self.window)

    def adjoint(self, d, W, shape):
        return local.adjoint(d, W, shape, self.window)

    def outer(self, x, d):
        return local.outer(x, d, self.window)

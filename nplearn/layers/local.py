"""A locally connected layer: the window of a convolution, with a matrix of its own at every position.

    x (T, H, C, W, nb), W (H', W', n_out, kh kw C), taps in (i, j, c) order
    a (T, H', n_out, W', nb), bias (H', n_out, W', 1)
    a[h, :, w] = W[h, w] patch(h, w)

Bartunov et al. 2018 (arXiv 1807.04587) use it with "same" padding as TensorFlow defines it.
"""
from nplearn.kernels import local
from nplearn.layers.base import Weighted, whole
from nplearn.layers.initial import XAVIER
from nplearn.layers.windowed import Windowed


class LocallyConnected2d(Windowed, Weighted):
    """`LocallyConnected2d(n, kernel, stride)`: n output channels; padding as in `Windowed`; no weight is shared."""

    out_axis, laned = 2, True

    def __init__(self, n, kernel, stride=1, padding="same", bias=True, init=XAVIER):
        super().__init__(bias, init)
        self.n = whole("LocallyConnected2d", "n", n)
        self.settle(kernel, stride, padding)

    def infer(self, in_shape):
        return self.over_map(in_shape, self.n)

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

    def outer(self, x, d, out=None):
        return local.outer(x, d, self.window, out)

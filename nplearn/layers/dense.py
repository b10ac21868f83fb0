"""A fully connected layer.

    x (T, n_in, nb), W (n_out, n_in)      a = W x      dx = W' d      dW = sum over chunks of d x'      bias (n_out, 1)
"""
from nplearn.columns import outside, over_channels
from nplearn.errors import BuildError
from nplearn.kernels import lanes
from nplearn.kernels.product import product
from nplearn.layers.base import Weighted, whole
from nplearn.layers.initial import XAVIER


class Dense(Weighted):
    """`Dense(n)`: n outputs, each of every input."""

    flows = True

    def __init__(self, n, bias=True, init=XAVIER):
        super().__init__(bias, init)
        self.n = whole("Dense", "n", n)

    def infer(self, in_shape):
        if len(in_shape) != 1:
            raise BuildError(self.path or "Dense", f"input of shape {outside(in_shape)}", "(features,)",
                             "put a Flatten before it")
        return (self.n,)

    def weight_shape(self, n_out):
        return n_out, self.in_shape[0]

    def bias_shape(self):
        return self.n, 1

    def fans(self, n_out):
        return self.in_shape[0], n_out

    def apply(self, x, W):
        return over_channels(W, x)

    def adjoint(self, d, W, shape):
        return over_channels(W.T, d)

    def over_bias(self, d, out=None):
        if len(d) == 1:
            return d[0].sum(axis=1, keepdims=True, out=out)
        return lanes.total(len(d), lambda t: d[t].sum(axis=1, keepdims=True), out)

    def outer(self, x, d, out=None):
        if len(x) == 1:
            return product(d[0], x[0].T, out)
        return lanes.total(len(x), lambda t: d[t] @ x[t].T, out)

"""A weighted layer turned round: its input is the other's output, its weight V has the other's shape.

    apply(y, V) = adjoint(y, V)        adjoint(r, V) = apply(r, V)        outer(y, r) = outer(r, y)

What learned inverses are made of. Its bias is one number per feature (dense) or per channel (maps).
"""
from nplearn.columns import outside
from nplearn.errors import BuildError
from nplearn.layers.base import Weighted


class Transposed(Weighted):
    """`Transposed(layer)` for a layer that is built; draws its own V by the layer's law."""

    out_axis = -1                                       # its outputs are the layer's input channels

    def __init__(self, layer, bias=True):
        super().__init__(bias, layer.init)
        if layer.in_shape is None:
            raise BuildError("Transposed", "a layer that is not built", "a built layer", "build the net first")
        if layer.groups != 1:
            raise BuildError(layer.path or "Transposed", f"a layer of {layer.groups} groups", "one group",
                             "turn round a layer without groups")
        self.layer = layer
        self.n = layer.in_shape[1] if len(layer.in_shape) == 3 else layer.in_shape[0]

    @property
    def n_out(self):
        return self.n

    def infer(self, in_shape):
        if tuple(in_shape) != self.layer.out_shape:
            raise BuildError(self.path or "Transposed", f"input of shape {outside(in_shape)}",
                             f"{outside(self.layer.out_shape)}", "give it what the layer puts out")
        return self.layer.in_shape

    def make(self, ground):
        self.uses, self.column_bytes = self.layer.uses, self.layer.column_bytes
        super().make(ground)

    def weight_shape(self, n_out):
        shape = self.layer.weight_shape(self.layer.n_out)
        return *shape[:-1], shape[-1] // self.n * n_out

    def bias_shape(self):
        return (self.n, 1) if len(self.layer.in_shape) == 1 else (self.n, 1, 1)

    def fans(self, n_out):
        fan_in, fan_out = self.layer.fans(self.layer.n_out)
        return fan_out, fan_in // self.n * n_out

    def apply(self, x, W):
        channels = W.shape[-1] // (self.layer.weight.value.shape[-1] // self.n)
        shape = self.layer.in_shape
        wide = (channels,) if len(shape) == 1 else (shape[0], channels, shape[2])
        return self.layer.adjoint(x, W, (x.shape[0], *wide, x.shape[-1]))

    def adjoint(self, d, W, shape):
        return self.layer.apply(d, W)

    def outer(self, x, d):
        return self.layer.outer(d, x)

    def widen(self, W, B):
        """B' on the channels within the last axis (of a locally connected layer it holds taps times channels)."""
        wide = W.reshape(*W.shape[:-1], -1, len(B)) @ B
        return wide.reshape(*W.shape[:-1], -1)

"""What layers that move a window over a map share: settings checked once, the window, the size of what comes out."""
from nplearn.columns import outside
from nplearn.errors import BuildError, SettingError
from nplearn.kernels.window import Window, pads_for, pair
from nplearn.layers.base import whole


class Windowed:
    """Mixed into Conv2d, LocallyConnected2d and the pools.

    kernel, stride, dilation  a number or (vertical, horizontal)
    padding                   "same" (output ceil(n / stride), an odd pad goes below and right), "valid", a number,
                              (vertical, horizontal), or ((top, bottom), (left, right))
    """

    def settle(self, kernel, stride, padding, dilation=1):
        where = type(self).__name__
        for name, value in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
            setattr(self, name, tuple(whole(where, name, x) for x in pair(value)))
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise SettingError(where, f"padding {padding!r}", '"same", "valid" or numbers', "choose one of these")
        else:
            padding = tuple(tuple(whole(where, "padding", x, 0) for x in pair(side)) for side in pair(padding))
        self.padding = padding

    def window_for(self, H, W):
        """The window over a map of H x W."""
        return Window(self.kernel, self.stride, pads_for(self.padding, H, W, self.kernel, self.stride, self.dilation),
                      self.dilation)

    def over_map(self, in_shape, channels=None):
        """(H', channels, W') of what comes out of a map (H, C, W), C unless given; BuildError where it cannot fit."""
        H, C, W = need_map(self, in_shape)
        h, w = self.window_for(H, W).out(H, W)
        if h < 1 or w < 1:
            raise BuildError(self.path or type(self).__name__, f"a map of {H} x {W}",
                             f"at least what a window of {self.kernel} covers",
                             "use a larger input, more padding or fewer layers")
        return h, channels or C, w


def need_map(layer, in_shape):
    """The map's shape (H, C, W), or a BuildError."""
    if len(in_shape) != 3:
        raise BuildError(layer.path or type(layer).__name__, f"input of shape {outside(in_shape)}", "a map (H, W, C)",
                         "put it before the Flatten, or a Reshape before it")
    return in_shape

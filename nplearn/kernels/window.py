"""Where a sliding window meets a map: the index arithmetic that convolution, pooling and local layers share.

Along one axis output o and tap i meet input  o * stride + i * dilation - before.  Taps outside see the padding.
"""
from math import gcd
from typing import NamedTuple


class Window(NamedTuple):
    """A window of `kernel` (kh, kw), moved by `stride`, its taps `dilation` apart, over a map padded by `pads`."""

    kernel: tuple
    stride: tuple
    pads: tuple                                         # ((top, bottom), (left, right))
    dilation: tuple

    def out(self, H, W):
        """Size of the output map; 0 or less where the window does not fit."""
        return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1
                     for n, k, s, p, d in zip((H, W), self.kernel, self.stride, self.pads, self.dilation, strict=True))

    def is_point(self):
        """Whether every output sees the one input at its own place."""
        return self.kernel == self.stride == (1, 1) and self.pads == ((0, 0), (0, 0))

    def partitions(self, H, W):
        """Whether every entry of a map of H x W is seen by exactly one tap of one output."""
        return (self.kernel == self.stride and self.dilation == (1, 1) and self.pads == ((0, 0), (0, 0))
                and H % self.kernel[0] == 0 and W % self.kernel[1] == 0)

    def meets(self, axis, tap, n):
        """(outputs, inputs): the slices along `axis` (0 rows, 1 columns) at which a tap falls inside n entries."""
        stride, before = self.stride[axis], self.pads[axis][0]
        offset, out = tap * self.dilation[axis] - before, self.out(n, n)[axis]
        low = max(0, -(offset // stride))               # the first output whose input is not negative
        high = max(low, min(out, (n - 1 - offset) // stride + 1))
        first = low * stride + offset
        return slice(low, high), slice(first, first + (high - low - 1) * stride + 1 if high > low else first, stride)

    def grids(self, H, W):
        """The way back from outputs to a map of H x W: one grid of inputs for each remainder of the stride, each a
        convolution of the outputs at stride 1. Yields the grid's rows and columns, its taps (two slices, to be turned
        round) and the window of that convolution; pads below 0 leave outputs out."""
        out = self.out(H, W)
        down, across = (grids_of(n, out[a], self.kernel[a], self.stride[a], self.pads[a][0], self.dilation[a])
                        for a, n in enumerate((H, W)))
        for rows, taps_h, kh, pads_h, apart_h in down:
            for columns, taps_w, kw, pads_w, apart_w in across:
                yield rows, columns, (taps_h, taps_w), Window((kh, kw), (1, 1), (pads_h, pads_w), (apart_h, apart_w))

    def taps(self, H, W):
        """For every tap (i, j): its output rows and columns, and the input rows and columns that they see."""
        for i in range(self.kernel[0]):
            out_h, in_h = self.meets(0, i, H)
            for j in range(self.kernel[1]):
                out_w, in_w = self.meets(1, j, W)
                yield i, j, out_h, out_w, in_h, in_w


def grids_of(n, out, kernel, stride, before, dilation):
    """`Window.grids` along one axis of n entries: a list of (inputs, taps, their number, pads, dilation).

    Input r and tap i meet output o = (r + before - i dilation) / stride where that is whole. Inputs whose r + before
    leaves one remainder are a grid, r + before = remainder + stride (q + skipped) for its q-th; it meets every
    (stride / g)-th tap, g the common divisor of stride and dilation, from `first` on, of which p is the p-th of m. With
    apart = dilation / g that is o = q + skipped - (first dilation - remainder) / stride - p apart, and with taps turned
    round, p -> m - 1 - p, it is o = q + p apart - low: a convolution at stride 1, padded by (low, high). It has as many
    outputs as the grid has inputs: out + low + high - (m - 1) apart of them, whence high.

    Seven inputs, padded by one on either side, under a kernel of 3 at stride 2. The outputs 0 1 2 3 look from -1, 1, 3,
    5 on. Inputs 1, 3, 5 are seen by taps 2 and 0 of two neighbours, inputs 0, 2, 4, 6 by tap 1 of one output each:

    >>> grids_of(7, out=4, kernel=3, stride=2, before=1, dilation=1)
    [(slice(1, 7, 2), slice(0, 3, 2), 2, (0, 0), 1), (slice(0, 7, 2), slice(1, 3, 2), 1, (0, 0), 1)]
    """
    found, common = [], gcd(stride, dilation)
    for remainder in range(stride):
        skipped = -((remainder - before) // stride)     # points of the grid in the padding before the map
        inputs = slice(remainder - before + stride * skipped, n, stride)
        if inputs.start >= n:
            continue
        first = next((i for i in range(stride) if i * dilation % stride == remainder), kernel)      # kernel: no tap
        taps = slice(first, kernel, stride // common)
        m, apart = len(range(first, kernel, stride // common)), dilation // common
        low = (m - 1) * apart + (first * dilation - remainder) // stride - skipped
        high = len(range(n)[inputs]) - out - low + (m - 1) * apart
        found.append((inputs, taps, m, (low, high), apart))
    return found


def pair(x):
    """2 -> (2, 2); (2, 3) stays."""
    return tuple(x) if isinstance(x, (tuple, list)) else (x, x)


def pads_for(padding, H, W, kernel, stride, dilation):
    """((top, bottom), (left, right)) for padding "same" (output ceil(n / stride), the odd one below and right),
    "valid", a number, (vertical, horizontal), or the four numbers themselves."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        total = [max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
                 for n, k, s, d in zip((H, W), kernel, stride, dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)
    return tuple(pair(p) for p in pair(padding))

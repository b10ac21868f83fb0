"""Augmentation: each record's change is a pure function of (seed, epoch, index of the record in the data set).

    word(index) = the index-th raw 64-bit word of stream(seed, "shift" or "flip", epoch)

Nothing is drawn one after another: batch size, order, workers and a resume change no draw, and raw words are pinned for
ever, whatever a NumPy release does to its distributions. Rows are uint8 (n, H, W, C); what is kept between calls is the
words of the last few epochs, which could be drawn again at any time.
"""
import operator
from functools import lru_cache

import numpy as np

from nplearn.backend import stream
from nplearn.errors import SettingError


class Shift:
    """A random crop of the image after zero padding: up to `padding` pixels each way, all shifts equally likely.

    What comes in from outside is black, that is 0 before normalisation. Two Shifts in one Compose draw the same.

    >>> Shift(2)(np.ones((3, 8, 8, 1), np.uint8), indices=[5, 0, 9], seed=0, epoch=1).shape
    (3, 8, 8, 1)
    """

    def __init__(self, padding):
        if not isinstance(padding, int | np.integer) or padding < 0:
            raise SettingError("Shift padding", f"{padding!r}", "a whole number of pixels", "give 0, 1, 2, ...")
        self.padding = padding

    def __repr__(self):
        return f"Shift({self.padding})"

    def offsets(self, indices, seed, epoch):
        """Where each crop starts in the padded image: two int64 arrays (n,), down and right, in 0 ... 2 padding."""
        words, choices = draws(seed, "shift", epoch, indices), 2 * self.padding + 1
        return tuple((half * choices >> 32).astype(np.int64) for half in (words >> 32, words & 0xffffffff))

    def __call__(self, rows, indices, seed, epoch):
        """rows uint8 (n, H, W, C), records `indices` (n,) of the set -> new rows of the same shape."""
        n, height, width, _ = rows.shape
        edge = (self.padding, self.padding)
        padded, out = np.pad(rows, ((0, 0), edge, edge, (0, 0))), np.empty_like(rows)
        for i, down, right in zip(range(n), *self.offsets(indices, seed, epoch), strict=True):
            out[i] = padded[i, down:down + height, right:right + width]
        return out


class Flip:
    """Mirror the image left to right with probability 1/2."""

    def __repr__(self):
        return "Flip()"

    def flipped(self, indices, seed, epoch):
        """Which records are mirrored: bool (n,)."""
        return draws(seed, "flip", epoch, indices) >> 63 == 1

    def __call__(self, rows, indices, seed, epoch):
        """rows uint8 (n, H, W, C), records `indices` (n,) of the set -> new rows of the same shape."""
        out, chosen = rows.copy(), self.flipped(indices, seed, epoch)
        out[chosen] = rows[chosen, :, ::-1]
        return out


class Compose:
    """Several augmentations, one after the other: `Compose(Shift(4), Flip())`."""

    def __init__(self, *parts):
        self.parts = parts

    def __repr__(self):
        return f"Compose({', '.join(map(repr, self.parts))})"

    def __call__(self, rows, indices, seed, epoch):
        """rows uint8 (n, H, W, C), records `indices` (n,) of the set -> new rows."""
        for part in self.parts:
            rows = part(rows, indices, seed, epoch)
        return rows


def draws(seed, key, epoch, indices):
    """The 64-bit word of each record: uint64 (n,), a pure function of (seed, key, epoch, index)."""
    indices = np.asarray(indices, np.int64)
    n = 1 << int(indices.max(initial=0)).bit_length()   # a longer draw begins with the shorter one
    return _words(plain(seed), key, epoch, n)[indices]


@lru_cache(maxsize=8)
def _words(seed, key, epoch, n):
    words = stream(seed, key, epoch).bit_generator.random_raw(n)
    words.flags.writeable = False
    return words


def plain(seed):
    """A seed as a cache can keep it: an int, or a tuple of ints, which a list (JSON has no tuples) means too."""
    try:
        return tuple(map(operator.index, seed)) if isinstance(seed, tuple | list) else operator.index(seed)
    except TypeError as error:
        raise SettingError("seed", f"{seed!r}", "an int or a tuple of ints", "give one") from error

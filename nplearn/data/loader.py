"""Batches as a pure function of (seed, epoch, index).

    order of epoch e = permutation(seed, "order", e, n=N)       0 ... N - 1 without shuffling
    batch i of it    = records order[i * batch : (i + 1) * batch], augmented, normalised

No generator walks along: any batch of any epoch can be asked for, in any order, and a resumed run goes on where it
was. Kept between calls: the order of the last epoch, because a permutation of all records costs more than a batch.
Normalised images are not kept: four times the memory would save a fraction of a millisecond a batch.
"""
import numpy as np

from nplearn.backend import permutation
from nplearn.data.augment import plain
from nplearn.errors import SettingError


class Loader:
    """Cuts a data set into batches.

    data       a `DataSet`
    batch      records in a batch; the last batch of an epoch may be shorter, or is dropped with `drop_last`
    seed       int, or a tuple or list of ints
    shuffle    a new order each epoch
    augment    None or augment(rows uint8 (n, H, W, C), indices (n,), seed, epoch) -> rows
    dtype      float32 or float64, of the inputs
    Raises SettingError for an impossible setting, among them one that leaves no batch.

    >>> from nplearn.data import load
    >>> loader = Loader(load("mnist5k")[0], batch=64)
    >>> rows, labels = loader.batch(epoch=3, index=62)
    >>> len(loader), rows.shape, labels.shape
    (63, (32, 28, 28, 1), (32,))
    """

    def __init__(self, data, batch, seed=0, shuffle=True, augment=None, drop_last=False, dtype=np.float32):
        if not isinstance(batch, int | np.integer) or batch < 1:
            raise SettingError("batch", f"{batch!r}", "a whole number of records, at least 1", "give one")
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise SettingError("dtype", f"{np.dtype(dtype)}", "float32 or float64", "choose one of these")
        self.data, self.size, self.seed, self.shuffle = data, int(batch), plain(seed), shuffle
        self.augment, self.drop_last, self.dtype = augment, drop_last, np.dtype(dtype)
        if len(self) == 0:
            raise SettingError("batch", f"{batch} records a batch, {len(data)} in the set, so no batch", "at least one",
                               "take a smaller batch or keep the last one")
        self._last = None, None                         # an epoch and its order

    def __len__(self):
        """Batches in an epoch."""
        return len(self.data) // self.size if self.drop_last else -(-len(self.data) // self.size)

    def order(self, epoch):
        """The records of an epoch in their order, int64 (N,), read-only."""
        kept, order = self._last
        if kept != epoch:
            n = len(self.data)
            order = permutation(self.seed, "order", epoch, n=n) if self.shuffle else np.arange(n)
            order.flags.writeable = False
            self._last = epoch, order
        return order

    def batch(self, epoch, index):
        """Batch `index` of an epoch: inputs `dtype` (n, H, W, C) and labels int64 (n,), both new.

        Raises SettingError unless 0 <= index < len(self).
        """
        if not 0 <= index < len(self):
            raise SettingError("batch index", f"{index}", f"0 to {len(self) - 1}", "ask for a batch of this epoch")
        records = self.order(epoch)[index * self.size:(index + 1) * self.size]
        rows = self.data.inputs[records]
        if self.augment is not None:
            rows = self.augment(rows, records, self.seed, epoch)
        return self.data.normalised(rows, self.dtype), self.data.labels[records]

    def epoch(self, epoch, start=0):
        """Iterate over the batches of an epoch from `start`. Raises SettingError unless 0 <= start <= len(self)."""
        if not 0 <= start <= len(self):
            raise SettingError("start", f"batch {start}", f"0 to {len(self)}", "start within the epoch")
        return (self.batch(epoch, index) for index in range(start, len(self)))

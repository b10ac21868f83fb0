"""A set of labelled images in memory, and `load`, which finds one and reads it.

    normalised(rows) = (rows / 255 - mean) / std      per channel; rows uint8 (n, H, W, C)

Images stay bytes, rows first, until a batch is made of them.
"""
from pathlib import Path

import numpy as np

from nplearn.data import archive, cifar, idx, locate
from nplearn.errors import DataError, SettingError

FORMATS = (idx, cifar)                                  # modules with the same five names, KNOWN to describe


class DataSet:
    """N labelled images.

    name       what it is called
    source     str, the folder or archive it came from
    inputs     uint8 (N, H, W, C)
    labels     int64 (N,), in 0 ... len(classes) - 1
    classes    tuple of names
    mean, std  tuples, one number per channel, of inputs scaled to [0, 1]
    Raises DataError when these do not fit each other.

    >>> data = DataSet("two", "by hand", np.full((2, 1, 1, 1), 255, np.uint8), [1, 0], ("no", "yes"), (0.5,), (0.25,))
    >>> len(data), data.normalised(data.inputs).ravel().tolist()
    (2, [2.0, 2.0])
    """

    def __init__(self, name, source, inputs, labels, classes, mean, std):
        self.name, self.source, self.classes = name, str(source), tuple(classes)
        self.inputs, self.labels = np.asarray(inputs), np.asarray(labels)
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        if self.inputs.ndim != 4 or self.inputs.dtype != np.uint8:
            self._misfit(f"inputs {self.inputs.dtype} {self.inputs.shape}", "uint8 (N, H, W, C)")
        if self.labels.shape != self.inputs.shape[:1] or self.labels.dtype.kind not in "iu":
            self._misfit(f"labels {self.labels.dtype} {self.labels.shape}", f"integers ({len(self.inputs)},)")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            self._misfit(f"labels {self.labels.min()} to {self.labels.max()}", f"0 to {len(self.classes) - 1}")
        if not len(self.mean) == len(self.std) == self.inputs.shape[3] or not all(0 < s < np.inf for s in self.std):
            self._misfit(f"mean {self.mean}, std {self.std}", f"{self.inputs.shape[3]} of each, std above 0")
        self.labels = self.labels.astype(np.int64, copy=False)

    def _misfit(self, got, expected):
        raise DataError(f"data set {self.name}", got, expected, "check what it is made of")

    def __len__(self):
        return len(self.inputs)

    def __repr__(self):
        n, *shape = self.inputs.shape
        return f"DataSet({self.name}, {n} records of {'x'.join(map(str, shape))}, {len(self.classes)} classes)"

    def normalised(self, rows, dtype=np.float32):
        """(rows / 255 - mean) / std, as a new array.

        rows     uint8 (n, H, W, C), this set's or augmented ones
        dtype    float32 or float64
        Returns `dtype`, of the shape of `rows`; each entry depends on its own byte alone.
        """
        n, height, width, channels = rows.shape
        pixels = height * width                         # tiled over the image: a last axis of 1 or 3 is a slow loop
        scale = np.tile(1 / (255 * np.array(self.std)), pixels).astype(dtype)
        shift = np.tile(np.array(self.mean) / self.std, pixels).astype(dtype)
        out = np.multiply(rows.reshape(n, pixels * channels), scale, dtype=dtype)
        out -= shift
        return out.reshape(rows.shape)

    def take(self, indices):
        """The records at `indices` (integers, (n,)), copied, in that order. Raises SettingError if one is not there."""
        indices = np.asarray(indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise SettingError("indices", f"{indices.dtype} {indices.shape}", "integers (n,)",
                               "give np.flatnonzero of a mask")
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise SettingError("indices", f"{indices.min()} to {indices.max()}", f"0 to {len(self) - 1}",
                               "take existing records")
        indices = indices.astype(np.int64)
        return self._like(self.inputs[indices], self.labels[indices])

    def split(self, n_last):
        """Hold out the last `n_last` records: (rest, held out), both views of this set.

        Raises SettingError unless 0 <= n_last < len(self).
        """
        if not 0 <= n_last < len(self):
            raise SettingError("split", f"{n_last} of {len(self)} records to hold out", f"0 to {len(self) - 1}",
                               "leave something to train on")
        cut = len(self) - n_last
        return self._like(self.inputs[:cut], self.labels[:cut]), self._like(self.inputs[cut:], self.labels[cut:])

    def _like(self, inputs, labels):
        return DataSet(self.name, self.source, inputs, labels, self.classes, self.mean, self.std)


def load(name_or_path, data_dir=None, download=True):
    """Find a data set and read it.

    name_or_path  mnist5k, mnist, fashion-mnist or cifar-10; or the path of a folder or of a .tar, .tar.gz or .tar.xz
                  that holds idx or CIFAR-10 binary files
    data_dir      the folder to look in first (see `locate.find`)
    download      whether a set that is nowhere may be fetched
    Returns (train, test), two `DataSet`s. A set of idx files that is none of the known ones is normalised by the mean
    and standard deviation of its own training images. Raises DataError when it is not found or not as it should be.

    >>> load("mnist5k")
    (DataSet(mnist5k, 4000 records of 28x28x1, 10 classes), DataSet(mnist5k, 1000 records of 28x28x1, 10 classes))
    """
    name = str(name_or_path)
    if name in locate.NAMES:
        path, formats = locate.find(name, data_dir, download), [f for f in FORMATS if name in f.KNOWN]
    else:
        path, formats = Path(name_or_path), FORMATS
        if not path.exists():
            raise DataError(name, "neither a known data set nor an existing path",
                            f"{', '.join(locate.NAMES)}, or a path", "check the spelling")
        name = locate.known_name(path) or path.resolve().name
    form, parts = _read(path, formats)
    train_inputs, train_labels, test_inputs, test_labels = form.assemble(parts, str(path))
    mean, std, classes = form.describe(name, train_inputs)
    return (DataSet(name, path, train_inputs, train_labels, classes, mean, std),
            DataSet(name, path, test_inputs, test_labels, classes, mean, std))


def _read(path, formats):
    """The format of what lies in `path`, and {part: what was read}, in one walk."""
    parts = {form: {} for form in formats}
    places = [path / cifar.FOLDER] if (path / cifar.FOLDER).is_dir() else []
    for place in [path, *places]:
        for member in archive.members(place):
            file = member.name.rpartition("/")[2]
            for form in formats:
                key = form.part(file)
                if key in parts[form]:
                    raise DataError(member.where, "the same part for the second time", "one of each",
                                    "leave only one there")
                if key is not None:
                    parts[form][key] = form.read(member)
    found = [form for form in formats if parts[form]]
    if len(found) != 1:
        raise DataError(str(path), "files of two formats" if found else "no data file",
                        f"{' or '.join(_EXAMPLES[form] for form in formats)}", "check the path")
    return found[0], parts[found[0]]


_EXAMPLES = {idx: "train-images-idx3-ubyte.gz and the three others", cifar: "data_batch_*.bin and test_batch.bin"}

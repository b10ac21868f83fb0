"""The CIFAR-10 binary format: records of one label byte and three 32 x 32 planes (red, green, blue), rows from the top.

    record (3073 bytes) = label | R (32, 32) | G (32, 32) | B (32, 32)     ->     input (32, 32, 3), label

A file is records and nothing else, any number of them. `data_batch_N.bin`, any number of files in the order of N, are
for training, `test_batch.bin` for testing.
Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images"; the format is described at
https://www.cs.toronto.edu/~kriz/cifar.html.
"""
import re

import numpy as np

from nplearn.data import archive
from nplearn.data.idx import check_labels
from nplearn.errors import DataError

RECORD, SHAPE = 3073, (3, 32, 32)
FOLDER = "cifar-10-batches-bin"                         # what the published archive unpacks to
MEAN, STD = (0.4914, 0.4821, 0.4465), (0.2470, 0.2435, 0.2616)     # of the 50,000 training images scaled to [0, 1]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
KNOWN = {"cifar-10": (MEAN, STD, CLASSES)}


def read_cifar(source, name=None):
    """Read one file of records.

    source  str or Path of a file, a binary file object, or an archive `Member`
    name    what messages call it; the path by default
    Returns inputs uint8 (N, 32, 32, 3) and labels int64 (N,). Raises DataError when the file is missing, larger than
    1 GiB, no whole number of records, or has a label that is not 0 to 9.

    >>> import io
    >>> inputs, labels = read_cifar(io.BytesIO(bytes([7]) + bytes([255]) * 1024 + bytes(2048)))
    >>> inputs.shape, inputs[0, 0, 0].tolist(), labels.tolist()
    ((1, 32, 32, 3), [255, 0, 0], [7])
    """
    data, where = archive.content(source, name, _check_size)
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    check_labels(records[:, 0], where)
    planes = records[:, 1:].reshape(-1, *SHAPE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int64)


def _check_size(size, where):
    if size == 0 or size % RECORD:
        raise DataError(where, f"{size} bytes", f"a positive multiple of {RECORD}",
                        "give it the binary version of CIFAR-10, undamaged")


def part(name):
    """Which part of a set a file name stands for: ("train", N), ("test", 0), or None for none.

    >>> part("data_batch_12.bin"), part("batches.meta.txt")
    (('train', 12), None)
    """
    match = re.fullmatch(r"(data)_batch_(\d{1,9})\.bin|test_batch\.bin", name, re.ASCII)
    return match and (("train", int(match[2])) if match[1] else ("test", 0))


def read(member):
    """One file of a set, from its `Member`."""
    return read_cifar(member)


def describe(name, inputs):
    """(mean, std, classes): the published ones, whatever the set is called and whichever part of it is there."""
    return KNOWN["cifar-10"]


def assemble(parts, where):
    """Join what was read.

    parts  {part(name): (inputs, labels)}; emptied on the way, so that the set is in memory twice at most
    where  folder or archive, for messages
    Returns (train inputs, train labels, test inputs, test labels): uint8 (N, 32, 32, 3) and int64 (N,).
    Raises DataError when there is no training or no test file.
    """
    arrays = []
    for kind, file in (("train", "data_batch_1.bin"), ("test", "test_batch.bin")):
        files = [parts.pop(key) for key in sorted(parts) if key[0] == kind]
        if not files:
            raise DataError(where, f"no {file}", "data_batch_*.bin and test_batch.bin (the binary version)",
                            "put it there")
        arrays += [np.concatenate([file[i] for file in files]) if len(files) > 1 else files[0][i] for i in (0, 1)]
    return tuple(arrays)

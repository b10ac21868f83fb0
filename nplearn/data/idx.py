"""The idx format of MNIST and its kin, read straight from its published description, plain or gzip-compressed.

    0 0  type  ndim     four bytes; type 8 is an unsigned byte
    size_1 ... size_ndim     four bytes each, big-endian
    data     the last axis runs fastest, big-endian

Every size is checked against the bytes that are really there before an array is made.
Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section "File formats".
"""
import io
import math
import re
import struct

import numpy as np

from nplearn.data import archive
from nplearn.errors import DataError

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KNOWN = {                                               # mean and std of the training images scaled to [0, 1]; classes
    "mnist": ((0.1307,), (0.3081,), DIGITS),
    "mnist5k": ((0.1307,), (0.3081,), DIGITS),
    "fashion-mnist": ((0.2860,), (0.3530,), CLOTHES),
}


def read_idx(source, name=None):
    """Read one idx file.

    source  str or Path of a file, a binary file object, or an archive `Member`; gzip is recognised by its content
    name    what messages call it; the path by default
    Returns an array with the file's own shape and type (native byte order), possibly read-only.
    Raises DataError when the file is missing, damaged, larger than 1 GiB, or not idx.

    >>> import io
    >>> read_idx(io.BytesIO(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])))
    array([7, 8, 9], dtype=uint8)
    """
    data, where = archive.content(source, name)
    found = {}

    def plan(read, limit):
        found["dtype"], found["shape"] = _header(read, where)
        size = math.prod(found["shape"]) * found["dtype"].itemsize
        if size > limit:
            raise DataError(where, f"{found['shape']} entries promised by {len(data)} bytes", f"at most {limit} bytes",
                            "fetch the file again, from a source you trust")
        return size

    if data.startswith(b"\x1f\x8b"):
        body = archive.inflate(data, where, plan)
    else:
        head = 4 + 4 * data[3] if len(data) > 3 else 4
        body, size = memoryview(data)[head:], plan(io.BytesIO(data[:head]).read, archive.LARGEST)
        if len(body) != size:
            raise DataError(where, f"{len(body)} bytes after the header", f"{size} for {found['shape']}",
                            "fetch the file again")
    array = np.frombuffer(body, found["dtype"]).reshape(found["shape"])
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _header(read, where):
    head = read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not 1 <= head[3] <= 8:
        raise DataError(where, f"the first four bytes are {head.hex(' ') or 'absent'}",
                        "00 00, a type of 08 to 0e, and 1 to 8 dimensions", "give it an idx file, plain or .gz")
    sizes = read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(where, "the file ends in its header", f"{head[3]} sizes", "fetch the file again")
    shape = struct.unpack(f">{head[3]}I", sizes)
    if 0 in shape:
        raise DataError(where, f"shape {shape}", "at least one record and no empty axis", "fetch the file again")
    return np.dtype(TYPES[head[2]]), shape


def part(name):
    """Which part of a set a file name stands for: ("train" or "t10k", "images" or "labels"), or None for none.

    >>> part("t10k-labels.idx1-ubyte.gz"), part("notes.txt")
    (('t10k', 'labels'), None)
    """
    match = re.fullmatch(r"(train|t10k)-(?:(images)[-.]idx3|(labels)[-.]idx1)-ubyte(?:\.gz)?", name)
    return match and (match[1], match[2] or match[3])


def read(member):
    """One file of a set, from its `Member`."""
    return read_idx(member)


def assemble(parts, where):
    """Join what was read.

    parts  {part(name): array}
    where  folder or archive, for messages
    Returns (train images, train labels, test images, test labels): uint8 (N, H, W, 1) and int64 (N,).
    Raises DataError when a file is missing, or two do not agree, or a label is not 0 to 9.
    """
    keys = [(p, kind) for p in ("train", "t10k") for kind in ("images", "labels")]
    missing = [f"{file}.gz" for file, key in zip(FILES, keys, strict=True) if key not in parts]
    if missing:
        raise DataError(where, f"no {', '.join(missing)}", "the four idx files, plain or .gz", "put them there")
    arrays = []
    for images, labels in ((parts[p, "images"], parts[p, "labels"]) for p in ("train", "t10k")):
        if images.ndim != 3 or images.dtype != np.uint8 or labels.ndim != 1 or labels.dtype != np.uint8:
            raise DataError(where, f"images {images.dtype} {images.shape}, labels {labels.dtype} {labels.shape}",
                            "bytes with three axes (idx3), and bytes with one (idx1)", "fetch the files again")
        if len(images) != len(labels):
            raise DataError(where, f"{len(images)} images and {len(labels)} labels", "as many of each",
                            "take both files from one source")
        check_labels(labels, where)
        arrays += [images[..., None], labels.astype(np.int64)]
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise DataError(where, f"train images {arrays[0].shape[1:]}, test images {arrays[2].shape[1:]}", "one size",
                        "take all four files from one source")
    return tuple(arrays)


def describe(name, inputs):
    """(mean, std, classes) of the set `name`; for an unknown one, of its training images uint8 (N, H, W, C)."""
    return KNOWN.get(name) or (*_statistics(inputs), DIGITS)


def check_labels(labels, where):
    """Raise DataError, naming the first such record, unless all labels (uint8, (N,)) lie in 0 to 9."""
    wrong = np.flatnonzero(labels > 9)
    if wrong.size:
        raise DataError(f"{where}, record {wrong[0]}", f"label {labels[wrong[0]]}", "0 to 9", "fetch the file again")


def _statistics(inputs):
    """Mean and standard deviation per channel of uint8 (N, H, W, C) scaled to [0, 1]; 1 where all pixels are equal."""
    counts = np.zeros((inputs.shape[3], 256))
    for start in range(0, len(inputs), 1000):           # in parts: bincount makes eight bytes of each
        for channel in range(inputs.shape[3]):
            counts[channel] += np.bincount(inputs[start:start + 1000, ..., channel].ravel(), minlength=256)
    values, weights = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ values
    std = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(axis=1))
    return tuple(mean), tuple(np.where(std > 1e-6, std, 1.0))

"""Files made by hand, from the published formats and without the library's own code, for the tests of this folder."""
import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

IDX_CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx_bytes(array):
    """`array` as an idx file: magic, sizes, then entry by entry, big-endian."""
    array = np.asarray(array)
    letter = {"uint8": "B", "int8": "b", "int16": "h", "int32": "i", "float32": "f", "float64": "d"}[array.dtype.name]
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, IDX_CODES[array.dtype.name], array.ndim, *array.shape)
    return head + struct.pack(f">{array.size}{letter}", *array.ravel().tolist())


def cifar_bytes(images, labels):
    """Records of CIFAR-10's binary version, one byte after the other; images (N, 32, 32, 3)."""
    out = bytearray()
    for image, label in zip(images.tolist(), labels, strict=True):
        out.append(label)
        for channel in range(3):
            out += bytes(pixel[channel] for row in image for pixel in row)
    return bytes(out)


def idx_set(n_train=5, n_test=3, shape=(4, 3), seed=0):
    """{file name: bytes} of a whole idx set, and its four arrays."""
    rng, files, arrays = np.random.default_rng(seed), {}, []
    for part, n in (("train", n_train), ("t10k", n_test)):
        images = rng.integers(0, 256, (n, *shape), np.uint8)
        labels = rng.integers(0, 10, n, np.uint8)
        files[f"{part}-images-idx3-ubyte"], files[f"{part}-labels-idx1-ubyte"] = idx_bytes(images), idx_bytes(labels)
        arrays += [images, labels]
    return files, arrays


def cifar_set(sizes=(2, 1), n_test=1, seed=0):
    """{file name: bytes} of a CIFAR-10 folder with training files of these sizes, and [(images, labels)] of all."""
    rng, files, arrays = np.random.default_rng(seed), {}, []
    names = [f"data_batch_{i + 1}.bin" for i in range(len(sizes))] + ["test_batch.bin"]
    for name, n in zip(names, (*sizes, n_test), strict=True):
        images, labels = rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n)
        files[name] = cifar_bytes(images, labels.tolist())
        arrays.append((images, labels))
    return files, arrays


def write(folder, files):
    """Put {name: bytes} into `folder`, which is made; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def tar_bytes(files, kind="", tar_format=tarfile.PAX_FORMAT):
    """A tar of {name: bytes or TarInfo}, compressed as `kind` ("", "gz" or "xz") says."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, data in files.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if not isinstance(data, tarfile.TarInfo):
                info.size = len(data)
            tar.addfile(info, None if isinstance(data, tarfile.TarInfo) else io.BytesIO(data))
    return {"": bytes, "gz": lambda b: gzip.compress(b, mtime=0), "xz": lzma.compress}[kind](buffer.getvalue())


@contextmanager
def memory_below(limit):
    """Fails when the memory that Python and NumPy take inside passes `limit` bytes."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="session")
def by_hand():
    """The functions of this file."""
    return SimpleNamespace(**{f.__name__: f for f in (idx_bytes, cifar_bytes, idx_set, cifar_set, write, tar_bytes,
                                                      memory_below)})


@pytest.fixture(scope="session", autouse=True)
def no_data_of_the_user(tmp_path_factory):
    """What lies in the folders of whoever runs the tests must not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NPLEARN_DATA", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LOCALAPPDATA", str(tmp_path_factory.mktemp("local")))
        yield

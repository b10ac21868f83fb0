"""A checkpoint: one file with all that a run needs to go on, saved whole or not at all, checked before it is used.

    file    an uncompressed .npz, which numpy.load reads too: one entry per array, named by its path, and "meta"
    meta    JSON: {"format", "version", "manifest": {path: [dtype, shape]}, "meta": the caller's dict}
    bits    a CRC-32 per entry finds every flipped bit; declared sizes are held against the file's real size

A save writes and syncs `<name>.<16 hex digits>.partial`, gives the old checkpoint the second name `<name>.previous`,
and renames: at every moment one of the two is a whole checkpoint. Partial files of dead runs go at the next save.

Source: the .npy format is NumPy's NEP 1. Nothing is ever pickled.
"""
import contextlib
import json
import math
import os
import re
import secrets
import zipfile

import numpy as np

from nplearn.backend import to_host
from nplearn.errors import CheckpointError

try:
    import fcntl
except ImportError:                                     # Windows: partial files of dead runs stay there
    fcntl = None

FORMAT, VERSION = "nplearn checkpoint", 1
PREVIOUS, PARTIAL = ".previous", re.compile(r".+\.[0-9a-f]{16}\.partial")
NUMBERS = "biufc"                                       # dtype kinds: bool, integers, floats, complex
META_LIMIT = 1 << 26                                    # bytes; what JSON describes is larger than its text


# Saving

def save(path, arrays, meta):
    """Write `arrays` (path -> array, on any device) and `meta` (a dict for JSON) to the file `path`, or change nothing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder + "/run.npz", {"net/fc.weight": np.eye(2)}, {"step": 3})
    ...     arrays, meta = load(folder + "/run.npz")
    >>> arrays["net/fc.weight"].shape, meta
    ((2, 2), {'step': 3})
    """
    path = os.fspath(path)
    where, folder, file = f"checkpoint {path}", os.path.dirname(path) or ".", None
    text = _text(where, arrays, meta)
    try:
        _clear_stale(folder)
        file = _partial(path)
        with file:
            _write(file, {"meta": np.array(text), **arrays})
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()                            # Windows renames no open file; elsewhere it stays locked
            _keep_previous(path)
            os.replace(file.name, path)
        _sync_folder(folder)
    except OSError as error:
        raise CheckpointError(where, f"not saved ({error.strerror or error})", "a folder that has room and is writable",
                              "make room or choose another; what was saved before is whole") from error
    finally:
        if file is not None:
            with contextlib.suppress(OSError):          # it is the checkpoint by now, unless something went wrong
                os.unlink(file.name)


def _text(where, arrays, meta):
    """The entry `meta`, after all checks that need no file."""
    for name, array in arrays.items():
        dtype = getattr(array, "dtype", None)
        if not _is_name(name) or name == "meta" or dtype is None or dtype.kind not in NUMBERS:
            raise CheckpointError(f"{where}, entry {name!r}", f"{type(array).__name__}, dtype {dtype}",
                                  "an array of numbers, and a relative path as its name", "rename it or convert it")
    manifest = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    try:
        text = json.dumps({"format": FORMAT, "version": VERSION, "manifest": manifest, "meta": meta}).encode()
        if not isinstance(meta, dict) or not _has_text_keys(meta) or len(text) > META_LIMIT:
            raise ValueError(f"{type(meta).__name__} of {len(text)} bytes")
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}, entry meta", error, f"a dict for JSON with text as keys, {META_LIMIT} bytes",
                              "convert it, or save what is large as arrays") from error


def _is_name(name):
    """A short relative path, harmless even if somebody unpacks the archive."""
    return (isinstance(name, str) and name.isprintable() and len(name) < 1000
            and not re.search(r"(^|/)\.{0,2}(/|$)|\\|^\w:", name))


def _has_text_keys(value):
    """All the way down: JSON would turn the key 1 into "1" and not say so."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_text_keys(item) for key, item in value.items())
    return not isinstance(value, (list, tuple)) or all(map(_has_text_keys, value))


def _write(file, arrays):
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(name + ".npy")       # dated 1980: the same state gives the same bytes
            with archive.open(info, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, to_host(array), version=(1, 0), allow_pickle=False)


# What happens to files

def _partial(path):
    """A new file beside `path`, locked until its writer closes it or dies."""
    while True:
        file = open(f"{path}.{secrets.token_hex(8)}.partial", "xb")   # buffered: zipfile overlooks short writes
        if fcntl is not None:
            with contextlib.suppress(OSError):          # a folder without locks: nothing is cleared there
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):                   # else another save cleared it before it was locked
            return file
        file.close()


def _clear_stale(folder):
    for name in filter(PARTIAL.fullmatch, os.listdir(folder) if fcntl else ()):
        with contextlib.suppress(OSError), open(os.path.join(folder, name), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)          # fails while its writer lives
            os.unlink(file.name)


def _keep_previous(path):
    """Give `path` its second name, after reading it: a damaged one never takes the place of an older whole one."""
    if not _whole(path):
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + PREVIOUS)
        os.link(path, path + PREVIOUS)
    except FileExistsError:                             # another save of the same checkpoint was faster
        pass
    except OSError:                                     # no hard links here: for a moment only `.previous` exists
        os.replace(path, path + PREVIOUS)


def _sync_folder(folder):
    with contextlib.suppress(OSError):                  # Windows and some network folders cannot; the file is synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# Loading

def load(path):
    """(arrays, meta) as they were saved. Any other file is a CheckpointError that names the file and the entry."""
    path = os.fspath(path)
    try:
        return _read(path)
    except CheckpointError as error:
        do = "restore it from a copy, or start the run again"
        if _whole(path + PREVIOUS):
            do = f"{path}{PREVIOUS} is whole: rename it to {os.path.basename(path)} and load again"
        raise CheckpointError(error.where, error.got, error.expected, do) from error


def latest(path):
    """`path` if that checkpoint is whole, else its `.previous`; None if there is neither. Reads the whole file."""
    names = [name for name in (os.fspath(path), os.fspath(path) + PREVIOUS) if os.path.lexists(name)]
    for name in names:
        if _whole(name):
            return name
    if names:
        load(names[0])                                  # raises, and says what is wrong with it
    return None


def _whole(path):
    try:
        _read(path, keep=False)
    except CheckpointError:
        return False
    return True


def _read(path, keep=True):
    """Check all that is declared, then read; with keep=False one array after the other, to see that they are whole."""
    where, arrays = f"checkpoint {path}", {}
    with _naming(where), open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        entries = _entries(archive, os.fstat(file.fileno()).st_size)
        with _naming(f"{where}, entry meta"):
            manifest, meta = _meta(archive, entries.pop("meta"))
        for name in sorted(manifest.keys() | entries.keys()):
            with _naming(f"{where}, entry {name}"):
                _require(name in entries, "it is missing")
                found, listed = _declared(archive, entries[name], NUMBERS), manifest.get(name, "nothing")
                _require(found == listed, f"its header says {found}, the manifest {listed}")
        for name, info in entries.items():
            with _naming(f"{where}, entry {name}"):
                array = _array(archive, info)
                if keep:
                    arrays[name] = array
    return arrays, meta


def _entries(archive, size):
    """name -> ZipInfo, after the checks that need no entry to be opened."""
    entries = {}
    for info in archive.infolist():
        name, stored = info.filename.removesuffix(".npy"), info.compress_type == zipfile.ZIP_STORED
        _require(_is_name(name) and name != info.filename, f"entry {info.filename!r} is no relative path of an .npy")
        _require(name not in entries, f"entry {name} is there twice")
        _require(stored and info.compress_size == info.file_size and not info.flag_bits & ~0x800,
                 f"entry {name} is compressed or encrypted")
        entries[name] = info
    _require("meta" in entries, "entry meta is missing")
    total = sum(info.file_size for info in entries.values())
    _require(total <= size, f"its entries declare {total} bytes, it has {size}")
    return entries


def _meta(archive, info):
    """(manifest, the caller's dict)"""
    _declared(archive, info, "S")
    _require(info.file_size <= META_LIMIT + 1024, f"it has {info.file_size} bytes, {META_LIMIT} are allowed")
    top = json.loads(_array(archive, info).item())
    version = top["format"], top["version"]
    _require(version == (FORMAT, VERSION), f"its format and version are {version}, this reader's {(FORMAT, VERSION)}")
    return dict(top["manifest"]), dict(top["meta"])


def _declared(archive, info, kinds):
    """[dtype, shape] from the entry's header, held against the kinds allowed and the entry's size."""
    with archive.open(info) as entry:
        version = np.lib.format.read_magic(entry)
        _require(version == (1, 0), f"its .npy version is {version}")
        shape, _, dtype = np.lib.format.read_array_header_1_0(entry)
        size = entry.tell() + math.prod(shape) * dtype.itemsize
    _require(dtype.kind in kinds, f"its dtype is {dtype}")
    _require(size == info.file_size, f"it has {info.file_size} bytes, {dtype} {shape} needs {size}")
    return [dtype.str, list(shape)]


def _array(archive, info):
    with archive.open(info) as entry:                   # at the last byte, zipfile compares the CRC
        return np.lib.format.read_array(entry, allow_pickle=False)


def _require(fact, otherwise):
    if not fact:
        raise ValueError(otherwise)


@contextlib.contextmanager
def _naming(where):
    """Whatever goes wrong inside (zipfile, json and NumPy raise many things) is a CheckpointError about `where`."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        got = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(where, got, "a whole checkpoint", "restore the file from a copy") from error

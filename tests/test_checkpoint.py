"""What is saved comes back bit for bit or not at all; a kill, a full disk or a damaged file loses nothing.

Oracles: the arrays themselves, numpy.load as an independent reader, and the state of the folder after each accident.
"""
import doctest
import errno
import io
import json
import os
import pickle
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import types
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nplearn import checkpoint
from nplearn.checkpoint import latest, load, save
from nplearn.errors import CheckpointError
from nplearn.resume import copy_into

DTYPES = ["?", "i1", "u1", "i2", ">i2", "u4", "i8", "u8", "f2", "f4", ">f4", "f8", "g", "c8", "c16"]
LAYOUTS = [np.ascontiguousarray, np.asfortranarray, np.transpose, lambda x: x[..., ::2], lambda x: x[..., ::-1]]


def make(dtype, shape, seed, layout=np.asarray):
    """An array of random bits (NaNs of every kind among them), in one of several memory layouts."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "b" or dtype.char == "g":          # not every pattern of bits is one of these
        array = rng.integers(0, 2, shape).astype(dtype)
    else:
        array = np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)
    return layout(array) if array.ndim else array


def bits(arrays):
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def generation(n):
    """A small state that says which one it is, in every array and in meta."""
    return {"net/fc.weight": np.full((3, 5), n, np.float32), "empty": np.zeros((0, 2)), "n": np.array(n)}, {"step": n}


def which(path):
    """The generation at `path`; a mixture of two is an error."""
    arrays, meta = load(path)
    assert bits(arrays) == bits(generation(meta["step"])[0])
    return meta["step"]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "run.npz")


def folder(path):
    return sorted(os.listdir(os.path.dirname(path)))


# A round trip

parts = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\:"), min_size=1, max_size=6)
names = st.lists(parts.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3).map("/".join)
some_arrays = st.dictionaries(names.filter(lambda name: name != "meta"), st.builds(
    make, st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4).map(tuple), st.integers(0, 999),
    st.sampled_from(LAYOUTS)), max_size=4)
# Importing nplearn flushes subnormals to zero.
leaves = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_subnormal=False)
some_meta = st.dictionaries(st.text(), st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_arrays, some_meta)
def test_what_is_saved_comes_back_bit_for_bit(tmp_path, arrays, meta):
    path = tmp_path / "run.npz"
    save(path, arrays, meta)
    loaded, loaded_meta = load(path)
    assert list(loaded) == list(arrays) and bits(loaded) == bits(arrays)
    assert json.dumps(loaded_meta) == json.dumps(meta)  # text, so that a NaN equals itself
    for array in loaded.values():
        assert array.flags.writeable and array.flags.aligned


def test_numpy_reads_the_same_arrays_and_nothing_is_compressed(path):
    arrays = {f"net/{dtype}.{i}": make(dtype, (3, 4), i, layout)
              for dtype in DTYPES for i, layout in enumerate(LAYOUTS)}
    save(path, arrays, {"step": 7})
    with np.load(path, allow_pickle=False) as file:
        assert bits({name: file[name] for name in file.files if name != "meta"}) == bits(arrays)
        assert json.loads(file["meta"].item())["meta"] == {"step": 7}
    with zipfile.ZipFile(path) as archive:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def test_the_same_state_gives_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        save(tmp_path / name, *generation(3))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


class DeviceArray:
    """Stands for a CuPy array where there is none: it lives elsewhere, and takes only its own kind."""

    def __init__(self, host):
        self.host, self.dtype, self.shape = host, host.dtype, host.shape

    def get(self):
        return self.host

    def __setitem__(self, key, value):
        assert isinstance(value, DeviceArray)
        self.host[key] = value.host


def test_arrays_on_a_device_are_saved_and_filled(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=DeviceArray, asarray=DeviceArray))
    save(path, {"net/w": DeviceArray(np.arange(3.0))}, {})
    target = DeviceArray(np.zeros(3))
    copy_into({"w": target}, load(path)[0], "net/")
    assert target.host.tolist() == [0, 1, 2]


@pytest.mark.gpu
def test_cupy_arrays_are_saved_and_filled(path):
    cupy = pytest.importorskip("cupy")
    array = cupy.asarray(make("f4", (3, 4), 0)).T
    save(path, {"net/w": array}, {})
    target = cupy.zeros((4, 3), "f4")
    copy_into({"w": target}, load(path)[0], "net/")
    assert target.tobytes() == array.tobytes()


# What save refuses, before it touches a file

@pytest.mark.parametrize("array", [
    np.array([None]), np.array(["a"]), np.array([b"a"]), np.zeros(1, "f4,i2"), np.zeros(1, "M8[s]"), np.zeros(1, "V4"),
    [1.0], 3.0, None])
def test_only_arrays_of_numbers_are_saved(path, array):
    with pytest.raises(CheckpointError, match=r"run\.npz, entry 'net/odd': .*array of numbers"):
        save(path, {"net/odd": array}, {})
    assert folder(path) == []


@pytest.mark.parametrize("name", ["", "meta", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "C:a", "a\\b",
                                  "a\0b", "a\nb", "\ud800", "a" * 1000, 3, None])
def test_only_plain_relative_paths_are_names(path, name):
    with pytest.raises(CheckpointError, match=r"run\.npz, entry .*relative path"):
        save(path, {name: np.zeros(1)}, {})
    assert folder(path) == []


endless = {}
endless["self"] = endless


@pytest.mark.parametrize("meta", [{"a": np.int64(3)}, {"a": {3: 4}}, {"a": [({None: 1},)]}, {"a": {1}}, endless, [1],
                                  None, {"a": 10**5000}])
def test_meta_that_json_would_change_or_refuse_is_refused(path, meta):
    with pytest.raises(CheckpointError, match=r"run\.npz, entry meta: .*JSON"):
        save(path, {}, meta)
    assert folder(path) == []


def test_meta_too_large_to_be_loaded_again_is_not_saved(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "META_LIMIT", 5000)
    save(path, {}, {"a": "x" * 4900})
    load(path)
    with pytest.raises(CheckpointError, match="5000 bytes"):
        save(path, {}, {"a": "x" * 5000})


# Accidents while saving

class Killed(BaseException):
    """Stands for SIGKILL: no handler of the library catches it."""


class Accident:
    """Counts the calls by which a save reaches the operating system, and makes the one numbered `at` go wrong.

    once   True: that call alone fails, as a full disk or a read-only folder would make it. False: the process is
           gone, so that call and all later ones never happen.
    """

    def __init__(self, monkeypatch, at, once, hard_links=True):
        self.calls, self.at, self.once = 0, at, once
        for name in ("open", "listdir", "link", "unlink", "replace", "fsync"):
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name)))
        if not hard_links:
            monkeypatch.setattr(os, "link", self.wrap(self.no_link))
        monkeypatch.setattr(checkpoint, "open", self.wrap(self.open), raising=False)

    @property
    def happened(self):
        return self.calls > self.at

    def tick(self):
        self.calls += 1
        if self.once and self.calls == self.at + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        if not self.once and self.happened:
            raise Killed

    def wrap(self, call):
        def wrapped(*args, **kwargs):
            self.tick()
            return call(*args, **kwargs)
        return wrapped

    def open(self, name, mode):
        return File(name, mode, self.tick) if mode == "xb" else open(name, mode)

    def no_link(self, *_):
        raise OSError(errno.EPERM, "Operation not permitted")


class File(io.BufferedWriter):
    def __init__(self, name, mode, tick):
        super().__init__(io.FileIO(name, mode))
        self.tick = tick

    def write(self, data):
        self.tick()
        return super().write(data)


def partials(path):
    return [name for name in folder(path) if name.endswith(".partial")]


def save_with_accidents(tmp_path, once, hard_links):
    """A folder with generations 1 and 2, in which the save of generation 3 meets one accident; for every accident."""
    start = tmp_path / "start"
    start.mkdir()
    save(start / "run.npz", *generation(1))
    save(start / "run.npz", *generation(2))
    for at in range(1000):
        path = str(shutil.copytree(start, tmp_path / str(at)) / "run.npz")
        with pytest.MonkeyPatch.context() as patch:
            accident = Accident(patch, at, once, hard_links)
            try:
                save(path, *generation(3))
                error = None
            except (CheckpointError, Killed) as caught:
                error = caught
        if not accident.happened:
            assert error is None and which(path) == 3 and at > 20
            return
        yield path, error


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_save_that_fails_at_any_call_changes_nothing_and_leaves_nothing(tmp_path, hard_links):
    for path, error in save_with_accidents(tmp_path, True, hard_links):
        assert not isinstance(error, Killed)
        assert partials(path) == []
        assert which(latest(path)) == (3 if error is None else 2)
        if error is not None:
            assert "run.npz: not saved (No space left on device)" in str(error)
            assert not hard_links or which(path) == 2


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_save_killed_at_any_call_leaves_a_whole_checkpoint(tmp_path, hard_links):
    littered = 0
    for path, _ in save_with_accidents(tmp_path, False, hard_links):
        assert which(latest(path)) in (2, 3)
        assert not hard_links or which(path) in (2, 3)
        littered += bool(partials(path))
        save(path, *generation(4))                      # the next run goes on, and clears what the dead one left
        assert which(path) == 4 and partials(path) == [] and which(path + ".previous") in (2, 3)
    assert littered > 5


def kill_in_saves(path, times):
    """Fork a run that goes on from the last checkpoint and saves all the time; SIGKILL it; and again."""
    draw, before = random.Random(0), 0
    for n in range(times):
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            step = which(latest(path)) if latest(path) else 0
            while True:
                step += 1
                save(path, *generation(step))
                os.write(into, b".")
        os.close(into)
        done = len(os.read(out, 1)) if n % 2 else 0     # every other one is given the time for a save
        time.sleep(draw.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(out, "rb") as said:
            done += len(said.read())
        now = which(latest(path)) if latest(path) else 0
        assert now - before - done in (0, 1)            # all it said it saved, and perhaps one more
        before = now
    assert before >= times // 2
    save(path, *generation(0))
    assert folder(path) == ["run.npz", "run.npz.previous"]


def run_killer(path, times):
    here = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    code = f"import test_checkpoint as t; t.kill_in_saves({path!r}, {times})"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": here}, check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_while_it_saves_goes_on_from_its_last_save(path):
    run_killer(path, 20)


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_while_it_saves_goes_on_a_thousand_times(path):
    run_killer(path, 1000)


def test_the_file_is_on_the_disk_before_it_gets_its_name(path, monkeypatch):
    save(path, *generation(1))
    events, fsync, link, replace = [], os.fsync, os.link, os.replace

    def synced(handle):
        state = os.fstat(handle)
        events.append("sync folder" if stat.S_ISDIR(state.st_mode) else f"sync {state.st_size} bytes")
        fsync(handle)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", lambda *paths: events.append("link") or link(*paths))
    monkeypatch.setattr(os, "replace", lambda *paths: events.append("replace") or replace(*paths))
    save(path, *generation(2))
    assert events == [f"sync {os.path.getsize(path)} bytes", "link", "replace", "sync folder"]


def test_a_disk_that_fills_up_loses_nothing(path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    save(path, *generation(2))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        with pytest.raises(CheckpointError, match=r"run\.npz: not saved \(File too large\)"):
            save(path, {"net/large": np.zeros(1 << 18)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert which(path) == 2 and partials(path) == []


def test_a_read_only_or_missing_folder_is_a_checkpoint_error(path, monkeypatch):
    save(path, *generation(2))
    with pytest.raises(CheckpointError, match="No such file"):
        save(os.path.dirname(path) + "/nowhere/run.npz", *generation(3))

    def refuse(name, mode):
        if mode == "xb":
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return open(name, mode)
    monkeypatch.setattr(checkpoint, "open", refuse, raising=False)
    with pytest.raises(CheckpointError, match=r"run\.npz: not saved \(Permission denied\)"):
        save(path, *generation(3))
    assert which(path) == 2 and folder(path) == ["run.npz"]


def test_a_folder_in_the_place_of_the_file_is_a_checkpoint_error(path):
    os.mkdir(path)
    for attempt in (load, latest, lambda path: save(path, *generation(1))):
        with pytest.raises(CheckpointError, match=r"run\.npz"):
            attempt(path)
    assert folder(path) == ["run.npz"]


def test_the_partial_file_of_a_living_writer_is_left_alone(path):
    pytest.importorskip("fcntl")
    with checkpoint._partial(path) as file:
        save(path, *generation(1))
        assert partials(path) == [os.path.basename(file.name)]
    save(path, *generation(2))
    assert partials(path) == []


def test_files_that_only_look_like_partial_ones_are_left_alone(path):
    others = ["run.npz.partial", "run.npz.0123.partial", "run.npz.0123456789abcdef.partial.txt",
              ".0123456789abcdef.partial"]
    for name in others:
        open(os.path.join(os.path.dirname(path), name), "x").close()
    os.mkdir(path + ".0123456789abcdef.partial")
    save(path, *generation(1))
    assert set(others) < set(folder(path))


def test_several_writers_in_one_folder_do_not_disturb_each_other(path):
    """Four writers, two of them on one file, while a reader looks: it never sees anything but a whole checkpoint."""
    save(path, *generation(0))
    errors, seen = [], set()

    def write(target, n):
        try:
            for i in range(12):
                save(target, *generation(n + i))
        except BaseException as error:
            errors.append(error)

    jobs = [(path, 100), (path, 200), (path + "a", 300), (path + "b", 400)]
    threads = [threading.Thread(target=write, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.add(which(path))
    for thread in threads:
        thread.join()
    assert errors == [] and len(seen) > 2
    assert which(path) in (111, 211) and which(path + "a") == 311 and which(path + "b") == 411
    assert which(path + ".previous") > 99 and which(path + "a.previous") == 310 and partials(path) == []


def test_a_save_of_the_same_file_at_the_same_moment_is_no_error(path, monkeypatch):
    """The two places where another save can come between, made to happen."""
    fcntl, link, replace, moved = pytest.importorskip("fcntl"), os.link, os.replace, []

    def flock(file, how, flock=fcntl.flock):
        if not moved:
            moved.append("cleared")
            os.unlink(file.name)                        # taken for stale between its creation and its lock
        flock(file, how)
    save(path, *generation(1))
    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(os, "link", lambda *paths: (link(*paths), link(*paths)))           # the other one linked first
    monkeypatch.setattr(os, "replace", lambda old, new: moved.append(new) or replace(old, new))
    save(path, *generation(2))
    assert moved == ["cleared", path] and which(path) == 2 and which(path + ".previous") == 1


# The generation before

def damage(path):
    with open(path, "r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.truncate()


def test_a_damaged_checkpoint_points_to_the_whole_one_before(path):
    assert latest(path) is None
    save(path, *generation(1))
    assert latest(path) == path and folder(path) == ["run.npz"]
    save(path, *generation(2))
    assert latest(path) == path and which(path + ".previous") == 1
    damage(path)
    with pytest.raises(CheckpointError, match=r"run\.npz\.previous is whole: rename it to run\.npz"):
        load(path)
    assert latest(path) == path + ".previous"
    os.unlink(path)
    with pytest.raises(CheckpointError, match=r"No such file.*previous is whole"):
        load(path)
    damage(path + ".previous")
    with pytest.raises(CheckpointError, match=r"run\.npz.*restore it from a copy"):
        load(path)
    with pytest.raises(CheckpointError, match=r"run\.npz\.previous"):
        latest(path)


def test_a_damaged_checkpoint_never_displaces_a_whole_previous_one(path):
    save(path, *generation(1))
    save(path, *generation(2))
    damage(path)
    save(path, *generation(3))
    assert which(path) == 3 and which(path + ".previous") == 1


# Damage

def refused_or_same(path, data, expected):
    """True when `data` is refused. Silent damage and any other exception fail."""
    with open(path, "wb") as file:
        file.write(data)
    try:
        arrays, meta = load(path)
    except CheckpointError as error:
        assert path in str(error)
        return True
    assert (bits(arrays), meta) == expected
    return False


@pytest.fixture
def small(path):
    arrays = {"net/gewicht-ü.weight": make("f4", (3, 5), 0), "net/b": make("i8", (4,), 1), "empty": np.zeros((0, 3)),
              "f": make("c8", (2, 3), 2, np.asfortranarray), "flag": np.array(True)}
    save(path, arrays, {"step": 12, "note": "é"})
    with open(path, "rb") as file:
        data = file.read()
    return path, data, (bits(arrays), {"step": 12, "note": "é"})


def flip(path, data, expected, chosen):
    refused = 0
    for bit in chosen:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        refused += refused_or_same(path, bytes(flipped), expected)
    return refused / len(chosen)


def test_a_flipped_bit_is_found_or_harmless(small):
    path, data, expected = small
    assert flip(path, data, expected, random.Random(1).sample(range(8 * len(data)), 200)) > 0.7


@pytest.mark.long
def test_every_flipped_bit_is_found_or_harmless(small):
    path, data, expected = small
    assert flip(path, data, expected, range(8 * len(data))) > 0.7


def test_every_flipped_bit_of_an_entry_is_found(small):
    path, data, expected = small
    with zipfile.ZipFile(path) as archive:
        starts = {info.header_offset + 30 + len(info.orig_filename.encode()) + 20: info for info in archive.infolist()}
        spans = [range(8 * start, 8 * (start + info.file_size)) for start, info in starts.items()]
    assert all(data[span.start // 8:][:6] == b"\x93NUMPY" for span in spans)
    draw = random.Random(2)
    assert flip(path, data, expected, [bit for span in spans for bit in draw.sample(span, 40)]) == 1


def test_a_flipped_bit_deep_in_a_large_entry_is_found(path):
    save(path, {"net/large": make("f4", (50, 100), 3)}, {})
    with open(path, "rb") as file:
        data = file.read()
    end = data.index(b"PK\1\2")                         # the entry takes up all before it, and 20000 bytes are its data
    assert flip(path, data, None, random.Random(3).sample(range(8 * (end - 20000), 8 * end), 30)) == 1


def test_a_file_cut_anywhere_is_refused(small):
    path, data, expected = small
    for n in [*range(0, len(data), 9), *range(len(data) - 40, len(data))]:
        assert refused_or_same(path, data[:n], expected)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_overwritten_moved_and_repeated_bytes_are_found_or_harmless(small, data):
    path, whole, expected = small
    place, n = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 80))
    patch = data.draw(st.binary(max_size=40) | st.integers(0, len(whole)).map(lambda start: whole[start:start + n]))
    refused_or_same(path, whole[:place] + patch + whole[place + n:], expected)


# Hostile files

def npy(array=None, descr="<f4", shape=(2,), body=b"\0" * 8, version=(1, 0), header=None):
    """The bytes of one entry: of `array`, or whatever the other arguments declare."""
    if array is not None:
        file = io.BytesIO()
        np.lib.format.write_array(file, array)
        return file.getvalue()
    header = header or f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", len(header)) + header + body


def forge(path, entries, manifest, compression=zipfile.ZIP_STORED, **top):
    """A checkpoint by hand, with right CRCs: `entries` of any bytes, and a meta that may be wrong too."""
    description = {"format": checkpoint.FORMAT, "version": 1, "manifest": manifest, "meta": {}, **top}
    entries = [("meta.npy", npy(np.array(json.dumps(description).encode()))), *entries]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")                 # duplicate names are meant
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, compression if name != "meta.npy" else zipfile.ZIP_STORED)


def refuse(path, *words, peak=4 << 20):
    """Loading raises a CheckpointError with the file and these words in it, and never holds much memory."""
    for attempt in (load, latest):
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError) as caught:
                attempt(path)
            assert tracemalloc.get_traced_memory()[1] < peak
        finally:
            tracemalloc.stop()
        for word in ("run.npz", *words):
            assert word in str(caught.value)
    assert folder(path) == ["run.npz"]


GOOD = {"net/w": ["<f4", [2]]}


def test_a_forged_file_without_a_fault_loads(path):
    forge(path, [("net/w.npy", npy())], GOOD)           # else the refusals below would prove nothing
    assert bits(load(path)[0]) == bits({"net/w": np.zeros(2, np.float32)})


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_pickles_are_neither_run_nor_read(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    armed = np.array([Bomb()], object)
    file = io.BytesIO()
    np.lib.format.write_array(file, armed, allow_pickle=True)
    for data in (file.getvalue(), pickle.dumps(Bomb()), npy(descr="|O", body=b"\0" * 16)):
        forge(path, [("net/w.npy", data)], GOOD)
        refuse(path, "entry net/w")
        forge(path, [("net/w.npy", data)], {"net/w": ["|O", [1]]})
        refuse(path, "entry net/w")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.npy", file.getvalue())
    refuse(path, "entry meta")


@pytest.mark.parametrize("descr, shape", [
    ("<f4", (2**40,)), ("<f4", (2**62, 2**62)), ("<f4", (2**64 + 2,)), ("<f4", (10**400,)), ("<f4", (3,)),
    ("<f4", (1,)), ("<f4", (-1, -2)), ("<f4", (2.0,)), ("<f4", [2]), ("<f4", None), ("<f4", (2**62, 2**62, 0)),
    ("<f8", (2,)), ("<f4", (1,) * 70), ("|S8", ()), ("<U2", ()), ("<M8[s]", ()), ("|V8", ()), ([("a", "<f4")], (2,)),
    ("nonsense", (2,)), (("<f4", (2,)), ()), ("<f4,<f4", ())], ids=lambda value: str(value)[:20])
def test_a_header_that_does_not_fit_its_bytes_is_refused_before_memory_is_taken(path, descr, shape):
    for manifest in (GOOD, {"net/w": [descr, list(shape or ())]}):
        body = b"" if 0 in (shape or ()) else b"\0" * 8
        forge(path, [("net/w.npy", npy(descr=descr, shape=shape, body=body))], manifest)
        refuse(path, "entry net/w")


@pytest.mark.parametrize("data", [
    b"", b"\x93NUMPY", npy()[:-1], npy() + b"\0", npy(version=(2, 0)), npy(version=(9, 0)), npy(header=b"("),
    npy(header=b"(" * 900), npy(header=b"{'descr': '<f4', 'fortran_order': False}"), npy(header=b"\xff" * 99),
    npy(header=b"{'descr': '<f4', 'fortran_order': 3, 'shape': (2,)}"), npy(header=b"__import__('os').mkdir('pwned')"),
    npy(header=b" " * 65000 + b"{}"),
    b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"], ids=lambda data: repr(data[:16]) + str(len(data)))
@pytest.mark.filterwarnings("default")                  # a user's run does not turn warnings into errors
def test_an_entry_that_is_no_npy_is_refused(path, data):
    forge(path, [("net/w.npy", data)], GOOD)
    refuse(path, "entry net/w")


def test_compressed_entries_are_refused_unread(path):
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        forge(path, [("net/w.npy", npy(np.zeros(1 << 23, np.uint8)))], {"net/w": ["|u1", [1 << 23]]}, compression)
        refuse(path, "entry net/w", "compressed")


def test_declared_sizes_larger_than_the_file_are_refused(path):
    forge(path, [("net/w.npy", npy(shape=(2**28,)))], {"net/w": ["<f4", [2**28]]})
    with open(path, "rb") as file:
        data = bytearray(file.read())
    record, header = data.rindex(b"PK\1\2"), len(npy(shape=(2**28,))) - 8
    data[record + 20:record + 28] = struct.pack("<II", header + 2**30, header + 2**30)
    with open(path, "wb") as file:
        file.write(data)
    refuse(path, "bytes")


@pytest.mark.parametrize("name", ["../../evil.npy", "/evil.npy", "a/../../evil.npy", "..\\evil.npy", "C:evil.npy",
                                  "net/w", "net/w.npz", ".npy", "net/.npy", "net/w/", "a\nb.npy"])
def test_names_that_leave_the_archive_or_are_no_arrays_are_refused(path, name):
    forge(path, [(name, npy())], {name.removesuffix(".npy"): ["<f4", [2]]})
    refuse(path, repr(name))


def test_entries_and_manifest_name_each_other_once(path):
    forge(path, [("net/w.npy", npy()), ("net/w.npy", npy())], GOOD)
    refuse(path, "entry net/w", "twice")
    forge(path, [("net/w.npy", npy()), ("net/extra.npy", npy())], GOOD)
    refuse(path, "entry net/extra", "the manifest nothing")
    forge(path, [("net/w.npy", npy())], {**GOOD, "net/lost": ["<f4", [2]]})
    refuse(path, "entry net/lost", "missing")
    forge(path, [("net/w.npy", npy()), ("meta.npy", npy())], GOOD)
    refuse(path, "entry meta", "twice")


@pytest.mark.parametrize("top", [
    {"version": 2}, {"version": None}, {"format": "something else"}, {"manifest": 3}, {"manifest": [1]}, {"meta": [1]},
    {"manifest": {"net/w": None}}, {"manifest": {"net/w": ["<f4", [2, 1]]}}, {"manifest": {"net/w": [">f4", [2]]}}])
def test_a_description_of_another_kind_is_refused(path, top):
    forge(path, [("net/w.npy", npy())], **{"manifest": GOOD, **top})
    refuse(path, "entry")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"{}", b'{"format": "nplearn checkpoint"}', b"\xff\xfe",
                                  b"[" * 10**6, b'{"format": ' + b"9" * 5000 + b"}"], ids=lambda text: repr(text[:12]))
def test_a_meta_that_is_no_description_is_refused(path, text):
    for data in (npy(np.array(text)), npy(np.array([text])), text):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("meta.npy", data)
        refuse(path, "entry meta", peak=16 << 20)


def test_a_meta_too_large_is_refused_unread(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "META_LIMIT", 1000)
    forge(path, [], {}, meta={"a": "x" * 10**7})
    refuse(path, "entry meta", "1000 are allowed")


def test_what_is_no_archive_is_refused(path):
    for data in (b"", b"PK", b"hello" * 1000, bytes(100), npy(), b"PK\5\6" + bytes(18)):
        with open(path, "wb") as file:
            file.write(data)
        refuse(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/w.npy", npy())
    refuse(path, "entry meta is missing")


headers = st.fixed_dictionaries({
    "descr": st.sampled_from(DTYPES + ["O", "S9", "V3", "<f4,<i2", "m8[s]"]) | st.text(max_size=5),
    "fortran_order": st.booleans() | st.none(),
    "shape": st.lists(st.integers(-2, 2**70) | st.integers(0, 3)).map(tuple)})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers, st.binary(max_size=60), st.booleans())
def test_any_header_is_refused_or_describes_its_bytes(path, header, body, honest):
    listed = [header["descr"] if honest else "<f4", list(header["shape"])]
    forge(path, [("net/w.npy", npy(header=repr(header).encode(), body=body))], {"net/w": listed})
    try:
        (array,) = load(path)[0].values()
    except CheckpointError as error:
        assert "run.npz, entry net/w" in str(error)
    else:
        assert array.nbytes == len(body) and [array.dtype.str, list(array.shape)] == listed


def test_the_examples_in_the_docstrings_are_true():
    failed, ran = doctest.testmod(checkpoint)
    assert failed == 0 and ran > 2

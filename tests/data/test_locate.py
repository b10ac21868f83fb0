"""`nplearn.data.locate`: what is found where, and what is left when fetching fails. Nothing here needs a network."""
import functools
import hashlib
import http.server
import os
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from nplearn.data import load, locate
from nplearn.errors import DataError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty current directory and an empty cache; returns the cache."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nplearn"


@pytest.mark.parametrize("name", ["mnist5k", "mnist5k-old", "mnist5k.tar", "fashion-mnist", "mnist_x", "mnis"])
def test_mnist_is_not_found_under_another_name(tmp_path, home, name):
    (tmp_path / "data" / name).mkdir(parents=True)
    assert locate.match(tmp_path / "data", "mnist") is None
    assert not locate.is_named("cifar-100-binary.tar.gz", "cifar-10")


@pytest.mark.parametrize("file", ["cifar-10.tar", "cifar-10-binary.tar.gz", "cifar-10-subset.tar.xz", "cifar-10.tgz"])
def test_an_archive_named_as_the_set_is_found(tmp_path, by_hand, file):
    by_hand.write(tmp_path, {file: b"", "cifar-10-notes.txt": b"", "cifar-10-binary.tar.gz.part": b""})
    assert locate.find("cifar-10", tmp_path, download=False) == tmp_path / file


def test_the_exact_folder_comes_before_longer_names(tmp_path, by_hand):
    by_hand.write(tmp_path, {"mnist-a.tar": b"", "mnist.tar": b""})
    assert locate.match(tmp_path, "mnist").name == "mnist-a.tar"
    (tmp_path / "mnist-0").mkdir()
    assert locate.match(tmp_path, "mnist").name == "mnist-0"
    (tmp_path / "mnist").mkdir()
    assert locate.match(tmp_path, "mnist").name == "mnist"


def test_a_python_version_is_passed_over(tmp_path, by_hand):
    by_hand.write(tmp_path / "cifar-10-batches-py", {})
    by_hand.write(tmp_path, {"cifar-10-python.tar.gz": b""})
    assert locate.match(tmp_path, "cifar-10") is None
    (tmp_path / "cifar-10-subset").mkdir()
    assert locate.match(tmp_path, "cifar-10").name == "cifar-10-subset"


def test_places_are_searched_in_their_order(tmp_path, home, monkeypatch):
    monkeypatch.setenv("NPLEARN_DATA", str(tmp_path / "environment"))
    repository = Path(locate.__file__).parents[2] / "datasets"
    assert locate.places(tmp_path / "asked") == [
        tmp_path / "asked", tmp_path / "environment", repository, tmp_path / "work" / "datasets", home]
    for place in (home, tmp_path / "work" / "datasets", tmp_path / "environment", tmp_path / "asked"):
        (place / "mnist").mkdir(parents=True)           # from last to first
        (tmp_path / "asked").mkdir(exist_ok=True)
        assert locate.find("mnist", tmp_path / "asked", download=False) == place / "mnist"


def test_an_empty_environment_variable_is_no_place(home, monkeypatch):
    monkeypatch.setenv("NPLEARN_DATA", "")
    assert len(locate.places()) == 3


def test_the_cache_is_where_the_system_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert str(locate.cache()) == os.path.join(os.path.expanduser("~/.cache"), "nplearn")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert str(locate.cache()) != str(tmp_path / "local" / "nplearn")
    monkeypatch.setattr(sys, "platform", "win32")
    assert str(locate.cache()) == str(tmp_path / "local" / "nplearn")


def test_a_data_directory_that_does_not_exist_is_said_at_once(tmp_path):
    with pytest.raises(DataError, match="no such folder.*--data-dir"):
        load("mnist5k", tmp_path / "typo")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar-10"])
def test_a_missing_set_says_where_it_was_looked_for_and_what_to_put_there(tmp_path, home, monkeypatch, name):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError) as caught:
        load(name, tmp_path / "data", download=False)
    message = str(caught.value)
    assert all(str(place) in message for place in locate.places(tmp_path / "data"))
    base, files = locate.PUBLISHED[name]
    assert base in message and all(file in message for file in files)
    assert re.search(f"put .* into {re.escape(str(tmp_path / 'data'))}", message)
    assert "pip" not in message                         # it was not asked to fetch anything


def test_a_missing_embedded_set_is_never_fetched(home, monkeypatch):
    monkeypatch.setattr(locate, "places", lambda data_dir=None: [home])
    monkeypatch.setattr(locate, "_fetch", None)
    with pytest.raises(DataError, match="mnist5k.*repository"):
        load("mnist5k")


def test_without_pooch_the_message_says_how_to_install_it(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)     # an import of it fails
    with pytest.raises(DataError, match=re.escape("pip install 'nplearn[data]'")) as caught:
        load("mnist")
    assert f"put them into {home / 'mnist'}" in str(caught.value) and not home.exists()


def stand_in(files, fail=None):
    """A `pooch` whose web has `files`; `fail` = (file, error) breaks off in the middle of that one."""
    def retrieve(url, known_hash, fname, path, progressbar):
        partial = Path(path) / ("half-" + fname)
        partial.write_bytes(files[fname][:3])
        if fail is not None and fail[0] == fname:
            raise fail[1]                               # leaving its own half behind: the worst that it could do
        assert known_hash.startswith("md5:") and progressbar
        if known_hash != "md5:" + hashlib.md5(files[fname]).hexdigest():
            raise ValueError(f"MD5 hash of downloaded file ({fname}) does not match")
        partial.rename(Path(path) / fname)
        (Path(path) / fname).write_bytes(files[fname])
    return SimpleNamespace(retrieve=retrieve)


def publish(monkeypatch, name, files, url="https://example.invalid/"):
    monkeypatch.setitem(locate.PUBLISHED, name, (url, {f: hashlib.md5(b).hexdigest() for f, b in files.items()}))


def test_a_fetched_set_is_found_from_then_on(home, monkeypatch, by_hand):
    files, _ = by_hand.idx_set()
    publish(monkeypatch, "mnist", files)
    monkeypatch.setitem(sys.modules, "pooch", stand_in(files))
    first, _ = load("mnist")
    monkeypatch.setitem(sys.modules, "pooch", None)
    again, _ = load("mnist")
    assert first.source == again.source == str(home / "mnist")
    assert os.listdir(home) == ["mnist"] and sorted(os.listdir(home / "mnist")) == sorted(files)


def test_a_fetched_archive_is_found_from_then_on(home, monkeypatch, by_hand):
    files = {"cifar-10-binary.tar.gz": by_hand.tar_bytes(by_hand.cifar_set()[0], "gz")}
    publish(monkeypatch, "cifar-10", files)
    monkeypatch.setitem(sys.modules, "pooch", stand_in(files))
    assert load("cifar-10")[0].source == load("cifar-10")[0].source == str(home / "cifar-10-binary.tar.gz")
    assert os.listdir(home) == ["cifar-10-binary.tar.gz"]


@pytest.mark.parametrize("error", [ValueError("hash does not match"), ConnectionError("no network"),
                                   OSError(28, "full")])
def test_a_failed_fetch_leaves_nothing_behind(home, monkeypatch, by_hand, error):
    files, _ = by_hand.idx_set()
    publish(monkeypatch, "mnist", files)
    monkeypatch.setitem(sys.modules, "pooch", stand_in(files, ("t10k-images-idx3-ubyte", error)))
    with pytest.raises(DataError, match=f"fetching it from https://example.invalid/ failed .*{error.args[-1]}"):
        load("mnist")
    assert os.listdir(home) == []


def test_a_checksum_that_is_not_the_published_one_leaves_nothing_behind(home, monkeypatch, by_hand):
    files, _ = by_hand.idx_set()
    monkeypatch.setitem(sys.modules, "pooch", stand_in({f"{name}.gz": data for name, data in files.items()}))
    with pytest.raises(DataError, match="does not match"):
        load("mnist")
    assert os.listdir(home) == []


def test_a_set_is_not_found_while_it_is_fetched(home, monkeypatch, by_hand):
    files, _ = by_hand.idx_set()
    publish(monkeypatch, "mnist", files)
    pooch, found = stand_in(files), []

    def looking(url, known_hash, fname, **settings):
        found.append(locate.match(home, "mnist"))       # what a second process, or one after a kill, would find
        pooch.retrieve(url, known_hash, fname, **settings)

    monkeypatch.setitem(sys.modules, "pooch", SimpleNamespace(retrieve=looking))
    load("mnist")
    assert found == [None] * 4


def test_an_interrupted_fetch_leaves_nothing_behind(home, monkeypatch, by_hand):
    files, _ = by_hand.idx_set()
    publish(monkeypatch, "mnist", files)
    monkeypatch.setitem(sys.modules, "pooch", stand_in(files, ("t10k-labels-idx1-ubyte", KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        load("mnist")
    assert os.listdir(home) == []


def test_a_set_that_another_process_has_just_fetched_is_taken(home, monkeypatch, by_hand):
    files, _ = by_hand.idx_set()
    publish(monkeypatch, "mnist", files)
    pooch = stand_in(files)

    def and_the_other(**settings):
        by_hand.write(home / "mnist", files)
        pooch.retrieve(**settings)

    monkeypatch.setitem(sys.modules, "pooch", SimpleNamespace(
        retrieve=lambda url, known_hash, **settings: and_the_other(url=url, known_hash=known_hash, **settings)))
    assert len(load("mnist")[0]) == 5 and os.listdir(home) == ["mnist"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_the_real_pooch_checks_what_a_server_sends(home, tmp_path, monkeypatch, by_hand):
    pytest.importorskip("pooch")
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    files, _ = by_hand.idx_set()
    handler = functools.partial(Quiet, directory=by_hand.write(tmp_path / "web", files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        publish(monkeypatch, "mnist", files, f"http://127.0.0.1:{server.server_port}/")
        damaged = bytearray(files["t10k-labels-idx1-ubyte"])
        damaged[-1] ^= 1
        by_hand.write(tmp_path / "web", {"t10k-labels-idx1-ubyte": damaged})
        with pytest.raises(DataError, match="does not match"):
            load("mnist")
        assert os.listdir(home) == []
        by_hand.write(tmp_path / "web", files)
        assert load("mnist")[0].source == str(home / "mnist")
        server.shutdown()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "another"))
    with pytest.raises(DataError, match="failed"):      # nobody listens any more
        load("mnist")
    assert os.listdir(tmp_path / "another" / "nplearn") == []


def test_the_published_checksums_are_md5_sums_of_the_files_that_the_readers_know():
    for name, (url, files) in locate.PUBLISHED.items():
        assert url.startswith("http") and url.endswith("/")
        assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in files.values())
        assert len(files) == (1 if name == "cifar-10" else 4)

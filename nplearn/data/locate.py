"""Where data sets are: the places that are searched, in order, and the fetching of a set that is in none of them.

    1  the data directory that was asked for (--data-dir)
    2  the folder in the environment variable NPLEARN_DATA
    3  datasets/ beside the package or in the current directory (it comes with mnist5k)
    4  the user's cache: $XDG_CACHE_HOME/nplearn or ~/.cache/nplearn, on Windows %LOCALAPPDATA%\\nplearn

In each, a folder that is named as the set comes first, then a folder or archive whose name goes on with - or . after
the set's (`cifar-10-batches-bin`, `mnist.tar`). A set is fetched into a scratch folder of the cache, each file checked
against its published checksum there, and renamed into place as a whole: nothing half-written is ever found.
"""
import os
import sys
import tempfile
from pathlib import Path

from nplearn.data import archive, idx
from nplearn.errors import DataError

# The MD5 sums are the published ones: Fashion-MNIST's stand in its own README, CIFAR-10's on its page
# (https://www.cs.toronto.edu/~kriz/cifar.html), MNIST's are those that every reader of the original files agrees on.
# Nobody can yet make another file with a given MD5 (only two new files with the same), so plain http will do too.
PUBLISHED = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c"}),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310"}),
    "cifar-10": ("https://www.cs.toronto.edu/~kriz/", {
        "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"}),
}
NAMES = ("mnist5k", *PUBLISHED)


def find(name, data_dir=None, download=True):
    """The folder or archive of a known set.

    name      one of NAMES
    data_dir  str or Path of the folder to look in first, or None; it must exist
    download  whether to fetch what is nowhere (needs the package pooch and a network)
    Returns a Path. Raises DataError that lists every place and says what to put where.
    """
    if data_dir is not None and not Path(data_dir).is_dir():
        raise DataError(str(data_dir), "no such folder", "a folder with data sets in it", "check --data-dir")
    for place in places(data_dir):
        found = match(place, name)
        if found is not None:
            return found
    if download and name in PUBLISHED:
        return _fetch(name, data_dir)
    raise _absent(name, data_dir)


def places(data_dir=None):
    """The folders (Paths, existing or not) that are searched, first to last."""
    asked = [folder for folder in (data_dir, os.environ.get("NPLEARN_DATA")) if folder]
    return [*map(Path, asked), Path(__file__).resolve().parents[2] / "datasets", Path("datasets").absolute(), cache()]


def cache():
    """The user's cache folder (Path, existing or not)."""
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "nplearn"
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "nplearn"


def is_named(file, name):
    """Whether a folder or archive called `file` holds the set `name`.

    >>> [is_named(file, "mnist") for file in ("mnist", "mnist-copy", "mnist.tar.gz", "mnist5k", "fashion-mnist")]
    [True, True, True, False, False]
    """
    return file == name or file.startswith((name + "-", name + "."))


def known_name(path):
    """The set that the name of `path` speaks of, or None."""
    return next((name for name in NAMES if is_named(path.resolve().name, name)), None)


def match(place, name):
    """The Path of set `name` in the folder `place`, or None. Python (pickle) versions of a set do not count."""
    try:                                                # sorted: the name itself comes before all that go on after it
        entries = sorted(entry for entry in place.iterdir() if is_named(entry.name, name))
    except OSError:                                     # not there, or not ours to read
        return None
    for entry in entries:
        usable = entry.is_dir() or (entry.is_file() and entry.name.endswith(archive.SUFFIXES))
        if usable and not entry.name.removesuffix(".tar.gz").endswith(("-py", "-python")):
            return entry
    return None


def _fetch(name, data_dir):
    try:
        import pooch
    except ImportError as error:
        raise _absent(name, data_dir, install=True) from error
    base, files = PUBLISHED[name]
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache()) as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            for file, md5 in files.items():
                pooch.retrieve(base + file, "md5:" + md5, fname=file, path=folder, progressbar=True)
            return _publish(folder, cache() / name)
    except Exception as error:                          # requests, urllib3 and pooch raise kinds of their own
        raise _absent(name, data_dir, f"; fetching it from {base} failed ({error})") from error


def _publish(folder, target):
    files = list(folder.iterdir())
    if len(files) == 1:                                 # an archive is found by its own name
        folder, target = files[0], target.with_name(files[0].name)
    try:
        os.replace(folder, target)
    except OSError:
        if not target.exists():                         # else another process was faster, with the same bytes
            raise
    return target


def _absent(name, data_dir, why="", install=False):
    searched = places(data_dir)
    base, files = PUBLISHED.get(name, ("the datasets/ folder of nplearn's repository", [f"{f}.gz" for f in idx.FILES]))
    home = Path(data_dir or os.environ.get("NPLEARN_DATA") or cache())
    do = f"take {', '.join(files)} from {base} and put {'them' if len(files) > 1 else 'it, or what it unpacks to,'} "
    do += f"into {home / name if len(files) > 1 else home}"
    if install:
        do += ", or have it fetched: pip install 'nplearn[data]'"
    return DataError(f"data set {name}", f"not found in {', '.join(map(str, dict.fromkeys(searched)))}{why}",
                     f"a folder or archive named {name} there", do)

"""The safe way into a folder or an archive of data files: nothing is extracted, and nothing grows without bound.

`members(path)` walks a folder, or a .tar, .tar.gz or .tar.xz from front to back, and hands out its regular files one
by one. What an archive says about itself is not believed: names that lead out of it, links and devices are refused, and
the number of members, the size of each and the compression ratio have bounds. The tar blocks are walked here, over
`tarfile`'s own header parser, because `TarFile` takes a damaged header in the middle for the end of the archive.
Source of the format: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
"""
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from nplearn.errors import DataError

MEMBERS = 10_000                                        # headers in one archive
LARGEST = 2**30                                         # bytes of one file, compressed or not
RATIO, SMALL = 100, 2**24                               # what comes out: at most 100 times what goes in, or 16 MiB
METADATA = 2**16                                        # bytes of one pax header or GNU long name
XZ_MEMORY = 2**27                                       # the largest dictionary of the xz presets needs 65 MiB
BLOCK, CHUNK = 512, 2**16
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, ValueError)    # what the readers below raise

REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
METADATA_TYPES = (*PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@dataclass(frozen=True)
class Member:
    """One regular file: `where` for messages, `name` inside its folder or archive, `size` in bytes, `read()`."""

    where: str
    name: str
    size: int
    exactly: Callable = field(repr=False)               # exactly(n) -> n bytes, or DataError

    def read(self):
        """All bytes (in an archive once, before the next member). Raises DataError on damage or over 1 GiB."""
        if self.size > LARGEST:
            raise _refused(self.where, f"{self.size} bytes", f"at most {LARGEST}")
        return self.exactly(self.size)


def members(path):
    """Walk the regular files of a folder or archive.

    path    str or Path of a folder, or of a .tar, .tar.gz or .tar.xz (the content decides, not the suffix)
    yields  `Member`s: a folder's by name, an archive's in its own order. What is not read is skipped unread. An archive
            is known to be undamaged only when the walk has ended.
    Raises DataError for whatever cannot be read, is damaged, or passes a bound.
    """
    path = Path(path)
    try:
        if path.is_dir():
            files = sorted(entry for entry in path.iterdir() if entry.is_file())
            for file in files:
                yield open_file(file)
        elif path.exists() and not path.is_file():      # a pipe would wait for ever
            raise DataError(str(path), "neither a file nor a folder", "a folder or an archive", "check the path")
        else:
            with path.open("rb") as file:
                allowed = max(SMALL, RATIO * path.stat().st_size)
                yield from _tar(_Stream(_decompressed(file), str(path), allowed), str(path))
    except OSError as error:
        raise _unreadable(path, error) from error


def open_file(path):
    """The `Member` that stands for one file on disk (str or Path). Raises DataError if it is missing."""
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    return Member(str(path), path.name, size, partial(_file_bytes, path))


def content(source, name=None, check=None):
    """All bytes of one file, whatever stands for it.

    source  str or Path, a binary file object that can seek, or a `Member`
    name    what messages call it, if not by its own name
    check   check(size, where), called before anything is read, may refuse the size
    Returns (bytes, where). Raises DataError when it cannot be read or is over 1 GiB.
    """
    if isinstance(source, str | Path):
        source = open_file(source)
    elif not isinstance(source, Member):
        source = _open_object(source)
    where = name or source.where
    if check is not None:
        check(source.size, where)
    return source.read(), where


def _open_object(file):
    where, start = getattr(file, "name", "file object"), file.tell()
    size = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    return Member(str(where), str(where), size, _Stream(file, str(where), LARGEST).exactly)


def inflate(data, where, plan):
    """Decompress gzip bytes, no further than what was expected.

    data   the compressed bytes
    plan   plan(read, limit) -> number of bytes to return; it may `read(n)` the head first, and refuse it before the
           body is allocated. `limit` bounds the body.
    where  for messages
    Returns that many bytes. Raises DataError when the data are damaged, shorter or longer than planned.
    """
    limit = min(LARGEST, max(SMALL, RATIO * len(data)))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            size = plan(file.read, limit)
            body = bytearray()                          # grows with what is there, not with what is promised;
            while len(body) <= size and (part := file.read(min(CHUNK, size + 1 - len(body)))):
                body += part                            # one byte more: reaching the end is what checks the CRC
    except DAMAGE as error:
        raise DataError(where, f"not readable as gzip ({error})", "an undamaged gzip file", "fetch it again") from error
    if len(body) != size:
        raise DataError(where, f"{len(body) if len(body) < size else 'more than ' + str(size)} bytes after the header",
                        f"{size}", "fetch the file again")
    return body


def _tar(stream, where):
    long_name = None
    for _ in range(MEMBERS):
        header = bytes(stream.exactly(BLOCK))
        if not any(header):
            return stream.only_zeros()                  # reading on to the end checks the CRC of gzip and xz
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace")
        except DAMAGE as error:
            raise DataError(where, f"a block that is no tar header ({error})", "a folder or a .tar, .tar.gz or .tar.xz",
                            "fetch the file again, or unpack it and give the folder") from error
        padding = -info.size % BLOCK
        if info.type in METADATA_TYPES:
            if not 0 <= info.size <= METADATA:
                raise _refused(where, f"a header of {info.size} bytes", f"at most {METADATA}")
            data = stream.exactly(info.size)
            stream.skip(padding)
            if info.type in PAX:
                long_name = _pax_path(data, where) or long_name
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = data.rstrip(b"\0").decode("utf-8", "backslashreplace")
            continue
        name, long_name = _checked_name(info.name if long_name is None else long_name, where), None
        if info.type == tarfile.DIRTYPE:
            continue
        if info.type not in REGULAR or info.size < 0:
            raise _refused(where, f"member {name!r} is a link, a device or sparse", "regular files and folders")
        end = stream.left - info.size
        yield Member(f"{where}:{name}", name, info.size, stream.exactly)
        stream.skip(stream.left - end + padding)
    raise _refused(where, f"more than {MEMBERS} members", "fewer")


def _pax_path(data, where):
    """The `path` in a pax header of lines "LENGTH KEY=VALUE\\n", or None."""
    path, at = None, 0
    try:
        while at < len(data):
            space = data.index(b" ", at, at + 8)
            length = int(data[at:space])
            if not space - at < length <= len(data) - at:
                raise ValueError("a length that does not fit")
            key, _, value = data[space + 1:at + length - 1].partition(b"=")
            if key == b"path":
                path = value.decode("utf-8", "backslashreplace")
            if key == b"size" or key.startswith(b"GNU.sparse"):
                raise _refused(where, "a member that is sparse or over 8 GiB", "plain members")
            at += length
    except ValueError as error:
        raise DataError(where, f"a damaged pax header ({error})", "a tar archive", "fetch it again") from error
    return path


def _checked_name(name, where):
    parts = re.split(r"[/\\]", name)
    if not name or parts[0] == "" or ".." in parts or ":" in parts[0] or "\0" in name:
        raise _refused(where, f"member name {name!r}", "names that stay inside the archive")
    return "/".join(part for part in parts if part not in ("", "."))


def _file_bytes(path, n):
    try:
        with path.open("rb") as file:
            data = file.read(n)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) != n:
        raise DataError(str(path), f"{len(data)} bytes", f"{n}", "do not write to it while it is read")
    return data


def _refused(where, got, expected):
    return DataError(where, got, expected, "make sure that it comes from a source you trust, and pack it anew")


def _unreadable(path, error):
    return DataError(str(path), error.strerror or str(error), "a readable folder or file", "check path and permissions")


def _decompressed(file):
    head = file.peek(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    return _Xz(file) if head.startswith(b"\xfd7zXZ\0") else file


class _Xz:
    """xz, with a bound on the memory that the file may ask for; `lzma.LZMAFile` has none."""

    def __init__(self, file):
        self.file, self.inner = file, lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def read(self, n):
        out = b""
        while not out and not self.inner.eof:
            fed = self.file.read(CHUNK) if self.inner.needs_input else b""
            if self.inner.needs_input and not fed:
                raise EOFError("the compressed data end early")
            out = self.inner.decompress(fed, n)
        return out


class _Stream:
    """Decompressed bytes of an archive, front to back, at most `allowed` of them."""

    def __init__(self, file, where, allowed):
        self.file, self.where, self.left = file, where, allowed

    def read(self, n):
        """1 to n bytes, or none at the end."""
        try:
            data = self.file.read(min(n, CHUNK))
        except DAMAGE as error:
            raise DataError(self.where, f"not readable ({error})", "an undamaged archive", "fetch it again") from error
        self.left -= len(data)
        if self.left < 0:
            raise _refused(self.where, f"it unpacks to more than {RATIO} times its size", "an ordinary archive")
        return data

    def exactly(self, n):
        """n bytes; memory is taken as they arrive, never on the word of a header."""
        data = bytearray()
        for part in self.parts(n):
            data += part
        return data

    def skip(self, n):
        for _ in self.parts(n):
            pass

    def parts(self, n):
        while n:
            data = self.read(n)
            if not data:
                raise DataError(self.where, "the archive ends early", "a whole archive", "fetch it again")
            n -= len(data)
            yield data

    def only_zeros(self):
        while data := self.read(CHUNK):
            if any(data):
                raise DataError(self.where, "data behind the end of the archive", "zeros", "fetch it again")

"""`nplearn.data.archive`: what goes in comes out, or a DataError does."""
import gzip
import io
import lzma
import os
import struct
import tarfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplearn.data import archive
from nplearn.errors import DataError

FILES = {"set/b.bin": b"beta" * 300, "set/a.bin": b"", "c.bin": bytes(range(256)) * 5}
KINDS = ("", "gz", "xz")


def contents(path):
    return [(member.name, bytes(member.read())) for member in archive.members(path)]


def put(tmp_path, data, name="set.tar"):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("archives")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_gives_back_its_files_in_its_own_order(tmp_path, by_hand, kind, tar_format):
    path = put(tmp_path, by_hand.tar_bytes(FILES, kind, tar_format), "any name")
    assert contents(path) == list(FILES.items())
    assert os.listdir(tmp_path) == ["any name"]         # nothing was extracted


def test_a_folder_gives_its_files_by_name_and_nothing_below_it(tmp_path, by_hand):
    by_hand.write(tmp_path, {"b": b"2", "a": b"1"})
    by_hand.write(tmp_path / "deeper", {"c": b"3"})
    assert contents(tmp_path) == [("a", b"1"), ("b", b"2")]


def test_members_that_are_not_read_are_skipped(tmp_path, by_hand):
    path = put(tmp_path, by_hand.tar_bytes(FILES, "xz"))
    assert [bytes(m.read()) for m in archive.members(path) if m.name == "c.bin"] == [FILES["c.bin"]]
    assert [m.size for m in archive.members(path)] == [1200, 0, 1280]


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_longer_than_a_header_are_read(tmp_path, by_hand, tar_format):
    files = {"d" * 150 + "/" + "f" * 150: b"x", "short": b"y"}
    assert contents(put(tmp_path, by_hand.tar_bytes(files, "", tar_format))) == list(files.items())


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["../out", "a/../../out", "..", "/etc/passwd", "\\out", "..\\out", "C:/out", "C:\\o"])
def test_names_that_lead_outside_are_refused(tmp_path, by_hand, name, tar_format):
    info = tarfile.TarInfo(name)
    with pytest.raises(DataError, match="names that stay inside"):
        contents(put(tmp_path, by_hand.tar_bytes({"fine": b"1", name: info}, "", tar_format)))


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_long_name_that_leads_outside_is_refused(tmp_path, by_hand, tar_format):
    with pytest.raises(DataError, match="names that stay inside"):
        contents(put(tmp_path, by_hand.tar_bytes({"a/" * 100 + "../" * 101 + "out": b"1"}, "", tar_format)))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
                                  tarfile.GNUTYPE_SPARSE])
def test_links_devices_and_sparse_members_are_refused(tmp_path, by_hand, kind):
    info = tarfile.TarInfo("data_batch_1.bin")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(DataError, match="data_batch_1.bin.*regular files"):
        contents(put(tmp_path, by_hand.tar_bytes({"x": info})))


def test_a_sparse_member_in_pax_form_is_refused(tmp_path, by_hand):
    info = tarfile.TarInfo("x")
    info.pax_headers = {"GNU.sparse.realsize": "1000000000"}
    with pytest.raises(DataError, match="sparse"):
        contents(put(tmp_path, by_hand.tar_bytes({"x": info})))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "set.tar")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        contents(tmp_path / "set.tar")


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path, by_hand, kind):
    path = put(tmp_path, by_hand.tar_bytes({"data_batch_1.bin": bytes(3 * 2**24)}, kind))
    assert path.stat().st_size < 2**17
    with by_hand.memory_below(2**25 + 2**24), pytest.raises(DataError, match="times its size"):
        contents(path)


def test_a_bomb_in_a_member_that_nobody_reads_is_refused_too(tmp_path, by_hand):
    path = put(tmp_path, by_hand.tar_bytes({"notes": bytes(3 * 2**24)}, "gz"))
    with by_hand.memory_below(2**23), pytest.raises(DataError, match="times its size"):
        list(archive.members(path))


def test_a_size_that_the_file_does_not_have_takes_no_memory(tmp_path, by_hand):
    info = tarfile.TarInfo("x")
    info.size = 2**30
    path = put(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(1000))
    with by_hand.memory_below(2**22), pytest.raises(DataError, match="ends early"):
        contents(path)


@pytest.mark.parametrize("size", [-1, -512, 2**30 + 1, 2**62])
def test_impossible_sizes_are_refused(tmp_path, size):
    info = tarfile.TarInfo("x")
    info.size = size
    with pytest.raises(DataError):
        contents(put(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_large_header_is_refused(tmp_path, by_hand, kind):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 2**24
    path = put(tmp_path, gzip.compress(info.tobuf() + bytes(2**24)))
    with by_hand.memory_below(2**22), pytest.raises(DataError, match="at most 65536"):
        contents(path)


def test_too_many_members_are_refused(tmp_path, by_hand, monkeypatch):
    path = put(tmp_path, by_hand.tar_bytes({str(i): b"" for i in range(5)}))
    monkeypatch.setattr(archive, "MEMBERS", 6)          # and the end
    assert len(contents(path)) == 5
    monkeypatch.setattr(archive, "MEMBERS", 5)
    with pytest.raises(DataError, match="more than 5 members"):
        contents(path)


def test_xz_that_asks_for_a_gigabyte_of_memory_is_refused(tmp_path, by_hand):
    data = bytearray(by_hand.tar_bytes(FILES, "xz"))
    end = 12 + 4 * (data[12] + 1)                       # of the block header: size, flags, filter 21, size, byte
    at = data.index(b"\x21\x01", 12, end) + 2
    data[at] = 36                                       # 2 << 29 bytes
    data[end - 4:end] = struct.pack("<I", zlib.crc32(data[12:end - 4]))
    with by_hand.memory_below(2**24), pytest.raises(DataError, match="[Mm]emory"):
        contents(put(tmp_path, data))


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path, by_hand):
    data = bytearray(by_hand.tar_bytes({"a": b"1", "b": b"2"}))
    data[1024] ^= 1                                     # the first letter of the second name
    with pytest.raises(DataError, match="no tar header"):
        contents(put(tmp_path, data))


def test_data_behind_the_end_are_reported(tmp_path, by_hand):
    with pytest.raises(DataError, match="behind the end"):
        contents(put(tmp_path, by_hand.tar_bytes(FILES) + b"more"))


@pytest.mark.parametrize("name", ["missing.tar", "missing"])
def test_a_missing_archive_is_a_data_error_with_its_name(tmp_path, name):
    with pytest.raises(DataError, match=name):
        contents(tmp_path / name)


def outcome(path, by_hand):
    """What is read within the bound on memory, or None after a DataError; anything else fails the test."""
    with by_hand.memory_below(2**24):                   # 8 MiB are the dictionary of xz
        try:
            return contents(path)
        except DataError:
            return None


@given(data=st.binary(max_size=2000),
       head=st.sampled_from([b"", b"\x1f\x8b\x08\0", b"\xfd7zXZ\0\0\4", gzip.compress(b"")]))
def test_random_bytes_give_members_or_a_data_error(scratch, by_hand, data, head):
    outcome(put(scratch, head + data), by_hand)


@given(fields=st.lists(st.tuples(st.integers(0, 511), st.binary(min_size=1, max_size=12)), max_size=4),
       tail=st.binary(max_size=1500))
def test_any_header_with_a_good_checksum_gives_members_or_a_data_error(scratch, by_hand, fields, tail):
    header = bytearray(tarfile.TarInfo("x").tobuf())
    for at, value in fields:
        header[at:at + len(value)] = value[:512 - at]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    outcome(put(scratch, header + tail), by_hand)


@given(text=st.binary(max_size=60), length=st.integers(0, 80))
def test_any_pax_header_gives_members_or_a_data_error(scratch, by_hand, text, length):
    info = tarfile.TarInfo("pax")
    info.type, body = tarfile.XHDTYPE, b"%d " % length + text
    info.size = len(body)
    blocks = info.tobuf() + body.ljust(512, b"\0") + tarfile.TarInfo("x").tobuf() + bytes(1024)
    outcome(put(scratch, blocks), by_hand)


@settings(max_examples=150)
@given(kind=st.sampled_from(KINDS), at=st.integers(0, 2**16), bit=st.integers(0, 7))
def test_a_flipped_bit_gives_members_or_a_data_error_and_never_other_bytes_once_compressed(
        scratch, by_hand, kind, at, bit):
    data = bytearray(by_hand.tar_bytes(FILES, kind))
    data[at % len(data)] ^= 1 << bit
    found = outcome(put(scratch, data), by_hand)
    if kind and found is not None:
        assert found == list(FILES.items())


@given(kind=st.sampled_from(KINDS), at=st.integers(0, 2**16))
def test_a_truncated_archive_is_whole_or_a_data_error(scratch, by_hand, kind, at):
    data = by_hand.tar_bytes(FILES, kind)
    found = outcome(put(scratch, data[:at % len(data)]), by_hand)
    assert found is None or (not kind and found == list(FILES.items()))     # a plain one may lose padding zeros


def test_inflate_reads_what_was_planned_and_checks_the_end():
    data = gzip.compress(b"head" + b"body")
    assert archive.inflate(data, "x", lambda read, limit: len(read(4))) == b"body"
    for size in (3, 5):
        with pytest.raises(DataError, match="after the header"):
            archive.inflate(data, "x", lambda read, limit, size=size: len(read(4)) - 4 + size)
    damaged = data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]
    with pytest.raises(DataError, match="gzip"):
        archive.inflate(damaged, "x", lambda read, limit: len(read(4)))


def test_content_reads_paths_file_objects_and_members_alike(tmp_path):
    path = put(tmp_path, b"some bytes", "f")
    file = io.BytesIO(b"...some bytes")
    file.seek(3)
    for source in (path, str(path), file, archive.open_file(path)):
        assert bytes(archive.content(source)[0]) == b"some bytes"
    assert archive.content(path, "my name")[1] == "my name"


def test_a_file_over_the_bound_is_refused_before_it_is_read(tmp_path, by_hand):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)                        # sparse: it takes no room
    with by_hand.memory_below(2**20), pytest.raises(DataError, match="at most 1073741824"):
        archive.content(path)


def test_lzma_alone_has_no_bound_on_memory():
    with pytest.raises(TypeError):                      # the reason for _Xz: when this fails, LZMAFile will do
        lzma.LZMAFile(io.BytesIO(), memlimit=2**20)

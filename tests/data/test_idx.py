"""`nplearn.data.idx` against files written by hand from the published format."""
import gzip
import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nplearn.data import idx, load, read_idx
from nplearn.errors import DataError

IMAGES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
DTYPES = ("uint8", "int8", "int16", "int32", "float32", "float64")
FLOATS = {"allow_nan": False, "allow_subnormal": False}   # nplearn may have the processor take subnormals for zero


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@given(array=st.sampled_from(DTYPES).flatmap(lambda name: hnp.arrays(
    name, hnp.array_shapes(max_dims=4, max_side=4), elements=FLOATS if "float" in name else None)))
def test_every_type_and_shape_of_the_format_is_read(by_hand, compress, array):
    read = read_idx(io.BytesIO(compress(by_hand.idx_bytes(array))))
    assert read.dtype == array.dtype and read.dtype.isnative
    assert read.shape == array.shape and np.array_equal(read, array)


def test_a_file_is_read_by_path_and_by_content_whatever_its_name(tmp_path, by_hand):
    data = by_hand.idx_bytes(IMAGES)
    by_hand.write(tmp_path, {"plain": data, "packed": gzip.compress(data), "named.gz": data})
    for name in ("plain", "packed", "named.gz"):
        assert np.array_equal(read_idx(tmp_path / name), IMAGES)
        assert np.array_equal(read_idx(str(tmp_path / name)), IMAGES)


@pytest.mark.parametrize(("data", "message"), [
    (b"", "absent"), (b"\0\0\x08", "00 00 08"), (b"\x50\x4b\x03\x04" + bytes(30), "50 4b"),
    (b"\0\0\x07\x01" + bytes(8), "00 00 07"), (b"\0\0\x08\0" + bytes(8), "1 to 8 dimensions"),
    (b"\0\0\x08\xff" + bytes(2000), "1 to 8 dimensions"), (b"\0\0\x08\x03\0\0\0\x01", "ends in its header"),
    (b"\0\0\x08\x01\0\0\0\0", "at least one record"), (b"\0\0\x08\x01\0\0\0\x03ab", "2 bytes after the header"),
    (b"\0\0\x08\x01\0\0\0\x03abcd", "4 bytes after the header"), (b"\x1f\x8b\x08\0junk", "gzip")])
def test_what_is_no_idx_file_is_said_to_be_none(data, message):
    with pytest.raises(DataError, match=message) as caught:
        read_idx(io.BytesIO(data), "my file")
    assert str(caught.value).startswith("my file: ")


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**29, 2), (60000, 10000)])
def test_sizes_are_checked_before_anything_is_allocated(by_hand, compress, shape):
    data = compress(struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + b"few")
    with by_hand.memory_below(2**20), pytest.raises(DataError, match="expected"):
        read_idx(io.BytesIO(data))


def test_a_gzip_bomb_is_refused_whether_its_header_owns_up_or_not(by_hand):
    for shape in ((2**26,), (100,)):
        data = gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, *shape) + bytes(2**26))
        with by_hand.memory_below(2**20), pytest.raises(DataError):
            read_idx(io.BytesIO(data))


def test_flat_images_may_compress_a_hundred_times(by_hand):
    data = gzip.compress(by_hand.idx_bytes(np.zeros((1000, 28, 28), np.uint8)))
    assert read_idx(io.BytesIO(data)).shape == (1000, 28, 28)


def outcome(data, by_hand):
    with by_hand.memory_below(2**18 + 4 * len(data)):
        try:
            return read_idx(io.BytesIO(data))
        except DataError:
            return None


@given(head=st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x0e\x02", b"\x1f\x8b\x08\0"]), data=st.binary(max_size=200))
def test_random_bytes_give_an_array_or_a_data_error(by_hand, head, data):
    outcome(head + data, by_hand)


@given(head=st.tuples(*[st.integers(0, 15)] * 2), sizes=st.lists(st.integers(0, 2**32 - 1), max_size=9))
def test_any_header_inside_gzip_gives_an_array_or_a_data_error(by_hand, head, sizes):
    outcome(gzip.compress(bytes([0, 0, *head]) + struct.pack(f">{len(sizes)}I", *sizes)), by_hand)


@given(compress=st.sampled_from([bytes, gzip.compress]), cut=st.integers(0, 75))
def test_a_truncated_file_is_a_data_error(by_hand, compress, cut):
    data = compress(by_hand.idx_bytes(IMAGES))
    assert outcome(data[:min(cut, len(data) - 1)], by_hand) is None


@given(at=st.integers(0, 15), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_header_is_a_data_error(by_hand, at, bit):
    data = bytearray(by_hand.idx_bytes(IMAGES))
    data[at] ^= 1 << bit
    found = outcome(bytes(data), by_hand)
    assert found is None or (at == 2 and found.dtype == np.int8)      # type 9 has the size of type 8


@given(at=st.integers(0, 2**16), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_gzip_file_never_changes_an_entry_silently(by_hand, at, bit):
    data = bytearray(gzip.compress(by_hand.idx_bytes(IMAGES)))
    data[at % len(data)] ^= 1 << bit
    found = outcome(bytes(data), by_hand)
    assert found is None or np.array_equal(found, IMAGES)


@pytest.mark.parametrize(("name", "expected"), [
    ("train-images-idx3-ubyte", ("train", "images")), ("t10k-labels.idx1-ubyte.gz", ("t10k", "labels")),
    ("train-labels-idx1-ubyte.gz", ("train", "labels")), ("train-images.idx3-ubyte", ("train", "images")),
    ("train-images-idx1-ubyte", None), ("train-labels-idx3-ubyte", None), ("._train-images-idx3-ubyte", None),
    ("train-images-idx3-ubyte.gz.part", None), ("train-images-idx3-ubyte-gz", None),
    ("train-imagesidx3-ubyte", None), ("", None)])
def test_only_the_standard_names_belong_to_a_set(name, expected):
    assert idx.part(name) == expected


@pytest.mark.parametrize("spell", [
    lambda n: n, lambda n: n + ".gz", lambda n: n.replace("-idx", ".idx"), lambda n: n.replace("-idx", ".idx") + ".gz"])
def test_a_set_is_read_under_each_spelling_of_its_names(tmp_path, by_hand, spell):
    files, arrays = by_hand.idx_set()
    compress = gzip.compress if spell("x").endswith("gz") else bytes
    train, test = load(by_hand.write(tmp_path / "digits", {spell(n): compress(b) for n, b in files.items()}))
    found = train.inputs[..., 0], train.labels, test.inputs[..., 0], test.labels
    assert all(map(np.array_equal, found, arrays))
    assert train.inputs.shape == (5, 4, 3, 1) and train.labels.dtype == np.int64


@pytest.mark.parametrize("kind", ["", "gz", "xz"])
def test_a_set_is_read_from_an_archive_of_plain_or_packed_files(tmp_path, by_hand, kind):
    files, arrays = by_hand.idx_set()
    packed = {f"mnist/{n}.gz": gzip.compress(b) for n, b in files.items()}
    for content in (files, packed):
        (tmp_path / "digits.tar").write_bytes(by_hand.tar_bytes(content, kind))
        train, test = load(tmp_path / "digits.tar")
        assert np.array_equal(train.inputs[..., 0], arrays[0]) and np.array_equal(test.labels, arrays[3])


def broken(by_hand, tmp_path, **changed):
    files, _ = by_hand.idx_set()
    files |= {name.replace("_", "-") + "-ubyte": data for name, data in changed.items()}
    return by_hand.write(tmp_path, {name: data for name, data in files.items() if data is not None})


def test_a_missing_file_is_named(tmp_path, by_hand):
    with pytest.raises(DataError, match="no t10k-labels-idx1-ubyte.gz; expected the four idx files"):
        load(broken(by_hand, tmp_path, t10k_labels_idx1=None))


def test_labels_beyond_nine_are_named_with_their_record(tmp_path, by_hand):
    labels = by_hand.idx_bytes(np.array([1, 9, 0, 10, 255], np.uint8))
    with pytest.raises(DataError, match="record 3: label 10; expected 0 to 9"):
        load(broken(by_hand, tmp_path, train_labels_idx1=labels))


def test_images_and_labels_must_be_as_many(tmp_path, by_hand):
    with pytest.raises(DataError, match="5 images and 4 labels"):
        load(broken(by_hand, tmp_path, train_labels_idx1=by_hand.idx_bytes(np.zeros(4, np.uint8))))


def test_train_and_test_images_must_have_one_size(tmp_path, by_hand):
    with pytest.raises(DataError, match="one size"):
        load(broken(by_hand, tmp_path, t10k_images_idx3=by_hand.idx_bytes(np.zeros((3, 3, 4), np.uint8))))


@pytest.mark.parametrize("wrong", [np.zeros((5, 4, 3), np.int8), np.zeros((5, 12), np.uint8), np.zeros(5, np.float32)])
def test_images_must_be_bytes_with_three_axes(tmp_path, by_hand, wrong):
    with pytest.raises(DataError, match="three axes"):
        load(broken(by_hand, tmp_path, train_images_idx3=by_hand.idx_bytes(wrong)))


def test_the_embedded_set_is_balanced_in_every_prefix():
    for data, n in zip(load("mnist5k"), (4000, 1000), strict=True):
        counts = np.cumsum(np.eye(10, dtype=int)[data.labels], axis=0)
        assert len(data) == n and np.ptp(counts, axis=1).max() == 1


def test_the_embedded_set_has_about_the_published_statistics():
    train, _ = load("mnist5k")
    scaled = train.inputs / 255
    assert abs(scaled.mean() - 0.1307) < 0.003 and abs(scaled.std() - 0.3081) < 0.003      # 4,000 of its 60,000 images

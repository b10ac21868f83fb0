"""`nplearn.data.cifar` against records written by hand, byte after byte."""
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.data import cifar, load, read_cifar
from nplearn.errors import DataError


def both(sets):
    return np.concatenate([images for images, _ in sets]), np.concatenate([labels for _, labels in sets])


def test_planes_become_channels_row_by_row(by_hand):
    _, [(images, labels), *_] = by_hand.cifar_set((3,))
    found, found_labels = read_cifar(io.BytesIO(by_hand.cifar_bytes(images, labels.tolist())))
    assert found.dtype == np.uint8 and found.shape == (3, 32, 32, 3) and found_labels.dtype == np.int64
    assert np.array_equal(found, images) and np.array_equal(found_labels, labels)


def test_one_byte_lies_where_the_format_says():
    record = bytearray(3073)
    record[0], record[1 + 1024 + 5 * 32 + 7] = 4, 200   # green, row 5, column 7
    (image,), (label,) = read_cifar(io.BytesIO(record))
    assert label == 4 and image[5, 7].tolist() == [0, 200, 0] and image.sum() == 200


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_a_file_is_whole_records_and_at_least_one(size):
    with pytest.raises(DataError, match=f"my file: {size} bytes; expected a positive multiple of 3073"):
        read_cifar(io.BytesIO(bytes(size)), "my file")


def test_the_size_is_checked_before_the_file_is_read(tmp_path, by_hand):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**29)
    with by_hand.memory_below(2**20), pytest.raises(DataError, match="multiple"):
        read_cifar(tmp_path / "large")


def test_labels_beyond_nine_are_named_with_their_record():
    data = bytes(3073) + b"\x0a" + bytes(3072)
    with pytest.raises(DataError, match="x, record 1: label 10; expected 0 to 9"):
        read_cifar(io.BytesIO(data), "x")


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin/"])
@pytest.mark.parametrize("kind", ["folder", "", "gz", "xz"])
def test_folders_and_archives_of_any_depth_give_the_same_set(tmp_path, by_hand, kind, inner):
    files, (*train_sets, test_set) = by_hand.cifar_set((2, 1, 3), n_test=2)
    path = tmp_path / "pictures"
    if kind == "folder":
        by_hand.write(path / inner, files)
    else:
        path.write_bytes(by_hand.tar_bytes({inner + name: data for name, data in files.items()}, kind))
    train, test = load(path)
    assert np.array_equal(train.inputs, both(train_sets)[0]) and np.array_equal(train.labels, both(train_sets)[1])
    assert np.array_equal(test.inputs, test_set[0]) and np.array_equal(test.labels, test_set[1])
    assert train.classes[6] == "frog" and train.mean == (0.4914, 0.4821, 0.4465)


def test_batch_files_follow_each_other_by_number_not_by_name_or_place(tmp_path, by_hand):
    files, sets = by_hand.cifar_set((1,) * 11)
    (tmp_path / "x.tar").write_bytes(by_hand.tar_bytes(dict(reversed(files.items()))))
    for path in (by_hand.write(tmp_path / "x", files), tmp_path / "x.tar"):
        assert np.array_equal(load(path)[0].inputs, both(sets[:-1])[0])


@pytest.mark.parametrize(("left_out", "named"), [("data_batch_1.bin", "data_batch_1.bin"),
                                                 ("test_batch.bin", "test_batch.bin")])
def test_a_missing_part_is_named(tmp_path, by_hand, left_out, named):
    files, _ = by_hand.cifar_set((1,))
    del files[left_out]
    with pytest.raises(DataError, match=f"no {named}"):
        load(by_hand.write(tmp_path, files))


def test_one_part_twice_is_refused(tmp_path, by_hand):
    files, _ = by_hand.cifar_set((1,))
    (tmp_path / "x.tar").write_bytes(by_hand.tar_bytes(files | {"copy/test_batch.bin": files["test_batch.bin"]}))
    with pytest.raises(DataError, match="copy/test_batch.bin: the same part for the second time"):
        load(tmp_path / "x.tar")


def test_the_python_version_is_not_unpickled_but_refused(tmp_path, by_hand):
    with pytest.raises(DataError, match="no data file"):
        load(by_hand.write(tmp_path, {"data_batch_1": b"cos\nsystem\n(S'exit 1'\ntR.", "test_batch": b"\x80\x02"}))


@pytest.mark.parametrize("name", ["data_batch_x.bin", "data_batch_.bin", "._data_batch_1.bin", "data_batch_1.bin.part",
                                  "test_batch", "data_batch_" + "9" * 5000 + ".bin", "data_batch_\u0661.bin"])
def test_other_names_belong_to_no_set(name):
    assert cifar.part(name) is None


@given(data=st.binary(max_size=300), times=st.integers(0, 25), label=st.integers(0, 255))
def test_any_bytes_give_records_or_a_data_error(by_hand, data, times, label):
    data = (bytes([label]) + data * times)[:3073].ljust(3073 if times % 2 else 0, b"\0")
    with by_hand.memory_below(2**18):
        try:
            images, labels = read_cifar(io.BytesIO(data))
        except DataError:
            assert len(data) % 3073 or not data or label > 9
        else:
            assert len(data) == 3073 and labels.tolist() == [label] and images.size == 3072


@given(at=st.integers(0, 3 * 3073 - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_changes_one_byte_or_is_a_data_error(by_hand, at, bit):
    data = bytearray(3 * 3073)
    data[at] ^= 1 << bit
    try:
        images, labels = read_cifar(io.BytesIO(data))
    except DataError:
        assert at % 3073 == 0 and 1 << bit > 9
    else:
        assert images.sum() + labels.sum() == 1 << bit


@given(cut=st.integers(0, 3 * 3073 - 1))
def test_a_truncated_file_gives_whole_records_or_a_data_error(cut):
    try:
        images, _ = read_cifar(io.BytesIO(bytes(cut)))
    except DataError:
        assert cut % 3073 or not cut
    else:
        assert len(images) * 3073 == cut

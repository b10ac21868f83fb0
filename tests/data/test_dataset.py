"""`DataSet` and `load`."""
import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.data import DataSet, load
from nplearn.errors import DataError, SettingError

MEAN, STD = (0.4914, 0.1307), (0.2470, 0.3081)


def two_channels(n=7, height=3, width=5):
    inputs = np.random.default_rng(1).integers(0, 256, (n, height, width, 2), np.uint8)
    return DataSet("x", "here", inputs, np.arange(n) % 3, ("a", "b", "c"), MEAN, STD)


@pytest.mark.parametrize("name", ["archive", "augment", "cifar", "dataset", "idx", "loader", "locate"])
def test_the_examples_in_the_docstrings_are_true(name):
    module = importlib.import_module(f"nplearn.data.{name}")
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_normalised_is_the_formula_of_each_channel(dtype, n):
    data = two_channels()
    rows = data.inputs[:n]
    expected = (rows / 255 - np.array(MEAN)) / np.array(STD)
    found = data.normalised(rows, dtype)
    assert found.dtype == dtype and found.shape == rows.shape
    assert np.abs(found - expected).max(initial=0) <= 4 * np.finfo(dtype).eps * max(1 / s for s in STD)


def test_a_record_is_normalised_to_the_same_bits_in_any_company():
    data = two_channels()
    whole = data.normalised(data.inputs)
    assert all(np.array_equal(whole[i:i + 1], data.normalised(data.inputs[i:i + 1])) for i in range(len(data)))
    assert np.array_equal(data.normalised(data.inputs[::-2, :, ::-1]), whole[::-2, :, ::-1])      # not contiguous


def test_split_holds_out_the_end():
    data = two_channels()
    rest, held_out = data.split(2)
    assert len(rest) == 5 and np.array_equal(held_out.inputs, data.inputs[5:]) and held_out.labels.tolist() == [2, 0]
    assert rest.mean == data.mean and rest.classes == data.classes and rest.name == "x" and rest.source == "here"
    assert [len(part) for part in data.split(0)] == [7, 0]
    for n_last in (-1, 7, 8):
        with pytest.raises(SettingError):
            data.split(n_last)


def test_take_gives_those_records_in_that_order():
    data = two_channels()
    part = data.take([4, 0, 4])
    assert part.labels.tolist() == [1, 0, 1] and np.array_equal(part.inputs, data.inputs[[4, 0, 4]])
    assert len(data.take([])) == 0
    for indices in ([7], [-1], [0.5], [[1]], [True]):
        with pytest.raises(SettingError):
            data.take(indices)


@pytest.mark.parametrize("changed", [
    {"inputs": np.zeros((2, 2, 2, 1))}, {"inputs": np.zeros((2, 2, 2), np.uint8)}, {"labels": [0]}, {"labels": [0, 2]},
    {"labels": [-1, 0]}, {"labels": [0.0, 1.0]}, {"mean": (0.1, 0.1)}, {"std": (0.0,)}, {"std": (np.nan,)},
    {"std": (np.inf,)}])
def test_what_does_not_fit_together_is_refused(changed):
    fitting = {"inputs": np.zeros((2, 2, 2, 1), np.uint8), "labels": [0, 1], "mean": (0.1,), "std": (0.1,)}
    DataSet("x", "", classes=("a", "b"), **fitting)
    with pytest.raises(DataError, match="data set x"):
        DataSet("x", "", classes=("a", "b"), **(fitting | changed))


def test_an_unknown_idx_set_is_normalised_by_its_own_statistics(tmp_path, by_hand):
    files, arrays = by_hand.idx_set(n_train=2001, shape=(3, 2))
    train, test = load(by_hand.write(tmp_path / "own", files))
    scaled = arrays[0] / 255
    assert train.name == "own" and train.mean == test.mean
    assert np.allclose((train.mean[0], train.std[0]), (scaled.mean(), scaled.std()), rtol=1e-12)


def test_a_set_of_equal_pixels_is_normalised_to_zeros(tmp_path, by_hand):
    files, _ = by_hand.idx_set()
    files["train-images-idx3-ubyte"] = by_hand.idx_bytes(np.full((5, 4, 3), 77, np.uint8))
    train, _ = load(by_hand.write(tmp_path / "own", files))
    assert np.abs(train.normalised(train.inputs)).max() < 1e-6


@pytest.mark.parametrize(("folder", "mean", "third"), [
    ("mnist", 0.1307, "2"), ("mnist-copy", 0.1307, "2"), ("mnist5k", 0.1307, "2"),
    ("fashion-mnist", 0.2860, "Pullover")])
def test_the_name_of_a_folder_tells_a_known_set(tmp_path, by_hand, folder, mean, third):
    train, test = load(by_hand.write(tmp_path / folder, by_hand.idx_set()[0]))
    assert train.mean == test.mean == (mean,) and train.classes[2] == third
    assert train.source == str(tmp_path / folder)


def test_files_of_two_formats_in_one_place_are_refused(tmp_path, by_hand):
    files = by_hand.idx_set()[0] | by_hand.cifar_set()[0]
    with pytest.raises(DataError, match="files of two formats"):
        load(by_hand.write(tmp_path, files))


def test_a_known_set_in_another_format_is_refused(tmp_path, by_hand):
    by_hand.write(tmp_path / "mnist", by_hand.cifar_set()[0])
    with pytest.raises(DataError, match="no data file; expected train-images"):
        load("mnist", tmp_path)


def test_a_name_that_is_no_path_lists_the_known_sets():
    with pytest.raises(DataError, match="^minst: neither .*mnist5k, mnist, fashion-mnist, cifar-10"):
        load("minst")


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4))
def test_normalisation_keeps_the_order_of_bytes(pixels):
    data = two_channels(1, 1, 1)
    values = data.normalised(np.array(pixels, np.uint8).repeat(2).reshape(4, 1, 1, 2))
    assert np.array_equal(np.argsort(values[:, 0, 0, 1], kind="stable"), np.argsort(pixels, kind="stable"))

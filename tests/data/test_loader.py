"""`Loader`: every batch is a pure function of (seed, epoch, index)."""
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.backend import permutation
from nplearn.data import Compose, DataSet, Flip, Loader, Shift
from nplearn.errors import SettingError

N = 23
INPUTS = np.random.default_rng(3).integers(0, 256, (N, 4, 5, 2), np.uint8)
INPUTS[:, 0, 0, 0] = np.arange(N)                       # a record can be told by this pixel
DATA = DataSet("x", "", INPUTS, np.arange(N) % 7, tuple("abcdefg"), (0.4, 0.5), (0.2, 0.3))
AUGMENT = Compose(Shift(1), Flip())
GOLDEN = {                                              # (seed, epoch): a run of any later version must see this order
    (0, 0): [15, 4, 6, 10, 13, 8, 5, 18, 14, 11, 12, 17, 16, 7, 3, 21, 22, 0, 9, 19, 20, 2, 1],
    (0, 1): [17, 7, 20, 9, 16, 5, 15, 6, 13, 0, 22, 21, 19, 12, 10, 3, 18, 14, 4, 2, 8, 11, 1],
    ((1, 2), 0): [18, 8, 19, 13, 10, 20, 9, 12, 2, 22, 5, 3, 6, 4, 14, 7, 16, 17, 11, 15, 21, 0, 1],
}


def epoch_of(loader, epoch, start=0):
    return list(loader.epoch(epoch, start))


def same(one, other):
    one, other = ([array for batch in batches for array in batch] for batches in (one, other))
    return len(one) == len(other) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_order_of_an_epoch_is_pinned():
    assert Loader(DATA, 4).order(0).tolist() == GOLDEN[0, 0]
    assert Loader(DATA, 5).order(1).tolist() == GOLDEN[0, 1]
    assert Loader(DATA, 4, seed=(1, 2)).order(0).tolist() == GOLDEN[(1, 2), 0]


def test_the_order_sorts_raw_draws_keyed_by_seed_and_epoch():
    words = hashlib.blake2b(repr((7, "order", 3)).encode(), digest_size=16).digest()
    draws = np.random.PCG64(int.from_bytes(words, "little")).random_raw(N).tolist()
    assert Loader(DATA, 4, seed=7).order(3).tolist() == sorted(range(N), key=draws.__getitem__)
    assert np.array_equal(Loader(DATA, 4, seed=7).order(3), permutation(7, "order", 3, n=N))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("augment", [None, AUGMENT])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch", [1, 4, 23, 22])
def test_batches_are_slices_of_the_order_augmented_and_normalised(batch, drop_last, augment, dtype):
    loader = Loader(DATA, batch, 5, augment=augment, drop_last=drop_last, dtype=dtype)
    order, batches = permutation(5, "order", 2, n=N), epoch_of(loader, 2)
    assert len(batches) == len(loader) == (N // batch if drop_last else int(np.ceil(N / batch)))
    for i, (rows, labels) in enumerate(batches):
        records = order[i * batch:(i + 1) * batch]
        pixels = INPUTS[records] if augment is None else augment(INPUTS[records], records, 5, 2)
        assert rows.dtype == dtype and np.array_equal(rows, DATA.normalised(pixels, dtype))
        assert labels.dtype == np.int64 and np.array_equal(labels, records % 7)


def test_each_record_comes_once_an_epoch_and_epochs_differ():
    loader, orders = Loader(DATA, 4), []
    for epoch in range(3):
        pixels = np.concatenate([rows[:, 0, 0, 0] for rows, _ in loader.epoch(epoch)])
        orders.append(np.rint((pixels * 0.2 + 0.4) * 255).astype(int).tolist())
        assert sorted(orders[-1]) == list(range(N))
    assert orders[0] != orders[1] != orders[2] and orders[0] != list(range(N))


def test_without_shuffling_the_order_is_the_files():
    loader = Loader(DATA, 5, shuffle=False)
    assert np.array_equal(loader.order(9), np.arange(N))
    assert np.array_equal(loader.batch(9, 1)[1], DATA.labels[5:10])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=12), st.booleans())
def test_a_batch_does_not_depend_on_what_was_asked_before(history, augmented):
    settings = {"batch": 4, "seed": 1, "augment": AUGMENT if augmented else None}
    walked = Loader(DATA, **settings)
    for epoch, index in history:
        assert same([walked.batch(epoch, index)], [Loader(DATA, **settings).batch(epoch, index)])


@pytest.mark.parametrize("start", range(7))
def test_an_epoch_that_is_resumed_goes_on_as_if_never_stopped(start):
    loader = Loader(DATA, 4, augment=AUGMENT)
    assert same(epoch_of(Loader(DATA, 4, augment=AUGMENT), 3, start), epoch_of(loader, 3)[start:])


def test_two_walks_over_one_loader_do_not_disturb_each_other():
    loader = Loader(DATA, 4, augment=AUGMENT)
    first, second = zip(*zip(loader.epoch(0), loader.epoch(1), strict=True), strict=True)
    assert same(first, epoch_of(loader, 0)) and same(second, epoch_of(loader, 1))


def test_what_a_batch_is_given_may_be_written_to():
    loader = Loader(DATA, 4)
    rows, labels = loader.batch(0, 0)
    rows[...], labels[...] = 0, 0
    assert same([loader.batch(0, 0)], [Loader(DATA, 4).batch(0, 0)])
    with pytest.raises(ValueError):
        loader.order(0)[0] = 1                          # it is kept, so it is read-only


def test_integers_of_numpy_mean_the_same_run():
    one, other = Loader(DATA, 4, seed=3, augment=AUGMENT), Loader(DATA, np.int64(4), seed=np.int64(3), augment=AUGMENT)
    assert same(epoch_of(one, 2), epoch_of(other, np.int64(2)))


def test_a_batch_larger_than_the_set_is_the_whole_set_unless_the_last_is_dropped():
    loader = Loader(DATA, 100)
    assert len(loader) == 1 and len(loader.batch(0, 0)[1]) == N
    with pytest.raises(SettingError, match="no batch"):
        Loader(DATA, 100, drop_last=True)
    with pytest.raises(SettingError, match="no batch"):
        Loader(DATA.take([]), 4)


@pytest.mark.parametrize("settings", [{"batch": 0}, {"batch": -1}, {"batch": 2.5}, {"batch": 4, "dtype": np.float16},
                                      {"batch": 4, "dtype": int}, {"batch": 4, "seed": 1.5}, {"batch": 4, "seed": "a"}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(SettingError):
        Loader(DATA, **settings)


@pytest.mark.parametrize("index", [-1, 6, 100])
def test_a_batch_that_does_not_exist_is_refused(index):
    with pytest.raises(SettingError, match="0 to 5"):
        Loader(DATA, 4).batch(0, index)


@pytest.mark.parametrize("start", [-1, 7])
def test_an_epoch_cannot_start_where_there_is_no_batch(start):
    with pytest.raises(SettingError, match="start"):
        Loader(DATA, 4).epoch(0, start)

"""`nplearn.data.augment` against slow loops that draw each record on its own."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.backend import stream
from nplearn.data import Compose, Flip, Shift, augment
from nplearn.errors import SettingError

ROWS = np.random.default_rng(0).integers(1, 256, (40, 6, 5, 3), np.uint8)     # no pixel is black
SEEDS = st.integers(0, 2**64) | st.tuples(st.integers(0, 9), st.integers(0, 9))


def word(seed, key, epoch, index):
    """The draw of one record, by drawing all before it."""
    generator = stream(seed, key, epoch).bit_generator
    for _ in range(index + 1):
        drawn = generator.random_raw()
    return drawn


def slow_shift(row, padding, seed, epoch, index):
    drawn, side = word(seed, "shift", epoch, index), 2 * padding + 1
    down, right = (drawn // 2**32) * side // 2**32 - padding, (drawn % 2**32) * side // 2**32 - padding
    out = np.zeros_like(row)
    for y in range(row.shape[0]):
        for x in range(row.shape[1]):
            if 0 <= y + down < row.shape[0] and 0 <= x + right < row.shape[1]:
                out[y, x] = row[y + down, x + right]
    return out


def slow_flip(row, seed, epoch, index):
    return row[:, ::-1] if word(seed, "flip", epoch, index) >= 2**63 else row


@given(seed=SEEDS, epoch=st.integers(0, 10**6), padding=st.integers(0, 7),
       indices=st.lists(st.integers(0, 60), max_size=8))
def test_augmentation_is_the_slow_loop_over_records(seed, epoch, padding, indices):
    rows = ROWS[:len(indices)]
    shifted = [slow_shift(row, padding, seed, epoch, i) for row, i in zip(rows, indices, strict=True)]
    both = [slow_flip(row, seed, epoch, i) for row, i in zip(shifted, indices, strict=True)]
    found = Compose(Shift(padding), Flip())(rows, indices, seed, epoch)
    assert found.dtype == np.uint8 and found.shape == rows.shape
    assert np.array_equal(found, np.array(both, np.uint8).reshape(rows.shape))


@given(seed=SEEDS, epoch=st.integers(0, 99), cut=st.integers(0, 40), order=st.permutations(range(40)))
def test_a_draw_depends_on_seed_epoch_and_record_alone(seed, epoch, cut, order):
    transform, order = Compose(Flip(), Shift(2)), np.array(order)
    whole = transform(ROWS, np.arange(40), seed, epoch)
    transform(ROWS, np.arange(40) + 1000, seed, epoch)  # a history of other calls,
    transform(ROWS, np.arange(40), seed, epoch + 1)
    augment._words.cache_clear()                        # and none
    parts = [transform(ROWS[part], part, seed, epoch) for part in (order[:cut], order[cut:])]
    assert np.array_equal(np.concatenate(parts), whole[order])


def test_integers_of_numpy_and_lists_draw_what_pythons_ints_and_tuples_draw():
    for seed in (5, np.int64(5), np.uint8(5)):
        for epoch in (1, np.int32(1)):
            augment._words.cache_clear()                # 5 and np.int64(5) are one key of a cache
            assert augment.draws(seed, "flip", epoch, [3]) == word(5, "flip", 1, 3)
    for seed in ((np.int64(5), 2), [5, 2]):
        assert augment.draws(seed, "flip", 1, [3]) == word((5, 2), "flip", 1, 3)


def test_what_comes_in_is_black_and_the_rest_is_only_moved():
    shift, indices = Shift(3), np.arange(40)
    out = shift(ROWS, indices, 0, 0)
    down, right = (offset - 3 for offset in shift.offsets(indices, 0, 0))
    blank = (np.abs(down) * 5 + np.abs(right) * 6 - np.abs(down * right)) * 3
    assert np.array_equal((out == 0).sum(axis=(1, 2, 3)), blank) and blank.max() > 0


def test_the_rows_that_are_given_stay_as_they_are():
    before = ROWS.copy()
    for transform in (Shift(0), Shift(2), Flip()):
        out = transform(ROWS, np.arange(40), 1, 1)
        out[...] = 0
    assert np.array_equal(ROWS, before)


def test_all_shifts_are_equally_likely_and_half_is_flipped():
    n, indices = 90_000, np.arange(90_000)
    down, right = Shift(1).offsets(indices, 0, 0)
    counts = np.bincount(3 * down + right, minlength=9)
    assert counts.size == 9 and np.abs(counts - n / 9).max() < 5 * np.sqrt(n / 9)            # five standard deviations
    assert abs(Flip().flipped(indices, 0, 0).sum() - n / 2) < 5 * np.sqrt(n / 4)


def test_epochs_seeds_and_kinds_draw_apart():
    seen = {augment.draws(seed, key, epoch, [0]).item()
            for seed in (0, 1, (0, 1)) for key in ("shift", "flip") for epoch in (0, 1)}
    assert len(seen) == 12


@pytest.mark.parametrize("padding", [-1, 1.5, "4", None])
def test_a_padding_that_is_no_number_of_pixels_is_refused(padding):
    with pytest.raises(SettingError, match="Shift padding"):
        Shift(padding)


def test_transforms_show_their_settings():
    assert repr(Compose(Shift(4), Flip())) == "Compose(Shift(4), Flip())"

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.columns import columns, one_hot, rows
from nplearn.rules.similarity import mismatch, similarity
from nplearn.testing.strategies import chunkings, noise, seeds

MAPS = [(3, 4, 5), (1, 4, 5), (3, 4, 2), (2, 1, 4)]     # rows H, W, C: the first and last are reduced to deviations


def hot(labels, n, nb=None):
    return one_hot(columns(np.asarray(labels), nb), n, np.float64)


def by_loops(z):
    """The adjusted cosine of every two rows of z (N, ...), written out."""
    if z.ndim == 4 and z.shape[3] > 3 and z.shape[1] > 1:
        z = z.reshape(len(z), -1, z.shape[3]).std(axis=1, ddof=1)
    z = z.reshape(len(z), -1)
    z = z - z.mean(axis=1, keepdims=True)
    return np.array([[a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in z] for a in z])


@pytest.mark.parametrize("shape", [(7,), (2,), *MAPS])
def test_the_loss_is_the_mean_over_all_pairs_of_the_squared_difference(shape):
    z, t = noise(0, (6, *shape)), noise(1, (6, 3))
    wanted = (by_loops(z) - by_loops(t)) ** 2
    assert np.allclose(similarity(columns(z, 2)), by_loops(z), rtol=1e-6, atol=1e-6)
    values, _ = mismatch(columns(z, 2), columns(t, 2))
    assert values.shape == (3, 2)
    assert np.allclose(rows(values[:, None])[:, 0], wanted.mean(axis=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("C", [2, 3, 10])
def test_one_hot_labels_are_1_alike_within_a_class_and_one_over_c_less_one_against_across(C):
    labels = np.arange(2 * C) % C
    same = labels[:, None] == labels
    assert abs(similarity(hot(labels, C)) - np.where(same, 1, -1 / (C - 1))).max() < 1e-7


@given(st.sampled_from([(5,), (3, 4, 5), (3, 4, 2)]), chunkings(), seeds())
def test_neither_the_scale_of_a_sample_nor_its_mean_is_seen(shape, cut, seed):
    T, nb = cut
    z, rng = noise(seed, (T * nb, *shape)), np.random.default_rng(seed)
    each = (-1, *(1,) * len(shape))
    scale, shift = rng.uniform(0.5, 3, T * nb).reshape(each), rng.normal(size=T * nb).reshape(each)
    moved = columns(scale * z + shift, nb)
    assert abs(similarity(moved) - similarity(columns(z, nb))).max() < 1e-6


def test_the_gradient_of_a_sample_is_orthogonal_to_the_sample_and_to_ones():
    z, t = noise(0, (1, 9, 12)), hot(np.arange(12) % 4, 4)
    dz = mismatch(z, t)[1]
    assert abs(dz.sum(axis=1)).max() < 1e-15
    assert abs((dz * z).sum(axis=1)).max() < 1e-9 and abs(dz).max() > 1e-3


@pytest.mark.parametrize("shape", [(7,), *MAPS])
def test_the_gradient_is_that_of_central_differences(shape):
    z, t = columns(noise(0, (12, *shape)), 4), hot(np.arange(12) % 5, 5, 4)
    dz, h = mismatch(z, t)[1], 1e-5
    for seed in range(3):
        v = noise(seed + 2, z.shape)
        near, far = ((mismatch(z + k * h * v, t)[0].mean() - mismatch(z - k * h * v, t)[0].mean()) / (2 * k * h)
                     for k in (1, 2))
        assert abs((4 * near - far) / 3 - (dz * v).sum()) < 2e-8 * np.sqrt((dz * dz).sum() * (v * v).sum())


@given(st.sampled_from([(5,), (3, 4, 5)]), seeds())
def test_how_the_batch_is_cut_changes_nothing(shape, seed):
    z, t = noise(seed, (12, *shape)), noise(seed + 1, (12, 4))
    whole, cut = (mismatch(columns(z, nb), columns(t, nb)) for nb in (12, 3))
    assert np.allclose(rows(whole[0][:, None]), rows(cut[0][:, None]), rtol=1e-12, atol=1e-14)
    assert np.allclose(rows(whole[1]), rows(cut[1]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (3, 4, 2)])
def test_a_sample_without_spread_is_like_nothing_and_gets_no_gradient(shape, dtype):
    z = noise(0, (6, *shape), dtype)
    z[2], z[4] = 0, 0.5
    S = similarity(columns(z, 3))
    values, dz = mismatch(columns(z, 3), hot(np.arange(6) % 2, 2, 3).astype(dtype))
    assert not S[2].any() and not S[4].any() and values.dtype == dz.dtype == dtype
    assert not rows(dz)[[2, 4]].any() and rows(dz)[[0, 1, 3, 5]].any() and np.isfinite(dz).all()


@pytest.mark.parametrize("length, driven", [(1e-7, False), (1e-5, True)])
def test_a_sample_whose_spread_is_rounding_counts_as_dead(length, driven):
    """Its gradient would be one over that spread: the same direction, a million times as long."""
    z = noise(0, (6, 7))
    centred = z[2] - z[2].mean()
    z[2] = length * centred / np.linalg.norm(centred)
    dz = rows(mismatch(columns(z, 3), hot(np.arange(6) % 2, 2, 3))[1])
    assert dz[2].any() == driven and dz[1].any()


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5)])
def test_a_batch_of_one_sample_is_like_itself_and_teaches_nothing(shape):
    values, dz = mismatch(columns(noise(0, (1, *shape))), hot([1], 3))
    assert values.shape == (1, 1) and values[0, 0] < 1e-13 and abs(dz).max() < 1e-6


def test_one_channel_that_does_not_vary_gets_no_gradient_and_the_others_theirs():
    z = noise(0, (6, 3, 4, 5))
    z[1, :, :, 2] = 1.5
    dz = rows(mismatch(columns(z), hot(np.arange(6) % 2, 2))[1])
    assert not dz[1, :, :, 2].any() and dz[1, :, :, 1].any() and dz[0, :, :, 2].any()

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn import columns as c
from nplearn.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sequential
from nplearn.nets import lenet, mlp
from nplearn.testing.strategies import chunkings, noise, samples, seeds


@given(samples() | st.just(()), chunkings(), seeds())
def test_rows_and_columns_are_each_others_inverse(shape, cut, seed):
    T, nb = cut
    x = noise(seed, (T * nb, *shape))
    y = c.columns(x, nb)
    assert y.shape == (T, *c.inside(shape), nb) and (y.flags.c_contiguous or len(shape) == T == 1)
    assert np.array_equal(c.rows(y), x)
    assert np.array_equal(c.columns(c.rows(y), nb), y)
    assert c.outside(c.inside(shape)) == shape
    assert c.count(y) == T * nb


def test_sample_n_is_column_n_mod_nb_of_chunk_n_over_nb():
    maps, flat = noise(0, (6, 5, 4, 3)), noise(1, (6, 7))
    for n in range(6):
        assert np.array_equal(c.columns(maps, 2)[n // 2, ..., n % 2], maps[n].transpose(0, 2, 1))
        assert np.array_equal(c.columns(flat, 3)[n // 3, :, n % 3], flat[n])
        assert c.columns(np.arange(6), 3)[n // 3, n % 3] == n


def test_columns_of_strided_rows_are_theirs():
    x = noise(0, (8, 5, 4, 6))[::2, ::-1, :, ::3]
    assert np.array_equal(c.rows(c.columns(x, 2)), x)


def test_columns_of_rows_that_had_to_be_spread_are_theirs():
    x = noise(0, (32, 32, 32, 3), np.float32)           # 16 rows a chunk, whole pages apart
    assert np.array_equal(c.columns(x, 16)[1, ..., 2], x[18].transpose(0, 2, 1))
    assert np.array_equal(c.rows(c.columns(x, 16)), x)


# -- how a batch is cut: the numbers are those of the rule, worked out by hand -----------------------------------------

def resnet_bytes():
    return 4 * 3 * 16 * 32 * 32                         # kernel columns of a 3x3 kernel over 16 maps of 32x32: 192 KiB


@pytest.mark.parametrize("n, column_bytes, nb", [
    (128, resnet_bytes(), 16),                          # 3 MiB / 192 KiB = 16
    (128, 4 * 5 * 3 * 32 * 32, 32),                     # LeNet 5x5 on CIFAR: 51.2, so 48; 32 is as near as 64
    (128, 4 * 3 * 64 * 56 * 56, 4),                     # 2.3 MiB a sample: more than half the cache
    (100, resnet_bytes(), 20),                          # divisors of 100 in 8..64: 10, 20, 25, 50
    (127, resnet_bytes(), 127),                         # a prime: one chunk
    (7, resnet_bytes(), 7),                             # fewer than 8: one chunk
    (127, 4 * 3 * 64 * 56 * 56, 1),                     # large maps may go one by one
    (6, 4 * 3 * 64 * 56 * 56, 3),                       # of the divisors 1, 2, 3, 6 the nearest to 4
    (512, 0, 512),                                      # no convolution: one chunk
    (128, 1000, 64),                                    # tiny maps: the most
    (1, resnet_bytes(), 1),
])
def test_cut_follows_the_rule(n, column_bytes, nb):
    assert c.cut(n, column_bytes) == nb


@given(st.integers(1, 600), st.integers(0, 2**23))
def test_cut_divides_the_batch(n, column_bytes):
    assert n % c.cut(n, column_bytes) == 0


def test_a_nets_column_bytes_are_those_of_its_largest_convolution():
    assert lenet(10, 3, 32).build((32, 32, 3)).column_bytes == 4 * 3 * 32 * 15 * 15
    assert lenet(10, 1, 28).build((28, 28, 1)).column_bytes == 4 * 5 * 6 * 14 * 14
    assert mlp().build((28, 28, 1)).column_bytes == 0
    five = Sequential(conv1=Conv2d(6, 5, padding=0), relu=ReLU(), pool=MaxPool2d(2), conv2=Conv2d(16, 5, padding=0),
                      flatten=Flatten(), fc=Dense(10)).build((32, 32, 3))
    assert c.cut(128, five.column_bytes) == 32


# -- what rules and metrics ask ----------------------------------------------------------------------------------------

@given(samples(), chunkings(), seeds())
def test_helpers_say_in_columns_what_loops_say_in_rows(shape, cut, seed):
    T, nb = cut
    N = T * nb
    x, values = noise(seed, (N, *shape)), noise(seed + 1, (N,))
    y = c.columns(x, nb)
    scaled = c.rows(y * c.beside(c.columns(values, nb), y))
    order = np.random.default_rng(seed).permutation(N)
    dealt = c.rows(c.permute(y, order))
    for n in range(N):
        assert np.array_equal(scaled[n], x[n] * values[n])
        assert np.array_equal(dealt[n], x[order[n]])
    assert c.batch_shape(c.inside(shape), y) == y.shape


@given(samples(), chunkings(), seeds(), st.integers(1, 6))
def test_over_channels_multiplies_each_sample_and_position(shape, cut, seed, p):
    T, nb = cut
    x, B = noise(seed, (T * nb, *shape)), noise(seed + 1, (p, shape[-1]))
    assert np.allclose(c.rows(c.over_channels(B, c.columns(x, nb))), x @ B.T, rtol=1e-12, atol=1e-12)


def test_everywhere_shows_a_vector_at_every_position():
    v = noise(0, (6, 3))
    seen = c.rows(c.everywhere(c.columns(v, 2), (5, 3, 4)))
    assert np.array_equal(seen, np.broadcast_to(v[:, None, None], (6, 5, 4, 3)))
    flat = c.columns(v, 2)
    assert c.everywhere(flat, (3,)) is flat


def test_one_hot_and_join():
    labels = np.array([2, 0, 1, 2])
    assert np.array_equal(c.rows(c.one_hot(c.columns(labels, 2), 4, np.float32)), np.eye(4, dtype=np.float32)[labels])
    a, b = noise(0, (4, 3)), noise(1, (4, 2))
    assert np.array_equal(c.rows(c.join(c.columns(a, 2), c.columns(b, 2))), np.hstack([a, b]))


@given(samples(), chunkings(), seeds())
def test_draws_are_made_in_the_order_of_rows(shape, cut, seed):
    T, nb = cut
    x = noise(seed, (T * nb, *shape))
    normal = c.normal_like(c.columns(x, nb), np.random.default_rng(seed))
    assert normal.dtype == x.dtype and np.array_equal(
        c.rows(normal), np.random.default_rng(seed).standard_normal(x.shape).astype(x.dtype))
    found = [c.rows(c.draw_rows(np.random.default_rng(seed).random, c.columns(x, n))) for n in (nb, 1, T * nb)]
    assert found[0].shape == x.shape
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_nothing_has_a_shape_and_no_memory_and_is_known_for_it():
    x = np.ones((2, 5, 3), np.float32)
    nothing = c.nothing_like(x)
    assert nothing.shape == x.shape and nothing.dtype == x.dtype and not nothing.any() and not any(nothing.strides)
    assert not nothing.any() and nothing.shape == x.shape


@given(samples(), chunkings(), seeds())
def test_a_samples_standard_deviation_is_over_its_own_entries(shape, cut, seed):
    T, nb = cut
    x = noise(seed, (T * nb, *shape))
    found = c.rows(c.sample_std(c.columns(x, nb)))
    assert np.allclose(found, x.reshape(len(x), -1).std(axis=1), rtol=1e-12, atol=1e-12)


@given(samples(), chunkings(), seeds())
def test_samples_stand_side_by_side_and_have_norms(shape, cut, seed):
    T, nb = cut
    x = noise(seed, (T * nb, *shape))
    y = c.columns(x, nb)
    inside = x if x.ndim == 2 else x.transpose(0, 1, 3, 2)              # the order of entries inside a net
    assert np.array_equal(c.side_by_side(y), inside.reshape(len(x), -1).T)
    assert np.allclose(c.rows(c.sample_norm(y)), np.linalg.norm(x.reshape(len(x), -1), axis=1), rtol=1e-12, atol=0)


@given(samples(), chunkings(), seeds())
def test_a_samples_sum_is_over_its_own_entries_and_several_make_features(shape, cut, seed):
    T, nb = cut
    x, y = noise(seed, (T * nb, *shape)), noise(seed + 1, (T * nb, *shape))
    sums = [c.sample_sum(c.columns(a, nb)) for a in (x, y)]
    assert sums[0].shape == (T, nb)
    wanted = np.stack([a.reshape(len(a), -1).sum(axis=1) for a in (x, y)], axis=1)
    assert np.allclose(c.rows(c.as_features(sums)), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 2)])
def test_the_first_entries_are_replaced_as_they_are_stored(shape):
    x, v = noise(0, (6, *shape)), noise(1, (6, 2))
    before = x.copy()
    kept = c.columns(x, 3)
    for copies in (1, 3):
        found = c.replace_first(kept, c.columns(v, 3), copies)
        stored = [c.rows(a.reshape(len(a), -1, a.shape[-1])) for a in (found, kept)]
        assert np.array_equal(stored[0][:, :2 * copies], np.tile(v, copies))
        assert np.array_equal(stored[0][:, 2 * copies:], stored[1][:, 2 * copies:]) and found.shape == kept.shape
    assert np.array_equal(x, before) and np.array_equal(c.rows(kept), before)
    one = c.rows(c.replace_first(c.columns(noise(0, (4, 5)), 2), np.array([[1.0], [2.0]])))
    assert np.array_equal(one[:, :2], np.tile([1.0, 2.0], (4, 1)))


@pytest.mark.parametrize("shape", [(6,), (6, 2, 4)])
def test_numbers_for_components_stand_at_all_their_entries(shape):
    x, v = noise(0, (8, *shape)), noise(1, (8, 3))
    found = c.rows(c.over_components(c.columns(v, 4), c.columns(x, 4)))
    assert found.shape == x.shape
    assert np.array_equal(found.reshape(8, 3, -1), np.broadcast_to(v[..., None], (8, 3, x[0].size // 3)))

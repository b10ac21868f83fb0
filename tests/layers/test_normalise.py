from math import prod

import numpy as np
import pytest
from hypothesis import given

from nplearn.columns import columns, rows
from nplearn.errors import SettingError
from nplearn.layers import Normalise
from nplearn.testing.strategies import case, noise, samples, seeds
from tests.helpers import on_source, walk

# of one number alone the sign is left, and its derivative, 1e-8, is the difference of two that nearly agree
CASES = samples().filter(lambda shape: prod(shape) > 1).map(lambda shape: case(Normalise, shape))


def test_normalise_keeps_the_layer_contract(contract):
    contract(CASES, least=850)


@pytest.mark.long
def test_normalise_keeps_the_layer_contract_on_many_cases(contract):
    contract(CASES, least=40_000, examples=1000)


@given(samples(), seeds())
def test_every_sample_has_mean_square_1_and_keeps_its_direction(shape, seed):
    x = noise(seed, (5, *shape))
    y = rows(Normalise().build(shape, dtype=np.float64).forward(columns(x, 1)))
    for a, b in zip(x, y, strict=True):
        r = np.sqrt((a * a).mean())
        assert (b * b).mean() == pytest.approx(1, abs=4e-8 / r) and np.allclose(b * (r + 1e-8), a, rtol=1e-13)


@given(samples(), seeds())
def test_its_length_cannot_be_told_from_what_comes_out(shape, seed):
    x, scale = noise(seed, (5, *shape)), np.random.default_rng(seed).uniform(0.5, 20, 5)
    net = Normalise(1e-30).build(shape, dtype=np.float64)           # the usual eps is seen in the eighth digit
    y, z = (rows(net.forward(columns(a))) for a in (x, x * scale.reshape(5, *(1,) * len(shape))))
    assert abs(y - z).max() < 1e-14


def test_an_error_along_the_sample_does_not_pass_and_one_across_it_is_divided_by_its_length():
    x = np.array([[3.0, 4.0]])
    net = on_source(Normalise(), (2,))
    _, d, dx = walk(net, x, np.random.default_rng(0))
    r = np.sqrt(12.5)
    across = np.array([[0.8, -0.6]])
    assert np.allclose(dx, across * (d * across).sum() / r, rtol=1e-6) and abs((dx * x).sum()) < 1e-7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sample_of_zeros_stays_one_without_a_warning(dtype):
    x = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], dtype)
    y, d, dx = walk(on_source(Normalise(), (3,), dtype=dtype), x, np.random.default_rng(0))
    assert not y[0].any() and y[1].any() and np.allclose(dx[0], d[0] / dtype(1e-8)) and y.dtype == dx.dtype == dtype


@pytest.mark.parametrize("eps", [0, -1e-8])
def test_a_guard_that_guards_nothing_is_refused(eps):
    with pytest.raises(SettingError, match="Normalise: eps .*; expected a number above 0"):
        Normalise(eps)

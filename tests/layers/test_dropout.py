import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.columns import columns, rows
from nplearn.errors import SettingError
from nplearn.layers import Dropout, Sequential
from nplearn.tape import Tape
from nplearn.testing.strategies import dropouts, samples, seeds


def mask(net, shape, seed=0, nb=None, n=12, layer=None):
    """The mask of a pass through the net (or a layer of it), as rows: the output for an input of ones."""
    x = np.ones((n, *shape))
    tape = Tape(net).begin(x, seed=seed)
    return rows((layer or net).forward(columns(x, nb), tape))


def test_dropout_keeps_the_layer_contract(contract):
    contract(dropouts(), least=850)


@pytest.mark.long
def test_dropout_keeps_the_layer_contract_on_many_cases(contract):
    contract(dropouts(), least=40_000, examples=1000)


@given(samples(), seeds(), st.sampled_from([1, 2, 3, 4, 6]))
def test_the_mask_does_not_depend_on_how_the_batch_is_cut(shape, seed, nb):
    net = Dropout(0.4).build(shape, dtype=np.float64)
    assert np.array_equal(mask(net, shape, seed), mask(net, shape, seed, nb))


def test_the_mask_is_keyed_by_seed_path_and_visit():
    net = Sequential(one=Dropout(), other=Dropout()).build((50,), dtype=np.float64)
    one = net.layers[0]
    first, second = (mask(net, (50,), layer=layer) for layer in net.layers)
    assert not np.array_equal(first, second)                                # path
    assert not np.array_equal(first, mask(net, (50,), seed=1, layer=one))    # seed
    assert np.array_equal(first, mask(net, (50,), layer=one))
    tape = Tape(net).begin(np.ones((12, 50)))
    visits = [rows(one.forward(tape.input, tape)) for _ in range(2)]
    assert np.array_equal(visits[0], first) and not np.array_equal(*visits)


def test_each_visit_goes_down_through_its_own_mask():
    shared = Dropout()
    net = Sequential(first=shared, second=shared).build((60,), dtype=np.float64)
    tape = Tape(net).begin(np.ones((5, 60)))
    y = net.forward(tape.input, tape)
    one, two = tape.seen(shared)
    assert not np.array_equal(one, two)
    assert np.array_equal(y, one * two)
    d = np.random.default_rng(0).standard_normal(y.shape)
    assert np.array_equal(net.backward(d, tape), d * two * one)


def test_another_pass_of_the_same_batch_drops_the_same_units():
    net = Dropout(0.3).build((40,), dtype=np.float64)
    tape = Tape(net).begin(np.ones((6, 40)), seed=(4, 7))
    y, again = net.forward(tape.input, tape), tape.again()
    assert np.array_equal(y, net.forward(again.input, again))
    assert not np.array_equal(y, net.forward(tape.input, tape.begin(np.ones((6, 40)), seed=(4, 8))))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_unit_is_dropped_with_probability_p_and_the_mean_is_kept(p):
    net = Dropout(p).build((400,), dtype=np.float64)
    found = mask(net, (400,), n=100)
    assert np.allclose(np.unique(found), [0, 1 / (1 - p)], rtol=1e-15)
    assert abs((found == 0).mean() - p) < 5 * np.sqrt(p * (1 - p) / found.size)
    assert len(np.unique(found, axis=0)) == 100         # every sample has a mask of its own


def test_without_a_tape_nothing_is_dropped():
    x = np.ones((1, 30, 4))
    assert Dropout(0.9).build((30,)).forward(x) is x


@pytest.mark.parametrize("p", [-0.1, 1, 1.5])
def test_a_probability_outside_0_to_1_is_refused(p):
    with pytest.raises(SettingError, match="0 <= p < 1"):
        Dropout(p)

import numpy as np
import pytest

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.layers import Flatten, Reshape, Sequential
from nplearn.testing.strategies import flattens, noise, reshapes


def test_flatten_and_reshape_keep_the_layer_contract(contract):
    contract(flattens(), least=850)
    contract(reshapes(), least=850)


def test_flatten_reads_a_map_in_the_order_rows_channels_columns():
    x = noise(0, (4, 3, 5, 2))
    net = Flatten().build((3, 5, 2), dtype=np.float64)
    assert net.out_shape == (30,)
    assert np.array_equal(rows(net.forward(columns(x, 2))), x.transpose(0, 1, 3, 2).reshape(4, 30))


def test_reshape_undoes_flatten_and_copies_nothing():
    x = columns(noise(0, (4, 3, 5, 2)), 2)
    net = Sequential(Flatten(), Reshape((3, 5, 2))).build((3, 5, 2), dtype=np.float64)
    y = net.forward(x)
    assert np.array_equal(y, x) and np.shares_memory(y, x)


def test_a_shape_of_another_size_is_refused():
    with pytest.raises(BuildError, match="30 numbers; expected 24 numbers"):
        Reshape((2, 3, 4)).build((5, 3, 2))

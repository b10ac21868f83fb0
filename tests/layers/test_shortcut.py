import numpy as np
import pytest

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.layers import Subsample
from nplearn.testing.strategies import noise, subsamples


def test_subsample_keeps_the_layer_contract(contract):
    contract(subsamples(), least=850)


@pytest.mark.parametrize(("channels", "n", "stride"), [(2, 5, 2), (2, 4, 3), (3, 3, 1), (1, 2, 2)])
def test_every_s_th_row_and_column_between_channels_of_zeros(channels, n, stride):
    x = noise(0, (4, 5, 6, channels))
    net = Subsample(n, stride).build((5, 6, channels), dtype=np.float64)
    y, first = rows(net.forward(columns(x, 2))), (n - channels) // 2
    wanted = np.zeros((4, -(-5 // stride), -(-6 // stride), n))
    for i in range(wanted.shape[1]):
        for j in range(wanted.shape[2]):
            wanted[:, i, j, first:first + channels] = x[:, stride * i, stride * j]
    assert np.array_equal(y, wanted)


def test_fewer_channels_than_come_in_are_refused():
    with pytest.raises(BuildError, match="3 channels; expected at most 2"):
        Subsample(2, 2).build((4, 4, 3))

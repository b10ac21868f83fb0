import numpy as np
import pytest

from nplearn.columns import columns, rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import First
from nplearn.tape import Tape
from nplearn.testing.strategies import noise


def test_it_keeps_the_layer_contract(contract):
    contract(lambda: First(3), in_shapes=[(3,), (4,), (9,)], least=200)


def test_the_first_features_go_on_and_the_others_get_no_error():
    net, x, d = First(2).build(5, dtype=np.float64), noise(0, (6, 5)), noise(1, (6, 2))
    tape = Tape(net).begin(x)
    assert net.out_shape == (2,) and np.array_equal(rows(net.forward(tape.input, tape)), x[:, :2])
    error = rows(net.backward(columns(d, 3), tape))
    assert np.array_equal(error[:, :2], d) and error.shape == (6, 5) and not error[:, 2:].any()


@pytest.mark.parametrize("shape", [(3,), (4, 4, 5)])
def test_what_has_fewer_features_or_is_a_map_is_refused(shape):
    with pytest.raises(BuildError, match="expected at least 4 features"):
        First(4).build(shape)


def test_a_number_that_is_none_is_refused():
    with pytest.raises(SettingError, match="First: n 0"):
        First(0)

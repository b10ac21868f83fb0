import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.layers import Conv2d, Dense, Flatten, Layer, LocallyConnected2d, Port, ReLU, Residual, Sequential, holders
from nplearn.tape import Tape
from nplearn.testing.strategies import batch, nets, noise, seeds
from tests.helpers import close


@given(nets(), seeds(), st.integers(1, 40))
def test_predict_is_the_forward_pass_whatever_the_last_short_batch(net, seed, n):
    x, _ = batch(net, seed, n)
    wanted = rows(net.forward(columns(x)))
    for size in (7, 256):
        close(net.predict(x, batch=size), wanted, scale=10)


def test_predict_takes_any_dtype_and_answers_in_the_nets():
    net = Sequential(Flatten(), Dense(3)).build((4, 3, 1), dtype=np.float32)
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3, 1)
    assert net.predict(image).dtype == np.float32
    assert np.array_equal(net.predict(image), net.predict(image.astype(np.float64)))


@pytest.mark.parametrize("inputs", [np.zeros((2, 4, 4, 1)), np.zeros((2, 12)), np.zeros((0, 4, 3, 1))])
def test_inputs_that_do_not_fit_are_refused(inputs):
    net = Sequential(Flatten(), Dense(3)).build((4, 3, 1))
    for refuse in (net.predict, Tape(net).begin):
        with pytest.raises(BuildError, match=r"input: a batch of shape .*expected \(N, \*\(4, 3, 1\)\) with N > 0"):
            refuse(inputs)


def test_a_net_that_is_not_built_says_so():
    net = Sequential(Flatten(), Dense(3))
    for refuse in (net.predict, Tape(net).begin):
        with pytest.raises(BuildError, match="not built"):
            refuse(np.zeros((2, 5)))


def test_a_layers_weights_depend_on_seed_and_path_and_on_no_other_layer():
    def weights(net, seed=1):
        return net.build((6,), seed, np.float64).layers[-1].weight.value.copy()
    alone = weights(Sequential(act=ReLU(), fc=Dense(6)))
    assert np.array_equal(alone, weights(Sequential(fc1=Dense(6), fc=Dense(6))))
    assert not np.array_equal(alone, weights(Sequential(act=ReLU(), fc9=Dense(6))))
    assert not np.array_equal(alone, weights(Sequential(act=ReLU(), fc=Dense(6)), 2))


def test_building_again_makes_the_same_net_anew():
    net = Sequential(Flatten(), fc=Dense(5)).build((4, 3, 2), 7)
    before = net.arena.value.copy()
    net.arena.value[...] = 3
    assert np.array_equal(net.build((4, 3, 2), 7).arena.value, before)
    assert net.build((5,), 7).layers[1].weight.value.shape == (5, 5)


def test_holders_are_weighted_layers_and_ports():
    net = Sequential(conv=Conv2d(3, 3), block=Residual(conv=Conv2d(3, 3)), flatten=Flatten(), fc=Dense(2))
    net.build((5, 4, 2))
    assert [layer.path for layer in holders(net)] == ["conv", "block.branch.conv", "block.shortcut", "fc"]
    assert all(layer.feedback is layer.exact for layer in holders(net))
    assert isinstance(net.layers[1].shortcut, Port)


@pytest.mark.parametrize("layer, in_shape", [(Dense(5), (7,)), (Conv2d(6, (3, 2), groups=2), (6, 5, 4)),
                                             (LocallyConnected2d(5, 3, stride=2), (7, 5, 2))])
def test_draw_follows_the_weights_own_law_at_any_width(layer, in_shape):
    layer.build(in_shape, dtype=np.float64)
    for n_out in (layer.n_out, 4 * layer.n_out):
        many = np.stack([layer.draw(np.random.default_rng(seed), n_out) for seed in range(200)])
        assert many.shape[1:] == layer.weight_shape(n_out)
        std = layer.init.std(*layer.fans(n_out))
        assert abs(many.std() / std - 1) < 5 / np.sqrt(many.size)
    assert layer.std() == layer.init.std(*layer.fans(layer.n_out))


def test_a_layer_without_a_tangent_says_so():
    class OneWay(Layer):
        def forward(self, x, tape=None):
            return x
    layer = Sequential(one=OneWay()).build((3,))
    with pytest.raises(BuildError, match="one: no tangent"):
        layer.tangent(noise(0, (1, 3, 2)), Tape(layer))

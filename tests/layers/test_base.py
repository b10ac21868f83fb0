import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.layers import (
    Activation,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    LocallyConnected2d,
    Port,
    ReLU,
    Residual,
    Sequential,
    Weighted,
    holders,
)
from nplearn.losses import SoftmaxCrossEntropy
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


# -- a class that a user writes and that lacks a method ---------------------------------------------------------------

class Silent(Layer):
    pass


class Forwards(Layer):
    def forward(self, x, tape=None):
        return x


class Halves(Forwards):
    def forward(self, x, tape=None):
        return x[:, ::2]


class Bare(Weighted):
    pass


class Writes(Weighted):
    n = 3

    def infer(self, in_shape):
        return (3,)


class Curve(Activation):
    pass


def step(layer):
    net = Sequential(fc=Dense(4), mine=layer).build((5,))
    tape = Tape(net, SoftmaxCrossEntropy()).begin(noise(0, (2, 5)), [0, 1])
    tape.run()
    net.backward(tape.error, tape)


@pytest.mark.parametrize("layer, method, base", [
    (Silent(), "forward(self, x, tape=None)", "Layer"), (Forwards(), "backward(self, d, tape)", "Layer"),
    (Bare(), "infer(self, in_shape)", "Weighted"), (Writes(), "weight_shape(self, n_out)", "Weighted"),
    (Curve(), "f(self, x)", "Activation")])
def test_a_method_that_a_class_lacks_is_named_with_the_class(layer, method, base):
    kind, name = type(layer).__name__, method.partition("(")[0]
    with pytest.raises(BuildError) as caught:
        step(layer)
    assert str(caught.value) == (f"mine: class {kind} without {name}; expected {method}, as {base} describes it; "
                                 f"write it in {kind}.")


@pytest.mark.parametrize("name, method", [
    ("apply", "apply(self, x, W)"), ("adjoint", "adjoint(self, d, W, shape)"), ("outer", "outer(self, x, d)"),
    ("bias_shape", "bias_shape(self)"), ("fans", "fans(self, n_out)")])
def test_each_method_of_a_weighted_layer_is_named_where_it_lacks(name, method):
    layer = type("Mine", (Dense,), {name: getattr(Weighted, name)})(3)
    with pytest.raises(BuildError) as caught:
        step(layer)
    assert caught.value.expected.startswith(method) and caught.value.do == "write it in Mine"


@pytest.mark.parametrize("net, in_shape", [
    (lambda: Sequential(fc=Dense(8), mine=Halves(), out=Dense(3)), (5,)),
    (lambda: Sequential(conv=Conv2d(4, 3), mine=Halves(), flatten=Flatten(), out=Dense(3)), (8, 6, 2)),
    (lambda: Sequential(Sequential(conv=Conv2d(4, 3), mine=Halves(), act=ReLU()), Flatten(), Dense(3)), (8, 6, 2))])
@pytest.mark.parametrize("n", [1, 256])
def test_a_layer_that_says_another_shape_than_it_puts_out_is_found_when_arrays_do_not_fit(net, in_shape, n):
    with pytest.raises(BuildError, match=r"mine: an output of shape \(4.*\); expected \(8.*as its infer says; write "
                                         r"infer\(self, in_shape\) in Halves") as caught:
        net().build(in_shape).predict(np.zeros((n, *in_shape)))
    assert isinstance(caught.value.__cause__, (ValueError, IndexError))


def test_an_error_that_no_shape_explains_stays_what_it_is():
    class Refuses(Forwards):
        def forward(self, x, tape=None):
            raise ValueError("mine")
    with pytest.raises(ValueError, match="^mine$"):
        Sequential(Dense(3), Refuses(), Dense(2)).build((5,)).predict(np.zeros((2, 5)))

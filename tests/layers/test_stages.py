"""A chain cut into stages: which layers each has, that they are the net's own, what is refused, and its parts."""
import numpy as np
import pytest

from nplearn.columns import columns, outside
from nplearn.errors import BuildError
from nplearn.layers import (
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    LocallyConnected2d,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Tanh,
    Transposed,
    activities,
    stages,
)
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.tape import Tape
from nplearn.testing.trial import dense_net, map_net, ready, residual_net, stride_net


def mixed_chain():
    body = Sequential(fc1=Dense(6), norm=BatchNorm(), act=Tanh(), drop=Dropout(0.2))
    return ready(Sequential(first=Flatten(), body=body, fc2=Dense(3)), (2, 3, 1))


def ran(net, mode="train"):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(8, *(net.in_shape if len(net.in_shape) == 1 else np.array(net.in_shape)[[0, 2, 1]])))
    tape = Tape(net, SoftmaxCrossEntropy(), mode).begin(inputs, rng.integers(net.out_shape[0], size=8), seed=3)
    tape.run()
    return tape


def test_each_stage_has_one_weighted_layer_and_what_is_behind_it():
    net = mixed_chain()
    one, two = stages(net)
    assert [layer.path for layer in one.layers] == ["first", "body.fc1", "body.norm", "body.act", "body.drop"]
    assert [layer.path for layer in two.layers] == ["fc2"]
    assert one.layer is net.layers[1].layers[0] and one.path == "body.fc1" and one.activation.path == "body.act"
    assert two.activation is None and two.tail.layers == [] and [x.path for x in one.tail.layers] == ["body.drop"]
    for stage in (one, two):                            # front, nonlinearity, behind: nothing is left out
        act = [stage.activation] if stage.activation else []
        assert [*stage.front, *act, *stage.behind] == stage.layers == stage.pre.layers + stage.post.layers
        assert [*stage.below.layers, stage.layer, *stage.above.layers] == stage.layers == stage.whole.layers
        assert stage.between.layers + act + stage.tail.layers == stage.above.layers
        assert stage.linear.layers == [layer for layer in stage.layers if layer is not stage.activation]
    assert [x.path for x in one.below.layers] == ["first"] and [x.path for x in one.between.layers] == ["body.norm"]
    assert [x.path for x in one.linear.layers] == ["first", "body.fc1", "body.norm", "body.drop"]
    assert one.in_shape == (2, 1, 3) and one.out_shape == two.in_shape == (6,) and two.out_shape == (3,)


@pytest.mark.parametrize("make", [dense_net, stride_net, map_net, mixed_chain])
def test_a_pass_over_the_stages_is_a_pass_of_the_net(make):
    net = make()
    tape, chain = ran(net), stages(net)
    h = activities(chain, tape)
    assert h[0] is tape.input and h[-1] is tape.output and len(h) == len(chain) + 1
    again = tape.again()
    for stage, below, above in zip(chain, h, h[1:], strict=False):
        np.testing.assert_array_equal(stage.forward(below, again), above)
    assert all(x.shape[1:-1] == stage.out_shape for stage, x in zip(chain, h[1:], strict=True))


@pytest.mark.parametrize("make", [dense_net, stride_net, map_net, mixed_chain])
def test_a_walk_down_the_stages_is_a_walk_down_the_net(make):
    net = make()
    tape = ran(net)
    net.backward(tape.error, tape)
    whole = net.arena.grad.copy()
    net.arena.grad[...] = np.nan
    tape.arrive(net)
    d = tape.error
    for stage in reversed(stages(net)):
        d = stage.backward(d, tape)
    for p in net.arena.params:
        assert not np.isnan(p.grad).any()
    np.testing.assert_array_equal(np.nan_to_num(net.arena.grad), whole)


def test_turned_goes_from_a_stages_output_to_its_input():
    for stage in stages(stride_net()):
        back = stage.turned().build(outside(stage.out_shape), 1, np.float64)
        x = columns(np.random.default_rng(0).normal(size=(4, *outside(back.in_shape))))
        assert back.in_shape == stage.out_shape and back.forward(x).shape == (1, *stage.in_shape, 4)
        own, = (layer for layer in back.layers if isinstance(layer, Transposed))
        assert own.layer is stage.layer and own.weight.value.shape == stage.layer.weight.value.shape


@pytest.mark.parametrize("net, words", [
    (residual_net(), "block1: a Residual, where the way divides"),
    (Sequential(Residual(Dense(4))).build(4), "0: a Residual, where the way divides"),
    (ready(Sequential(act=Tanh(), flatten=Flatten()), (2, 2, 1)), "net: no weighted layer"),
    (ready(Sequential(act=Tanh(), fc=Dense(2)), (3,)), "act: a nonlinearity that is not the only one"),
    (ready(Sequential(fc=Dense(2), one=Tanh(), two=ReLU()), (3,)), "two: a nonlinearity that is not the only one")])
def test_what_is_no_chain_is_refused(net, words):
    with pytest.raises(BuildError, match=words):
        stages(net)


def test_a_layer_that_stands_twice_is_refused():
    act, fc = Tanh(), Dense(4)
    for layers in ([fc, Tanh(), fc], [Dense(4), act, Dense(3), act]):
        with pytest.raises(BuildError, match="the same layer a second time"):
            stages(Sequential(*layers).build(4))


@pytest.mark.parametrize("behind", [MaxPool2d(2), BatchNorm(), Dropout(0.5)])
def test_what_cannot_be_turned_says_so(behind):
    net = Sequential(conv=Conv2d(3, 3), act=Tanh(), behind=behind, local=LocallyConnected2d(2, 3)).build((4, 4, 1))
    with pytest.raises(BuildError, match=f"behind: a {type(behind).__name__}, which has no inverse to learn"):
        stages(net)[0].turned()


def test_a_joined_pass_adds_to_the_walk_it_came_from():
    net = dense_net()
    tape, chain = ran(net), stages(net)
    tape.arrive(net)
    net.arena.grad[...] = 7.0
    total = 0
    for scale in (1.0, -3.0):
        sweep = tape.again(joins=True)
        h = chain[0].forward(tape.input, sweep)
        d = scale * np.ones_like(h)
        chain[0].backward(d, sweep)
        alone = tape.again()
        chain[0].forward(tape.input, alone)
        kept = chain[0].layer.weight.grad.copy()
        chain[0].backward(d, alone)
        total = total + chain[0].layer.weight.grad
        chain[0].layer.weight.grad[...] = kept
    np.testing.assert_allclose(chain[0].layer.weight.grad, total, rtol=1e-13)
    assert not hasattr(tape, "joined") and tape.again().joins is False

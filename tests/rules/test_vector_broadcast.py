"""Global error-vector broadcasting: of one sample no entry of a gradient has another sign than backprop's."""
import sys

import numpy as np
import pytest

from nplearn.columns import outside
from nplearn.errors import BuildError
from nplearn.layers import (
    ON_OFF,
    ON_OFF_FIRST,
    Componentwise,
    Conv2d,
    Dense,
    Flatten,
    Gate,
    LocallyConnected2d,
    ReLU,
    Reshape,
    Sequential,
    Stacked,
    weighted,
)
from nplearn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy
from nplearn.nets import vector
from nplearn.optim import Adam
from nplearn.rules import VectorBroadcast, registry
from nplearn.runs import Settings
from nplearn.tape import Tape
from nplearn.testing.trial import Trial, dense_net, differ, ready, residual_net
from tests.fake_device import FakeCupy, crossings
from tests.rules.smoke import prototypes, trained

K = 4


def vector_net(seed=0, hidden=(6, 10, 8)):
    return ready(vector(K, hidden), (5,), seed)


def map_net(seed=0):
    return ready(Sequential(conv=Conv2d(K * 6, 3, init=ON_OFF_FIRST), stacked=Stacked(K), gate1=Gate(K),
                            conv2=Componentwise(Conv2d(2, 3, stride=2, init=ON_OFF), K, bias=False), gate2=Gate(K),
                            flatten=Flatten(), fc=Componentwise(Dense(1, init=ON_OFF), K)), (6, 5, 2), seed)


NETS = {"vector": vector_net, "maps": map_net}
TRIAL = {"nets": NETS}


def mixed(net, seed):
    """Parameters anywhere that they may be."""
    rng, (first, *above) = np.random.default_rng(seed), weighted(net)
    for layer in (first, *above):
        W = rng.normal(size=layer.weight.value.shape)
        layer.weight.value[...] = W if layer is first else np.maximum(W, 0) ** 2
        if layer.bias:
            layer.bias.value[...] = rng.normal(size=layer.bias.value.shape)
    return net


def passed(net, rule, n=1, seed=0, loss=None):
    rng = np.random.default_rng(seed)
    tape = Tape(net, loss or SoftmaxCrossEntropy()).begin(rng.normal(size=(n, *outside(net.in_shape))),
                                                          rng.integers(K, size=n))
    tape.run(rule)
    return tape


def gradients(net, walk, rule=None):
    if rule:
        rule.assign(net, walk)
    else:
        net.backward(walk.error, walk)
    return {p.path: p.grad.copy() for p in net.arena.params}


# -- laws -------------------------------------------------------------------------------------------------------------

def local_net(seed=0):
    """Weights of a map that no two positions share: as in dense layers, each stands in one product."""
    return ready(Sequential(fc=Dense(K * 36), map=Reshape((K * 3, 4, 3)), gate1=Gate(K),
                            local=Componentwise(LocallyConnected2d(2, 2), K, bias=False), gate2=Gate(K),
                            flatten=Flatten(), out=Componentwise(Dense(1), K)), (5,), seed)


@pytest.mark.parametrize("build", [vector_net, local_net])
def test_no_gradient_has_another_sign_than_the_true_one(build):
    """Of one sample; a convolution adds positions up as a batch adds samples, and then signs may differ."""
    moved = []
    for seed in range(200):
        net = mixed(build(seed), seed)
        rule = VectorBroadcast().attach(net)
        tape = passed(net, rule, seed=seed)
        found, true = gradients(net, tape, rule), gradients(net, tape.walk(exact=True))
        for path, g in found.items():
            assert (g * true[path] >= 0).all() and not (true[path] != 0)[g == 0].any(), (path, seed)
            moved.append((g != 0).mean())
    assert np.mean(moved) > 0.3


def test_where_a_weight_is_below_0_signs_may_differ():
    """The control: it is the constraint that gives the law."""
    opposite = 0
    for seed in range(20):
        net = mixed(vector_net(seed), seed)
        for layer in weighted(net)[1:]:
            layer.weight.value *= np.random.default_rng(seed).choice([-1, 1], layer.weight.value.shape)
        rule = VectorBroadcast().attach(net)
        tape = passed(net, rule, seed=seed)
        found, true = gradients(net, tape, rule), gradients(net, tape.walk(exact=True))
        opposite += sum((found[path] * true[path] < 0).sum() for path in true)
    assert opposite > 100


@pytest.mark.parametrize("seed", range(3))
def test_a_gradient_is_the_outer_product_of_gates_with_activities_along_the_error(seed):
    net = mixed(vector_net(seed), seed)
    rule = VectorBroadcast().attach(net)
    tape = passed(net, rule, 8, seed)
    found, e = gradients(net, tape, rule), tape.error
    gates = [*(tape.seen(gate)[0][:, 0] for gate in net.layers if isinstance(gate, Gate)), np.ones((2, 1, 4))]
    assert e.shape == (2, K, 4)                         # two chunks of four samples
    for layer, g in zip(weighted(net), gates, strict=True):
        x = tape.seen(layer)[0]
        if layer is weighted(net)[0]:
            wanted = np.einsum("tkn,tin,tjn->kij", e, g, x).reshape(layer.weight.value.shape)
        else:
            along = (x.reshape(2, K, -1, 4) * e[:, :, None]).sum(axis=1)
            wanted = layer.inner.outer(along, np.ascontiguousarray(g, float))
        assert abs(found[f"{layer.path}.weight"] - wanted).max() <= 2e-15 * max(1, abs(wanted).max())
        bias = np.einsum("tkn,tin->ki", e, g).reshape(-1, 1)
        assert abs(found[f"{layer.path}.bias"] - bias).max() <= 2e-15


def test_below_the_last_layer_backprops_delta_is_that_of_the_rule_times_the_weight_above():
    net = mixed(vector_net(1, (6,)), 1)
    rule = VectorBroadcast().attach(net)
    tape = passed(net, rule, 8)
    found, true = gradients(net, tape, rule), gradients(net, tape.walk(exact=True))
    factor = np.tile(weighted(net)[1].weight.value[0], K)[:, None]
    assert abs(true["fc1.weight"] - factor * found["fc1.weight"]).max() < 1e-15


def test_nothing_is_kept_and_no_weight_is_read_on_the_way_down():
    net = vector_net()
    rule = VectorBroadcast().attach(net)
    for layer in weighted(net):
        layer.adjoint = None
    rule.assign(net, passed(net, rule, 8))
    assert rule.memory() == 0 and rule.state is None


def test_weights_stay_at_0_or_more():
    trial = Trial(vector_net, VectorBroadcast, optimise=lambda arena: Adam(arena, 0.1))
    for step in range(5):
        trial.step(step)
        assert all((layer.weight.value >= 0).all() for layer in weighted(trial.net)[1:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_how_the_batch_is_cut_changes_no_gradient_but_by_rounding(dtype):
    found = []
    for column_bytes in 0, 2**21:
        def build(seed, bytes=column_bytes):
            net = map_net(seed).build((6, 5, 2), seed, dtype)
            net.column_bytes = bytes
            return net
        trial = Trial(build, VectorBroadcast, loss=SigmoidCrossEntropy())
        trial.run()
        found.append(trial.assign())
    assert all(g.dtype == dtype and g.any() for g in found[0].values())
    assert not differ(*found, 10000 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", NETS)
def test_a_step_on_a_device_ends_where_the_hosts_does(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy())
    found = []
    for where in "cpu", "gpu":
        def build(seed, where=where):
            net = NETS[name](seed)
            return net.build(outside(net.in_shape), seed, np.float64, where)
        trial = Trial(build, VectorBroadcast)
        crossings.clear()
        trial.step(0)
        found.append({path: x.get() if where == "gpu" else x for path, x in trial.state().items()})
    assert not differ(*found, 1e-11) and crossings["float"] == 1


# -- nets it takes ----------------------------------------------------------------------------------------------------

def test_other_nets_are_refused_with_what_would_work():
    plain = Sequential(fc1=Dense(K * 6), gate=Gate(K), fc2=Dense(K))
    free = Sequential(fc1=Dense(K * 6), gate=Gate(K), fc2=Componentwise(Dense(1), K, nonnegative=False))
    ungated = Sequential(fc1=Dense(K * 6), fc2=Componentwise(Dense(1), K))
    another = Sequential(fc1=Dense(K * 6), act=ReLU(), gate=Gate(K), fc2=Componentwise(Dense(1), K))
    fewer = Sequential(fc1=Dense(6 * 2), gate=Gate(2), fc2=Componentwise(Dense(2), 2))
    between = Sequential(fc1=Dense(K * 6), gate=Gate(K), fc2=Dense(K * 6), gate2=Gate(K),
                         fc3=Componentwise(Dense(1), K))
    for net, path in ((plain, "fc2"), (between, "fc2"), (free, "fc2"), (ungated, "fc1"), (another, "fc1"),
                      (fewer, "fc2")):
        with pytest.raises(BuildError, match=f"{path}: no layer of vector units; expected a Gate .*use the net vector"):
            VectorBroadcast().attach(net.build(5))
    for net, says in ((dense_net(0), "fc1: no layer of vector units"), (residual_net(0), "a Residual")):
        with pytest.raises(BuildError, match=says):
            VectorBroadcast().attach(net)


def test_a_net_whose_output_is_a_map_is_refused():
    net = Sequential(conv=Conv2d(K * 2, 3), stacked=Stacked(K), gate=Gate(K),
                     conv2=Componentwise(Conv2d(1, 3), K, bias=False)).build((4, 5, 2))
    with pytest.raises(BuildError, match="a net whose output is .*; expected one axis"):
        VectorBroadcast().attach(net)


def test_its_home_is_the_vector_net():
    settings = Settings.for_rule("gevb", net_options={"hidden": [8]})
    net = settings.build((4, 4, 1), 3)
    assert settings.net == "vector" and VectorBroadcast().attach(net) and net.out_shape == (3,)


def test_the_contract_holds(contract):
    assert contract(lambda: registry.make("gevb"), **TRIAL).count == 2 * 2 * 16


# -- training ---------------------------------------------------------------------------------------------------------

def prototypes_under(name, seed=0, lr=1e-2, epochs=40):
    return trained(registry.make(name), vector(10, (64, 64)).build(20, seed, np.float64), *prototypes(), lr=lr,
                   epochs=epochs, seed=seed)


def test_in_a_few_epochs_it_teaches_its_hidden_layers():
    assert prototypes_under("gevb", epochs=5) > prototypes_under("frozen", epochs=5) + 0.1


@pytest.mark.long
def test_bands_on_the_prototypes():
    found = [prototypes_under("gevb", seed) for seed in range(3)]
    print(found, prototypes_under("frozen"))
    assert np.mean(found) == pytest.approx(0.968, abs=0.05)

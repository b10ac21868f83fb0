from collections import Counter

import numpy as np
import pytest

from nplearn.columns import columns, rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import (
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    LeakyReLU,
    LocallyConnected2d,
    MaxPool2d,
    Normalise,
    ReLU,
    Sequential,
    Tanh,
    weighted,
)
from nplearn.losses import SquaredError
from nplearn.nets import make, normalised_mlp
from nplearn.rules import ForwardForward, Mixed, registry
from nplearn.testing.trial import NETS, N, Trial, dense_net, differ, ready, residual_net
from tests.gpu.conftest import device
from tests.gpu.test_parity import KINDS, compare
from tests.rules.smoke import prototypes, trained


def ff_net(seed=0):
    """Three hidden layers and a read-out, 12-9-8-7-4."""
    return ready(normalised_mlp(4, (9, 8, 7), Tanh), (12,), seed)


def ff_maps(seed=0):
    """The same of maps, with pooling: goodness is that of a whole map."""
    return ready(Sequential(conv=Conv2d(4, 3), act1=Tanh(), pool=MaxPool2d(2), norm1=Normalise(),
                            local=LocallyConnected2d(5, 2), act2=LeakyReLU(), norm2=Normalise(), flatten=Flatten(),
                            fc=Dense(3)), (6, 5, 2), seed)


def ff_norm(seed=0):
    """With BatchNorm, whose own parameters learn by goodness too."""
    return ready(Sequential(norm0=Normalise(), fc1=Dense(9), batch1=BatchNorm(), act1=Tanh(), norm1=Normalise(),
                            fc2=Dense(7), batch2=BatchNorm(), act2=LeakyReLU(), norm2=Normalise(), fc3=Dense(4)),
                 (11,), seed)


FF_NETS = {"dense": ff_net, "maps": ff_maps, "norm": ff_norm}


def trial(net=ff_net, seed=0, **options):
    made = Trial(net, lambda: ForwardForward(**{"scale": 1.0, **options}), seed)
    made.run()
    return made


def embedded(x, labels, C, copies=1, scale=1.0):
    """Rows of features with the label in front, written out; labels None for the neutral one."""
    x = x.copy()
    for n in range(len(x)):
        label = np.full(C, 1 / C) if labels is None else np.eye(C)[labels[n]]
        x[n, :C * copies] = np.tile(scale * label, copies)
    return x


def by_hand(net, x):
    """[(z, a, h)] of the hidden layers of an ff net of Tanh, from rows."""
    found = []
    for layer in weighted(net)[:-1]:
        z = x / (np.sqrt((x * x).mean(axis=1, keepdims=True)) + 1e-8)
        a = z @ layer.weight.value.T + layer.bias.value.T
        x = np.tanh(a)
        found.append((z, a, x))
    return found


def flat(labels):
    return rows(labels[:, None])[:, 0]


def goodness_loss(made, i):
    """Mean over 2 N of the binary cross-entropy of hidden layer i, its input held fixed by whoever asks."""
    x, C, total = rows(made.tape.input), made.net.out_shape[0], 0
    for labels, u in ((made.tape.labels, 1), (made.rule.wrong(made.tape), 0)):
        z, _, _ = by_hand(made.net, embedded(x, flat(labels), C))[i]
        layer = weighted(made.net)[i]
        h = np.tanh(z @ layer.weight.value.T + layer.bias.value.T)
        s = (h * h).sum(axis=1) - made.rule.theta * layer.n
        total += np.log1p(np.exp(-s if u else s)).sum()
    return total / (2 * N)


# -- the laws ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("theta", [0.3, 1.0])
def test_gradients_are_those_of_the_mean_binary_cross_entropy_of_goodness(theta):
    made = trial(theta=theta)
    gradients = made.assign()
    for i, layer in enumerate(weighted(made.net)[:-1]):
        for param in layer.params().values():
            v, start, found = np.random.default_rng(i).standard_normal(param.value.shape), param.value.copy(), {}
            for k in (-2, -1, 1, 2):
                param.value[...] = start + k * 1e-4 * v
                found[k] = goodness_loss(made, i)
            param.value[...] = start
            slope = (4 * (found[1] - found[-1]) / 2e-4 - (found[2] - found[-2]) / 4e-4) / 3
            assert (gradients[param.path] * v).sum() == pytest.approx(slope, rel=1e-9)


def test_a_layer_cannot_read_off_the_length_of_the_activity_below():
    def relu(seed):
        return ready(normalised_mlp(4, (9, 8, 7), ReLU), (12,), seed)
    plain, longer = trial(relu), trial(relu)
    first = weighted(longer.net)[0]
    first.weight.value *= 5                             # biases start at 0: h_1 is five times as long
    longer.run()
    found, wanted = longer.assign(), plain.assign()
    above = {path: g for path, g in wanted.items() if not path.startswith("fc1")}
    assert len(above) == 6 and not differ(found, above, 1e-6)               # 1e-8 guards the division by the length
    assert differ({"w": found["fc1.weight"]}, {"w": wanted["fc1.weight"]}, 0.1)


def test_with_nothing_to_tell_right_from_wrong_the_pair_pulls_goodness_to_its_threshold():
    made = trial(scale=0.0)                             # both passes see the same
    gradients = made.assign()
    x = embedded(rows(made.tape.input), None, 4, scale=0.0)
    for layer, (z, _, h) in zip(weighted(made.net), by_hand(made.net, x), strict=False):
        G = (h * h).sum(axis=1, keepdims=True)
        d = (1 - h * h) * 2 * h * (2 / (1 + np.exp(layer.n - G)) - 1) / (2 * N)
        assert np.allclose(gradients[layer.weight.path], d.T @ z, rtol=1e-12, atol=1e-15)
        assert np.allclose(gradients[layer.bias.path], d.sum(axis=0)[:, None], rtol=1e-12, atol=1e-15)
    layer, (_, _, h) = weighted(made.net)[0], by_hand(made.net, x)[0]
    one = trial(scale=0.0)
    one.run(rows=[0])
    one.rule.theta = (h[0] @ h[0]) / layer.n            # goodness of the one sample is the threshold
    assert abs(one.assign()["fc1.weight"]).max() < 1e-15


@pytest.mark.parametrize("net", FF_NETS)
def test_a_layers_gradient_is_to_the_bit_the_same_whatever_stands_above_it(net):
    plain, other = trial(FF_NETS[net]), trial(FF_NETS[net])
    rng, layers = np.random.default_rng(0), weighted(plain.net)
    for layer in weighted(other.net)[1:]:
        layer.weight.value += rng.standard_normal(layer.weight.value.shape)
    other.run()
    wanted, found = plain.assign(), other.assign()
    lowest = {path: g for path, g in wanted.items() if path.startswith((f"{layers[0].path}.", "batch1."))}
    assert len(lowest) >= 2 and all(g.any() for path, g in lowest.items()) and not differ(found, lowest)
    assert differ(found, {path: g for path, g in wanted.items() if path.startswith(f"{layers[1].path}.")}, 0.1)


@pytest.mark.parametrize("net", FF_NETS)
def test_layers_may_step_before_the_layers_above_have_learned(net):
    made = trial(FF_NETS[net])
    together = made.assign()
    top = weighted(made.net)[-1]
    assert all(g.any() for path, g in together.items() if path.endswith("weight"))
    assert differ(together, {path: 0 * g for path, g in together.items() if path != top.weight.path}, 1e-3)
    walk = made.tape.walk(exact=True)
    made.net.backward(walk.error, walk)
    assert not differ(together, {p.path: p.grad for p in top.params().values()})    # the read-out is backprop's


def test_predicting_label_by_label_is_one_batch_of_all_labels_and_knows_no_threshold():
    made = trial(skip=1)
    x, C = rows(made.tape.input), 4
    found = rows(made.rule.forward(made.tape.input))
    copies = embedded(np.repeat(x, C, axis=0), np.tile(np.arange(C), N), C)
    h = [h for _, _, h in by_hand(made.net, copies)]
    wanted = sum((a * a).sum(axis=1) for a in h[1:]).reshape(N, C)
    assert found.shape == (N, C) and np.allclose(found, wanted, rtol=1e-13)
    everything = sum((a * a).sum(axis=1) for a in h).reshape(N, C)
    assert np.allclose(rows(trial(skip=0).rule.forward(made.tape.input)), everything, rtol=1e-13)
    last = (h[-1] * h[-1]).sum(axis=1).reshape(N, C)
    assert np.allclose(rows(trial(skip=9).rule.forward(made.tape.input)), last, rtol=1e-13)
    assert np.array_equal(rows(trial(skip=1, theta=7.0).rule.forward(made.tape.input)), found)


def test_the_order_of_labels_in_a_prediction_is_that_of_the_classes():
    made = trial()
    found = rows(made.rule.forward(made.tape.input))
    for label in range(4):
        x = embedded(rows(made.tape.input), np.full(N, label), 4)
        h = [h for _, _, h in by_hand(made.net, x)]
        assert np.allclose(found[:, label], (h[1] ** 2).sum(axis=1) + (h[2] ** 2).sum(axis=1), rtol=1e-13)


# -- what it reads, and what it is told -------------------------------------------------------------------------------

@pytest.mark.parametrize("copies, scale", [(1, 1.0), (2, 3.0)])
def test_the_label_stands_in_front_before_anything_is_normalised(copies, scale):
    made = trial(copies=copies, scale=scale)
    x = rows(made.tape.input)
    z = rows(made.tape.seen(weighted(made.net)[0])[0])
    wanted = embedded(x, None, 4, copies, scale)
    assert np.allclose(z, wanted / (np.sqrt((wanted ** 2).mean(axis=1, keepdims=True)) + 1e-8), rtol=1e-13)


@pytest.mark.parametrize("net, shape", [(ff_net, (12,)), (ff_maps, (6, 5, 2))])
def test_the_users_batch_is_left_as_it_is(net, shape):
    made, inputs = trial(net), np.random.default_rng(0).normal(size=(N, *shape))
    kept = inputs.copy()
    made.tape.begin(inputs, np.zeros(N, int)).run(made.rule)
    made.assign()
    made.rule.forward(made.tape.input)
    assert np.array_equal(inputs, kept) and np.array_equal(rows(made.tape.input), kept)


def test_on_maps_the_label_takes_the_first_numbers_of_the_first_row():
    made = trial(ff_maps, copies=2)
    x, z = rows(made.tape.input), rows(made.tape.seen(weighted(made.net)[0])[0])
    stored = z.transpose(0, 1, 3, 2).reshape(N, -1), x.transpose(0, 1, 3, 2).reshape(N, -1)   # H, C, W
    assert np.allclose(stored[0][:, :6], 1 / 3) and np.array_equal(stored[0][:, 6:], stored[1][:, 6:])


def test_a_training_pass_is_the_neutral_one_and_inference_is_what_was_asked_for():
    made, reads = trial(), trial(predict="readout")
    x = columns(embedded(rows(made.tape.input), None, 4), made.tape.input.shape[-1])
    assert np.array_equal(made.tape.output, made.net.forward(x))
    assert np.array_equal(reads.rule.forward(reads.tape.input), reads.tape.output)
    assert not np.array_equal(made.rule.forward(made.tape.input), made.tape.output)


def test_wrong_labels_are_never_right_all_others_alike_and_new_at_every_step():
    made = trial()
    inputs, seen, C = np.ones((3000, 12)), [], 4
    labels = np.arange(3000) % C
    for step in range(2):
        made.tape.begin(inputs, labels, seed=(0, step)).run(made.rule)
        seen.append(flat(made.rule.wrong(made.tape)))
        counts = Counter(zip(labels.tolist(), seen[-1].tolist(), strict=True))
        assert len(counts) == C * (C - 1) and all(right != wrong for right, wrong in counts)
        assert max(abs(n - 250) for n in counts.values()) < 75
    assert 0.55 < (seen[0] != seen[1]).mean() < 0.75    # two in three
    assert np.array_equal(seen[1], flat(made.rule.wrong(made.tape.walk())))


@pytest.mark.parametrize("net", FF_NETS)
def test_how_the_batch_is_cut_changes_nothing(net):
    found = []
    for column_bytes in (0, 2**21):
        made = trial(FF_NETS[net])
        made.net.column_bytes = column_bytes
        made.run()
        assert (len(made.tape.input) == 1) == (column_bytes == 0)
        found.append(made.assign() | {"output": rows(made.rule.forward(made.tape.input))})
    assert not differ(*found, 1e-11)


@pytest.mark.parametrize("net", FF_NETS)
def test_float32_stays_float32_and_near(net):
    def single(seed):
        built, shape = FF_NETS[net](seed), {"dense": (12,), "maps": (6, 5, 2), "norm": (11,)}[net]
        return built.build(shape, seed, np.float32)
    found, wanted = trial(single), trial(FF_NETS[net])
    gradients = found.assign()
    assert all(g.dtype == np.float32 for g in gradients.values())
    assert found.rule.forward(found.tape.input).dtype == np.float32
    assert not differ({path: g.astype(float) for path, g in gradients.items()}, wanted.assign(), 1e-3)


@pytest.mark.parametrize("kind", FF_NETS)
@pytest.mark.parametrize(("on", "dtype"), [("plain", np.float64), ("kernels", np.float32)])
def test_a_step_on_a_device_ends_where_the_hosts_does(on, dtype, kind, monkeypatch):
    monkeypatch.setitem(KINDS, kind, FF_NETS[kind])
    crossed = compare("ff", kind, dtype, device(on, monkeypatch))
    assert crossed["put"] == 3 and crossed["float"] == 1            # inputs, labels, wrong labels; the loss


def test_huge_goodness_overflows_nowhere():
    made = trial(ff_net)
    for layer in weighted(made.net):
        layer.weight.value *= 1e6
    made.rule.theta = 1e6
    made.run()
    assert all(np.isfinite(g).all() for g in made.assign().values())


OTHERWISE = {"theta": 0.2, "predict": "readout", "skip": 0, "copies": 2, "scale": 2.0}


@pytest.mark.parametrize("options", [{"theta": 0.1}, OTHERWISE], ids=["plain", "otherwise"])
def test_the_contract(options, contract):
    report = contract(lambda: ForwardForward(**options), FF_NETS | {"residual": residual_net}, seeds=(0, 4))
    assert report.refused.keys() == {"residual"}
    assert report.count == 2 * (3 * 14 + 2)             # samples apart is judged on the two nets without BatchNorm


# -- what it refuses --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, says", [
    ({"predict": "both"}, "predict 'both'; expected goodness or readout"), ({"theta": -1}, "theta -1"),
    ({"skip": -1}, "skip -1"), ({"copies": 0}, "copies 0"), ({"scale": "1"}, "scale '1'")])
def test_options_are_checked(options, says):
    with pytest.raises(SettingError, match=f"ForwardForward: {says}"):
        ForwardForward(**options)


@pytest.mark.parametrize("net", ["dense", "stride", "map", "norm"])
def test_a_net_that_does_not_forget_the_length_of_activities_is_refused(net):
    with pytest.raises(BuildError, match="no nonlinearity and Normalise behind it; .*use the net ff"):
        ForwardForward().attach(NETS[net]())


@pytest.mark.parametrize("net, copies", [(lambda: Sequential(norm=Normalise(), fc=Dense(4)).build(9), 1),
                                         (lambda: normalised_mlp(4, (5,)).build(8), 2)])
def test_a_net_without_hidden_layers_or_without_room_for_the_label_is_refused(net, copies):
    with pytest.raises(BuildError, match="hidden layers on .* numbers; expected one or more, on more than"):
        ForwardForward(copies=copies).attach(net())


def test_a_linear_hidden_layer_is_refused():
    net = Sequential(fc1=Dense(5), norm=Normalise(), fc2=Dense(3)).build(9)
    with pytest.raises(BuildError, match="fc1: no nonlinearity"):
        ForwardForward().attach(net)


def test_targets_that_are_no_classes_are_refused():
    made = Trial(ff_net, ForwardForward, loss=SquaredError())
    made.tape.begin(np.ones((4, 12)), np.ones((4, 4))).run(made.rule)
    with pytest.raises(BuildError, match="ForwardForward: targets of float64; expected classes"):
        made.assign()


def test_it_has_the_walk_to_itself():
    with pytest.raises(BuildError, match="ForwardForward, which has a walk of its own"):
        Mixed({"*": ForwardForward()})


def test_the_net_of_that_name_is_an_mlp_with_a_normalise_in_front_of_each_dense_layer():
    net = make("ff", (6, 5, 1), 4, hidden=[7, 6], activation="tanh").build((6, 5, 1), 3, np.float64)
    assert net.names == ["flatten", "norm1", "fc1", "act1", "norm2", "fc2", "act2", "norm3", "fc3"]
    plain = make("mlp", (6, 5, 1), 4, hidden=[7, 6], activation="tanh").build((6, 5, 1), 3, np.float64)
    assert not differ({p.path: p.value for p in net.arena.params}, {p.path: p.value for p in plain.arena.params})
    registry.make("ff").attach(net)
    with pytest.raises(BuildError):
        registry.make("ff").attach(dense_net())


# -- it learns --------------------------------------------------------------------------------------------------------

def accuracy(seed=0, lr=1e-2, **how):
    """The label is told three times by 30 numbers in front of the 20."""
    train, test = ((np.hstack([np.zeros((len(x), 30)), x]), labels) for x, labels in prototypes())
    net = normalised_mlp(10, (64, 64)).build(50, seed, np.float64)
    return trained(ForwardForward(skip=0, copies=3, scale=1.0), net, train, test, lr=lr, seed=seed, **how)


def test_hidden_layers_learn_in_a_few_epochs():
    assert accuracy(lr=3e-2, epochs=12) > 0.85          # the last layer alone: .55 to .61 after 60


@pytest.mark.long
def test_prototypes_are_learned_to_the_published_band():
    assert abs(np.mean([accuracy(seed) for seed in range(3)]) - 0.97) < 0.05

import numpy as np
import pytest
from hypothesis import given

from nplearn.columns import rows
from nplearn.errors import BuildError, SettingError
from nplearn.feedback import Matrix
from nplearn.layers import BatchNorm, Dense, Dropout, ReLU, Sequential, Tanh, leaves, weighted
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.tape import Tape
from nplearn.testing.strategies import batch, nets, seeds

LOSS = SoftmaxCrossEntropy()


def begun(net, seed=0, n=12, mode="train"):
    return Tape(net, LOSS, mode).begin(*batch(net, seed, n), seed=seed)


def walked(net, tape, error=None):
    """The bits of (error at the input, every gradient) of one walk."""
    dx = net.backward(tape.error if error is None else error, tape)
    return [dx.tobytes(), *(p.grad.tobytes() for p in net.arena.params)]


def small():
    return Sequential(fc1=Dense(7), act1=Tanh(), drop=Dropout(0.4), fc2=Dense(6), norm=BatchNorm(), act2=ReLU(),
                      fc3=Dense(4)).build((5,), 1, np.float64)


@given(nets(), seeds())
def test_a_pass_fills_output_values_and_error(net, seed):
    x, labels = batch(net, seed, 8)
    tape = Tape(net, LOSS, "probe").begin(x, labels)
    value = tape.run()
    values, error = LOSS(tape.output, tape.labels)
    assert np.array_equal(values, tape.values) and np.array_equal(error, tape.error)
    assert value == pytest.approx(values.mean()) and tape.count == 8
    assert np.array_equal(rows(tape.labels), labels) and np.array_equal(rows(tape.input), x)
    assert np.array_equal(rows(tape.target), np.eye(net.out_shape[0])[labels])


@given(nets(), seeds())
def test_two_passes_do_not_disturb_each_other(net, seed):
    tape, other = begun(net, seed, mode="probe"), begun(net, seed + 1, mode="probe")
    tape.run()
    first = walked(net, tape)
    other.run()
    assert walked(net, other) != first
    assert walked(net, tape) == first


@given(nets(), seeds())
def test_gradients_are_assigned_at_the_first_visit_of_a_walk(net, seed):
    tape = begun(net, seed, mode="probe")
    tape.run()
    first = walked(net, tape)
    net.arena.grad[...] = 99
    for p in net.arena.params:
        p.grad[...] = 99
    assert walked(net, tape) == first


@given(nets(), seeds())
def test_begin_forgets_the_last_pass(net, seed):
    tape, fresh = begun(net, seed, mode="probe"), begun(net, seed + 1, 6, "probe")
    tape.run()
    walked(net, tape)
    tape.begin(*batch(net, seed + 1, 6), seed=seed + 1).run()
    fresh.run()
    assert all(len(values) == 1 for values in tape.kept.values())
    assert walked(net, tape) == walked(net, fresh)


def test_an_exact_walk_ignores_the_layers_feedback_and_the_other_does_not():
    net = small()
    tape = begun(net)
    tape.run()
    exact = walked(net, tape)
    rng = np.random.default_rng(0)
    for layer in weighted(net):
        layer.feedback = Matrix(layer.draw(rng))
    ours = walked(net, tape)
    assert ours != exact
    assert walked(net, tape.walk(exact=True)) == exact
    assert walked(net, tape) == ours
    top = [i for i, p in enumerate(net.arena.params, start=1) if p.path.startswith("fc3")]
    assert all(ours[i] == exact[i] for i in top)        # above every feedback nothing changes


def test_a_walk_that_collects_nothing_writes_no_gradient():
    net = small()
    tape = begun(net)
    tape.run()
    dx = net.backward(tape.error, tape).copy()
    net.arena.grad[...] = 5
    assert np.array_equal(net.backward(tape.error, tape.walk(collects=False)), dx)
    assert (net.arena.grad == 5).all()


def test_records_are_the_deltas_at_each_weighted_layer_top_visit_first():
    shared = Dense(6)
    net = Sequential(one=shared, act=Tanh(), two=shared, top=Dense(4)).build((6,), dtype=np.float64)
    tape = begun(net, n=3)
    tape.run()
    net.backward(tape.error, tape)
    assert tape.deltas == {}
    walk = tape.walk(records=True)
    net.backward(tape.error, walk)
    top = net.layers[-1]
    assert [len(walk.deltas[layer]) for layer in (top, shared)] == [1, 2]
    assert walk.deltas[top][0] is tape.error
    upper, lower = walk.deltas[shared]
    assert np.allclose(upper, top.weight.value.T @ tape.error, rtol=1e-13)
    y = tape.seen(net.layers[1])[0]
    assert np.allclose(lower, (shared.weight.value.T @ upper) * (1 - y * y), rtol=1e-13)
    x, middle = tape.seen(shared)
    wanted = (upper @ middle.swapaxes(1, 2) + lower @ x.swapaxes(1, 2)).sum(axis=0)
    assert np.allclose(shared.weight.grad, wanted, rtol=1e-12)              # both visits add
    tape.begin(*batch(net, 1, 3))
    assert tape.deltas == {} and tape.kept == {}


def test_seen_holds_before_during_and_after_a_walk():
    net = small()
    tape = begun(net)
    tape.run()
    before = {layer: [id(v) for v in tape.seen(layer)] for layer in leaves(net)}
    net.backward(tape.error, tape)
    assert before == {layer: [id(v) for v in tape.seen(layer)] for layer in leaves(net)}


def test_another_pass_has_the_same_draws_keeps_its_own_and_moves_nothing():
    net = small()
    tape = begun(net)
    tape.run()
    kept, mean = {k: list(v) for k, v in tape.kept.items()}, net.layers[4].mean.copy()
    again = tape.again()
    assert again.mode == "probe" and again.kept == {}
    again.run()
    assert np.array_equal(again.output, tape.output) and np.array_equal(net.layers[4].mean, mean)
    assert {k: list(map(id, v)) for k, v in kept.items()} == {k: list(map(id, v)) for k, v in tape.kept.items()}
    third = tape.again(mode="train")
    third.run()
    assert not np.array_equal(net.layers[4].mean, mean)


def test_draws_are_keyed_by_seed_path_visit_and_key():
    net = small()
    one, two = net.layers[0], net.layers[3]

    def draws(seed):
        tape = begun(net, seed)
        return [tape.rng(one).random(), tape.rng(two).random(), tape.rng(one, "a").random(), tape.rng(one).random(),
                [tape.keep(one, 0), tape.rng(one).random()][1]]
    first = draws(3)
    assert first[0] == first[3] and len(set(first)) == 4
    assert draws(3) == first and not set(draws(4)) & set(first)


@given(nets(norm=False), seeds())
def test_mode_matters_only_where_statistics_run(net, seed):
    outputs = []
    for mode in ("train", "probe"):
        tape = begun(net, seed, mode=mode)
        tape.run()
        outputs.append(tape.output.tobytes())
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("layer", [ReLU(), Dense(3), BatchNorm(), Dropout()])
def test_a_single_layer_is_a_net_that_may_be_walked_again(layer):
    net = layer.build((5,), dtype=np.float64)
    tape = Tape(net, mode="probe").begin(np.random.default_rng(0).standard_normal((4, 5)))
    y = net.forward(tape.input, tape)
    d = np.random.default_rng(1).standard_normal(y.shape)
    once = net.backward(d, tape).copy()
    assert np.array_equal(once, net.backward(d, tape))


def test_lists_are_taken_for_arrays():
    net = Dense(3).build((2,), dtype=np.float64)
    tape = Tape(net, LOSS).begin([[1, 2], [3, 4]], [0, 2])
    assert np.isfinite(tape.run())


# -- what is refused ---------------------------------------------------------------------------------------------------

def test_walking_down_before_the_pass_is_refused_with_the_layers_path():
    net = small()
    tape = begun(net)
    with pytest.raises(BuildError, match=r"fc3: .*run net.forward\(x, tape\) first"):
        net.backward(np.zeros((1, 4, 12)), tape)


def test_running_without_labels_or_loss_is_refused_and_old_labels_are_forgotten():
    net = small()
    x, labels = batch(net, 0, 4)
    with pytest.raises(BuildError, match="no loss"):
        Tape(net).begin(x, labels).run()
    tape = Tape(net, LOSS).begin(x, labels)
    tape.run()
    with pytest.raises(BuildError, match="no labels"):
        tape.begin(x).run()


@pytest.mark.parametrize("ask", ["walk", "again"])
def test_a_misspelt_setting_of_a_walk_is_refused(ask):
    tape = begun(small())
    with pytest.raises(SettingError, match="'exat'"):
        getattr(tape, ask)(exat=True)


def test_a_net_that_is_not_built_is_refused():
    with pytest.raises(BuildError, match="not built"):
        Tape(Sequential(Dense(3)), LOSS).begin(np.zeros((2, 5)), [0, 1])

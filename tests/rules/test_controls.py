import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.layers import weighted
from nplearn.optim import SGD, AdamW
from nplearn.rules import Backprop, Frozen, Shuffled
from nplearn.testing.trial import NETS, N, Trial, copies, differ, map_net, residual_net

DECAYING = [lambda arena: SGD(arena, 0.1, momentum=0.9, decay=0.1), lambda arena: AdamW(arena, 0.01, decay=0.1)]


@pytest.mark.parametrize("optimise", DECAYING)
@pytest.mark.parametrize("net", NETS)
def test_frozen_layers_stay_to_the_bit_under_decay_and_momentum_and_the_last_learns(net, optimise):
    trial = Trial(NETS[net], Frozen, optimise=optimise)
    before = {p.path: p.value.copy() for p in trial.net.arena.params}
    for step in range(10):
        trial.step(step)
    top = {p.path for p in weighted(trial.net)[-1].params().values()}
    assert not differ({p.path: p.value for p in trial.net.arena.params if p.path not in top},
                      {path: value for path, value in before.items() if path not in top})
    assert all(not np.array_equal(before[p.path], p.value) for p in weighted(trial.net)[-1].params().values())


def test_frozen_hidden_layers_get_no_gradient_and_no_input_product_is_computed():
    trial = Trial(residual_net, Frozen)
    for layer in weighted(trial.net):
        layer.adjoint = None
    trial.run()
    gradients = trial.assign()
    hidden = [p.path for layer in weighted(trial.net)[:-1] for p in layer.params().values()]
    assert hidden and not any(gradients[path].any() for path in hidden)


def test_what_frozen_returns_to_is_in_its_arrays():
    trial = Trial(map_net, Frozen)
    start = trial.rule.arrays()
    assert set(start) == {"conv.weight.start", "conv.bias.start", "local.weight.start", "local.bias.start"}
    for name, array in copies(start).items():
        assert not differ({name: trial.forward_state()[name.removesuffix(".start")]}, {name: array})


def dealt(trial):
    """{path: (exact error at the input of the layer, what Shuffled made of it, the delta)}, as rows."""
    found = {}
    for layer in trial.rule.layers:
        x = trial.tape.seen(layer)[0]
        d = np.random.default_rng(1).normal(size=(x.shape[0], *layer.out_shape, x.shape[-1]))
        exact = layer.adjoint(d, layer.weight.value, x.shape)
        found[layer.path] = rows(exact), rows(layer.feedback.carry(layer, d, x, trial.tape))
    return found


def order_of(exact, carried):
    """Which sample's error each sample got."""
    return [next(m for m in range(N) if np.array_equal(exact[m], carried[n])) for n in range(N)]


@pytest.mark.parametrize("net", ["dense", "residual"])
def test_shuffled_deals_every_sample_the_whole_error_of_another(net):
    trial, orders = Trial(NETS[net], Shuffled), {}
    for step in range(4):
        trial.run(step)
        for path, (exact, carried) in dealt(trial).items():
            orders[step, path] = order_of(exact, carried)
            assert sorted(orders[step, path]) == list(range(N))
    shuffles = list(map(tuple, orders.values()))
    assert len(shuffles) == 4 * len(trial.rule.layers) >= 8
    assert len(set(shuffles)) == len(shuffles) and tuple(range(N)) not in shuffles    # by layer and by step
    trial.run(0)
    assert {path: order_of(*pair) for path, pair in dealt(trial).items()} == {
        path: order for (step, path), order in orders.items() if step == 0}           # a function of the step's seed


def test_shuffled_gradients_are_not_backprops_but_for_the_last_layer():
    trial = Trial(map_net, Shuffled)
    trial.run()
    mine, true = trial.assign(), trial.backprop()
    for layer in weighted(trial.net):
        for p in layer.params().values():
            assert np.array_equal(mine[p.path], true[p.path]) == (layer.path == "fc"), p


def test_shuffled_over_one_sample_is_backprop():
    trial = Trial(map_net, Shuffled)
    trial.run(rows=[2])
    assert not differ(trial.assign(), trial.backprop())


@pytest.mark.parametrize("control", [Frozen, Shuffled])
def test_controls_fit_one_batch_less_well_than_backprop(control):
    def loss(rule):
        trial = Trial(map_net, rule, optimise=lambda arena: SGD(arena, 0.05, momentum=0.9))
        for _ in range(60):
            trial.step(0)
        return trial.run(0).values.mean()
    assert loss(Backprop) < 0.6 * loss(control)

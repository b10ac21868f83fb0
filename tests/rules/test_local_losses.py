import numpy as np
import pytest

from nplearn.columns import one_hot, rows
from nplearn.errors import BuildError, SettingError
from nplearn.layers import (
    Conv2d,
    Dense,
    Dropout,
    LeakyReLU,
    MaxPool2d,
    Port,
    Sequential,
    Tanh,
    holders,
    residuals,
    stages,
    weighted,
)
from nplearn.losses import SoftmaxCrossEntropy, SquaredError
from nplearn.nets import cifar_resnet
from nplearn.rules import EXACT_TOP, SAMPLES_APART, Backprop, LocalLosses, Mixed, registry
from nplearn.rules.heads import window
from nplearn.rules.similarity import mismatch
from nplearn.tape import Tape
from nplearn.testing.trial import NETS, N, Trial, copies, dense_net, differ, map_net, norm_net, ready, residual_net
from tests.rules.smoke import mlp, prototypes, trained

HEADS = ["pred", "sim", "predsim"]
CHAINS = {name: NETS[name] for name in ("dense", "stride", "map", "norm")}


def local(heads, net, seed=0, **options):
    """A Trial whose heads are moved off their start (V is zero there), after a pass."""
    trial = Trial(net, lambda: LocalLosses(heads, **options), seed)
    rng = np.random.default_rng(7)
    for param in trial.rule.params().values():
        param.value += 0.3 * rng.standard_normal(param.value.shape)
    trial.run()
    return trial


def test_a_share_that_is_a_number_of_numpys_leaves_float32_as_it_is():
    x = np.random.default_rng(0).normal(size=(6, 5))
    def gradients(beta):
        net = mlp(5, 7, 6, 3).build(5, 0, np.float32)
        rule = LocalLosses(beta=beta).attach(net, 3)
        tape = Tape(net, SoftmaxCrossEntropy()).begin(x, np.arange(6) % 3)
        tape.run(rule)
        walk = tape.walk(records=True)
        rule.assign(net, walk)
        assert {d.dtype.name for layer in weighted(net) for d in walk.deltas[layer]} == {"float32"}
        return {p.path: p.grad.copy() for p in net.arena.params}
    assert not differ(gradients(np.float64(0.99)), gradients(0.99))


def every_gradient(trial):
    return trial.assign() | {path: param.grad.copy() for path, param in trial.rule.params().items()}


def below(layer):
    """The start of the paths of the params that the layer's head teaches besides those of the stage below it."""
    return f"{layer.path}.head."


def value(trial, layer):
    """The layer's local loss for the values that weights and heads have now."""
    tape = trial.tape.again()
    tape.run(trial.net)
    x, total = tape.seen(layer)[0], 0
    for name, (head, share) in layer.feedback.heads.items():
        y = head.forward(x)
        total += share * (tape.loss(y, tape.labels) if name == "pred" else mismatch(y, tape.target))[0].mean()
    return total


def slope(function, array, v, h=1e-5):
    start, found = array.copy(), {}
    for k in (-2, -1, 1, 2):
        array[...] = start + k * h * v
        found[k] = function()
    array[...] = start
    return (4 * (found[1] - found[-1]) / (2 * h) - (found[2] - found[-2]) / (4 * h)) / 3


# -- the laws ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("net", CHAINS)
def test_gradients_of_weights_and_heads_are_those_of_the_local_loss(net, heads):
    trial = local(heads, CHAINS[net], beta=0.6)
    gradients, chain, checked = every_gradient(trial), stages(trial.net), 0
    params = {param.path: param for param in trial.net.arena.params} | trial.rule.params()
    for stage, above in zip(chain, chain[1:], strict=False):
        paths = [p.path for layer in stage.layers for p in layer.params().values()]
        paths += [path for path in trial.rule.params() if path.startswith(below(above.layer))]
        for path in paths:
            array, g = params[path].value, gradients[path]
            v = np.random.default_rng(3).standard_normal(g.shape)
            found = slope(lambda: value(trial, above.layer), array, v)  # noqa: B023
            assert abs(found - (g * v).sum()) < 2e-8 * np.sqrt((g * g).sum() * (v * v).sum()) + 1e-10, path
            checked += 1
    assert checked >= 2 * len(chain)


def test_the_first_step_of_pred_moves_no_hidden_layer_and_its_heads_as_a_softmax_layer():
    trial = Trial(dense_net, lambda: LocalLosses("pred"))
    trial.run()
    gradients = every_gradient(trial)
    tape, K = trial.tape, 4
    e = (1 / K - rows(one_hot(tape.labels, K, np.float64))) / N
    for layer in weighted(trial.net)[1:]:
        dV = e.T @ rows(tape.seen(layer)[0])
        assert abs(gradients[f"{layer.path}.head.pred.weight"] - dV).max() < 1e-15
        assert abs(gradients[f"{layer.path}.head.pred.bias"] - e.sum(axis=0)[:, None]).max() < 1e-15
    for layer in weighted(trial.net)[:-1]:
        assert not gradients[layer.weight.path].any() and not gradients[layer.bias.path].any()
    assert gradients["fc3.weight"].any()


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("net", NETS)
def test_no_weight_above_a_layer_and_no_other_layers_head_is_in_its_gradient(net, heads):
    """To the bit: the weights above and the heads of all other layers are others, before the pass."""
    plain, other = local(heads, NETS[net]), local(heads, NETS[net])
    served = [layer for layer in plain.rule.layers if hasattr(layer.feedback, "heads")]
    k = len(served) // 2
    mine, order = served[k].path, [layer.path for layer in weighted(plain.net)]
    rng = np.random.default_rng(1)
    for layer in weighted(other.net)[order.index(mine):]:
        if ".shortcut" not in layer.path:               # which stands beside the layers of its block, not above them
            layer.weight.value += rng.standard_normal(layer.weight.value.shape)
    for path, param in other.rule.params().items():
        if not path.startswith(f"{mine}.head."):
            param.value += rng.standard_normal(param.value.shape)
    other.run()
    found, wanted = every_gradient(other), every_gradient(plain)
    taught = weighted(plain.net)[order.index(mine) - 1].params().values()
    same = {path: g for path, g in wanted.items() if path.startswith(f"{mine}.head.") or path in
            [param.path for param in taught]}
    assert len(same) >= 2 and any(g.any() for g in same.values()) and not differ(found, same)
    assert differ({"top": found[f"{order[-1]}.weight"]}, {"top": wanted[f"{order[-1]}.weight"]})


@pytest.mark.parametrize("heads", HEADS)
def test_layers_may_step_one_by_one_inside_the_sweep_or_all_together(heads):
    """What a layer passes on was computed before it stepped: gradients are those of the kept activities alone."""
    trial = local(heads, norm_net)
    wanted = every_gradient(trial)
    for layer in weighted(trial.net):
        layer.weight.value -= 0.5 * layer.weight.grad
    assert not differ(every_gradient(trial), wanted)


@pytest.mark.parametrize("net", NETS)
def test_predsim_is_the_two_weighed_by_beta_and_so_is_what_the_last_layer_learns_from(net):
    beta, both = 0.8, local("predsim", NETS[net], beta=0.8)
    one = {heads: local(heads, NETS[net]) for heads in ("pred", "sim")}
    for trial in one.values():                          # the same heads
        for path, param in trial.rule.params().items():
            param.value[...] = both.rule.params()[path].value
    pred, sim, found = one["pred"].assign(), one["sim"].assign(), both.assign()
    top = {p.path for p in weighted(both.net)[-1].params().values()}
    wanted = {path: (1 - beta) * pred[path] + (0 if path in top else beta * sim[path]) for path in pred}
    assert not differ(found, wanted, 1e-12)


@pytest.mark.parametrize("heads", HEADS)
def test_a_batch_twice_has_the_batchs_gradient_and_only_pred_is_the_mean_of_two_halves(heads):
    trial = local(heads, dense_net)
    whole = every_gradient(trial)
    def of(which):
        trial.run(rows=which)
        return every_gradient(trial)
    assert not differ(of(np.tile(np.arange(N), 2)), whole, 1e-12)
    first, second = of(np.arange(N // 2)), of(np.arange(N // 2, N))
    off = max(np.linalg.norm(first[path] / 2 + second[path] / 2 - g) / np.linalg.norm(g) for path, g in whole.items()
              if not path.startswith("fc3"))
    assert off < 1e-12 if heads == "pred" else off > 0.1


# -- where the losses stand -------------------------------------------------------------------------------------------

def test_shortcuts_carry_nothing_and_their_layers_have_no_heads():
    trial = local("predsim", residual_net)
    blocks = residuals(trial.net)
    across = [holder for block in blocks for holder in holders(block.shortcut)]
    assert len(across) == 2 and all("nothing goes down" in holder.feedback.says for holder in across)
    assert not [path for path in trial.rule.params() if ".shortcut" in path]
    served = [layer for layer in weighted(trial.net)[1:] if layer not in across]
    assert all(layer.feedback.heads.keys() == {"pred", "sim"} for layer in served)


def test_a_shortcuts_convolution_learns_from_the_first_loss_above_its_block():
    trial = local("predsim", residual_net, beta=0.6)
    g = trial.assign()
    layer = weighted(residuals(trial.net)[1].shortcut)[0]
    v = np.random.default_rng(0).standard_normal(layer.weight.value.shape)
    wanted = slope(lambda: value(trial, weighted(trial.net)[-1]), layer.weight.value, v)
    assert (g[layer.weight.path] * v).sum() == pytest.approx(wanted, rel=1e-7)


def test_a_port_in_front_of_a_dropout_has_the_loss_there():
    def build(seed):
        return ready(Sequential(fc1=Dense(9), act=Tanh(), port=Port(), drop=Dropout(0.4), fc2=Dense(4)), (6,), seed)
    trial = local("predsim", build)
    port = trial.net.layers[2]
    trial.rule.attach(trial.net, 0, [port])
    assert {path.partition(".head.")[0] for path in trial.rule.params()} == {"port"}
    trial.rule.params()["port.head.pred.weight"].value[...] = 0.3
    trial.rule.follow(trial.optimiser)
    trial.run()
    g = trial.assign()
    v = np.random.default_rng(0).standard_normal(g["fc1.weight"].shape)
    wanted = slope(lambda: value(trial, port), trial.net.layers[0].weight.value, v)
    assert (g["fc1.weight"] * v).sum() == pytest.approx(wanted, rel=1e-7)


def test_heads_are_shaped_and_drawn_as_published():
    trial = Trial(map_net, lambda: LocalLosses("predsim", width=20))
    params = {path: param.value for path, param in trial.rule.params().items()}
    assert {path: array.shape for path, array in params.items()} == {
        "local.head.pred.weight": (3, 16), "local.head.pred.bias": (3, 1), "local.head.sim.weight": (4, 3, 3, 4),
        "fc.head.pred.weight": (3, 10), "fc.head.pred.bias": (3, 1), "fc.head.sim.weight": (10, 10)}
    for path, array in params.items():
        if "pred" in path:
            assert not array.any()
        else:
            bound = (array.size / len(array)) ** -0.5
            assert 0.8 * bound < abs(array).max() <= bound
    wide = Trial(map_net, lambda: LocalLosses("predsim")).rule.params()
    assert wide["local.head.pred.weight"].value.shape == (3, 3 * 4 * 2)


@pytest.mark.parametrize("shape, width, wanted", [
    ((8, 4, 8), 256, (1, 1)), ((8, 4, 8), 255, (2, 1)), ((8, 4, 8), 64, (2, 2)), ((8, 4, 8), 63, (4, 2)),
    ((7, 4, 5), 80, (2, 1)), ((7, 4, 5), 79, (2, 2)), ((1, 4, 9), 8, (8, 8)), ((3, 9, 2), 5, (4, 2))])
def test_a_map_is_pooled_in_height_and_then_in_width_until_its_head_can_read_it(shape, width, wanted):
    assert window(shape, width) == wanted


def test_the_seed_draws_p_and_no_head_depends_on_another_layer():
    one, same, other = (Trial(dense_net, LocalLosses, seed, net_seed=0).rule.arrays() for seed in (0, 0, 1))
    assert not differ(one, same)
    assert not np.array_equal(one["fc2.head.sim.weight"], other["fc2.head.sim.weight"])
    alike = LocalLosses("sim").attach(mlp(6, 5, 5, 5, 3), 0).arrays()
    assert not np.array_equal(alike["fc2.head.sim.weight"], alike["fc3.head.sim.weight"])
    net = dense_net()
    alone = LocalLosses().attach(net, 0, [weighted(net)[2]]).arrays()
    assert alone.keys() == {path for path in one if path.startswith("fc3.")} and not differ(one, alone)


# -- it keeps the contract, in any precision and cut ------------------------------------------------------------------

@pytest.mark.parametrize("heads", HEADS)
def test_the_contract(heads, contract):
    report = contract(lambda: registry.make(heads), seeds=(4,))
    assert report.count == 5 * 15 + 3 and not report.refused


def test_the_contract_with_options_and_another_loss(contract):
    small = {"dense": dense_net, "map": map_net}
    for options in {"heads": "predsim", "beta": 0.5, "width": 12}, {"heads": "pred", "width": 12}:
        made = contract(lambda: LocalLosses(**options), small, seeds=(5,), loss=SquaredError())  # noqa: B023
        assert made.count == 32


def test_claims_follow_the_heads():
    assert {heads: ({EXACT_TOP, SAMPLES_APART} & LocalLosses(heads).claims, LocalLosses(heads).drawn)
            for heads in HEADS} == {"pred": ({EXACT_TOP, SAMPLES_APART}, False), "sim": ({EXACT_TOP}, True),
                                    "predsim": (set(), True)}


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("net", NETS)
def test_how_the_batch_is_cut_changes_nothing(net, heads):
    found = []
    for column_bytes in (0, 2**21):
        trial = local(heads, NETS[net])
        trial.net.column_bytes = column_bytes
        trial.run()
        assert (len(trial.tape.input) == 1) == (column_bytes == 0)
        found.append(every_gradient(trial))
    assert not differ(*found, 1e-10)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("net", NETS)
def test_float32_stays_float32_and_near(net, heads):
    def single(seed):
        built = NETS[net](seed)
        return built.build(tuple(np.array(rows(np.zeros((1, *built.in_shape, 1))).shape[1:])), seed, np.float32)
    wide, narrow = local(heads, NETS[net]), local(heads, single)
    found, wanted = every_gradient(narrow), every_gradient(wide)
    assert all(g.dtype == np.float32 for g in found.values())
    assert not differ({path: g.astype(float) for path, g in found.items()}, wanted, 1e-2)


def test_a_dead_layer_trains_on_without_a_number_that_is_none():
    trial = local("predsim", dense_net)
    trial.net.layers[2].weight.value[...] = 0
    trial.net.layers[2].bias.value[...] = 0
    trial.run()
    assert all(np.isfinite(g).all() for g in every_gradient(trial).values())


def test_a_resnet_learns_in_every_layer():
    net = cifar_resnet(8).build((9, 10, 3), 1, np.float64)
    rule = LocalLosses().attach(net, 0)
    trial = Trial(lambda seed: net, lambda: rule)
    for step in range(2):
        trial.step(step)
    assert all(p.grad.any() for p in net.arena.params if p.kind == "weight") and rule.state.grad.any()
    assert not any(holder.feedback.carry(holder, np.ones(2), np.ones(2), None).any()
                   for block in residuals(net) for holder in holders(block.shortcut))


def test_the_walk_may_be_repeated_and_one_that_collects_nothing_moves_no_heads_gradient():
    trial = local("predsim", map_net)
    wanted = every_gradient(trial)
    trial.rule.state.grad.fill(3)
    trial.net.backward(trial.tape.error, trial.tape.walk(collects=False))
    assert (trial.rule.state.grad == 3).all()
    assert not differ(every_gradient(trial), wanted)


def test_heads_learn_by_a_twin_of_the_forward_optimiser():
    trial = local("predsim", dense_net)
    before = copies(trial.rule.arrays())
    trial.assign()
    grads = {path: param.grad.copy() for path, param in trial.rule.params().items()}
    trial.rule.learn(trial.net, trial.tape)
    for path, param in trial.rule.params().items():     # the first step of SGD with lr 0.05 and decay 0.02
        wanted = before[path] - 0.05 * (grads[path] + 0.02 * before[path])
        assert grads[path].any() and np.allclose(param.value, wanted, rtol=1e-12, atol=1e-15)


# -- what it refuses --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, says", [
    ({"heads": "both"}, "heads 'both'; expected predsim or pred or sim"),
    ({"beta": 1.0}, "beta 1.0; expected a number "),
    ({"beta": 0}, "beta 0"), ({"beta": "1"}, "beta '1'"), ({"width": 0}, "width 0"), ({"width": 1.5}, "width 1.5")])
def test_options_are_checked(options, says):
    with pytest.raises(SettingError, match=f"LocalLosses: {says}"):
        LocalLosses(**options)


def test_a_net_without_one_axis_of_outputs_and_a_layer_on_maps_of_two_sizes_are_refused():
    with pytest.raises(BuildError, match="a net whose output is"):
        LocalLosses().attach(Sequential(a=Conv2d(3, 3), act=Tanh(), b=Conv2d(2, 3)).build((4, 5, 2)))
    twice = Conv2d(3, 3)
    net = Sequential(first=Conv2d(3, 1), a=twice, act=Tanh(), pool=MaxPool2d(2), b=twice, act2=Tanh(),
                     fc=Sequential(*map_net().layers[-2:])).build((4, 6, 2))
    with pytest.raises(BuildError, match=r"a: inputs of .* and, at another place, .*; expected one shape"):
        LocalLosses().attach(net)


def test_it_has_the_walk_to_itself():
    with pytest.raises(BuildError, match="LocalLosses, which has a walk of its own"):
        Mixed({"fc3": Backprop(), "*": LocalLosses()})


# -- it learns --------------------------------------------------------------------------------------------------------

def accuracy(heads, lr, seed=0, **how):
    train, test = prototypes()
    net = mlp(20, 64, 64, 10, activation=LeakyReLU, seed=seed)
    return trained(LocalLosses(heads), net, train, test, lr=lr, seed=seed, **how)


@pytest.mark.parametrize("heads", HEADS)
def test_hidden_layers_learn_in_a_few_epochs(heads):
    assert accuracy(heads, lr=1e-2, epochs=8) > 0.85    # the last layer alone: .55 to .61 after 60


@pytest.mark.long
@pytest.mark.parametrize("heads, lr, band", [("pred", 3e-3, 0.96), ("sim", 1e-3, 0.94), ("predsim", 3e-3, 0.965)])
def test_prototypes_are_learned_to_the_published_band(heads, lr, band):
    assert abs(np.mean([accuracy(heads, lr, seed) for seed in range(3)]) - band) < 0.05

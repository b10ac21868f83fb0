import numpy as np
import pytest
from hypothesis import given, settings

from nplearn.columns import batch_shape
from nplearn.errors import SettingError
from nplearn.layers import (
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    LocallyConnected2d,
    Residual,
    Sequential,
    Tanh,
    Transposed,
    weighted,
)
from nplearn.losses import SquaredError
from nplearn.optim import SGD, AdamW, MultiStep
from nplearn.rules import KolenPollack, ProductFeedbackAlignment
from nplearn.tape import Tape
from nplearn.testing.strategies import seeds
from nplearn.testing.trial import (
    NETS,
    Trial,
    angle,
    common_factor,
    copies,
    dense_net,
    differ,
    map_net,
    ready,
    residual_net,
)

LR = MultiStep(0.02, {15: 0.3, 30: 2.0}, unit="steps")
DECAY = MultiStep(0.05, {20: 0.2}, unit="steps")
PATHS = ["direct", "collapsed"]


def pfa(**options):
    return lambda: ProductFeedbackAlignment(**options)


def all_kinds(seed=0):
    """A convolution, one with groups and a stride, a locally connected layer, dense ones; BatchNorm."""
    return ready(Sequential(conv=Conv2d(4, 3), norm=BatchNorm(), act=Tanh(), grouped=Conv2d(6, 3, stride=2, groups=2),
                            act2=Tanh(), local=LocallyConnected2d(3, 2), act3=Tanh(), flatten=Flatten(), fc=Dense(7),
                            act4=Tanh(), out=Dense(5)), (5, 6, 2), seed)


def errors(trial, mask=False):
    """R - B' W of every layer, on R's mask if asked."""
    found = {}
    for layer in trial.rule.layers:
        aim = layer.widen(layer.weight.value, layer.feedback.lift)
        found[layer.path] = layer.feedback.lower.value - (aim * layer.feedback.mask if mask else aim)
    return found


def trained(net, steps, factory, optimise, **how):
    trial = Trial(net, factory, optimise=optimise)
    before = errors(trial, **how)
    for step in range(steps):
        trial.step(step)
    return trial, before, errors(trial, **how)


def assert_shrunk(after, before, c, tolerance=1e-12):
    for path, E in before.items():
        assert abs(after[path] - c * E).max() <= tolerance * abs(E).max(), (path, c)


# -- the law ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}], ids=str)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("net", [all_kinds, residual_net], ids=["all kinds", "residual"])
def test_r_minus_b_w_is_one_factor_times_its_start(net, path, how):
    _, before, after = trained(net, 40, pfa(expand=3, path=path), lambda arena: SGD(arena, LR, decay=DECAY, **how))
    c = common_factor(40, LR, DECAY, **how)
    assert 0.4 < c < 0.99 and len(before) >= 5
    assert_shrunk(after, before, c)


def test_decoupled_decay_keeps_the_law_and_adamw_breaks_it():
    _, before, after = trained(map_net, 40, pfa(expand=3),
                               lambda a: SGD(a, LR, momentum=0.9, decay=DECAY, decoupled=True))
    assert_shrunk(after, before, common_factor(40, LR, DECAY, decoupled=True))
    _, before, after = trained(map_net, 40, pfa(expand=3), lambda a: AdamW(a, LR, decay=DECAY))
    with pytest.raises(AssertionError):
        assert_shrunk(after, before, common_factor(40, LR, DECAY, decoupled=True), 0.05)


@pytest.mark.parametrize("path", PATHS)
def test_with_sparse_r_the_law_holds_on_its_mask_and_off_it_r_is_zero(path):
    trial, before, after = trained(all_kinds, 40, pfa(expand=4, density=0.3, path=path),
                                   lambda a: SGD(a, LR, momentum=0.9, decay=DECAY), mask=True)
    assert_shrunk(after, before, common_factor(40, LR, DECAY, 0.9))
    for layer in trial.rule.layers:
        off = layer.feedback.mask == 0
        assert off.any() and not layer.feedback.lower.value[off].any() and layer.feedback.lower.grad[off].any()


def test_masks_are_drawn_once_for_b_and_r_apart_and_b_makes_up_for_its_own():
    net = Sequential(a=Dense(40), b=Dense(30)).build((50,), dtype=np.float64)
    ProductFeedbackAlignment(expand=8, density=0.3).attach(net, 0)
    for layer in weighted(net):
        f = layer.feedback
        assert (f.lift != 0).mean() == pytest.approx(0.3, abs=0.02) == (f.mask != 0).mean()
        assert set(np.unique(f.mask)) == {0, 1}
        n, N = f.lift.shape
        assert abs(f.lift).max() <= np.sqrt(3 / (0.3 * N))
        assert np.trace(f.lift @ f.lift.T) / n == pytest.approx(1, rel=4 * (5 / f.lift.size) ** 0.5)     # 4 sigma
        dense = ProductFeedbackAlignment(expand=8).attach(net, 0).arrays()[f"{layer.path}.lower"]
        ProductFeedbackAlignment(expand=8, density=0.3).attach(net, 0)
        assert np.sqrt((f.lower.value ** 2).mean() / 0.3) == pytest.approx(dense.std(), rel=0.05)   # R's is not made up
    trial = Trial(dense_net, pfa(expand=4, density=0.3))
    before = {path: array for path, array in copies(trial.rule.arrays()).items() if not path.endswith("lower")}
    for step in range(10):
        trial.step(step)
    assert not differ(trial.rule.arrays(), before) and sum(path.endswith("mask") for path in before) == 3


def linear_kinds():
    """(layer, shape of its input) by name, each built."""
    cases = {"dense": (Dense(5), (7,)), "conv": (Conv2d(4, 3, stride=2), (5, 6, 3)),
             "groups": (Conv2d(6, 3, groups=2), (4, 5, 4)),
             "local": (LocallyConnected2d(3, (2, 3), stride=2), (5, 4, 2))}
    for name, (layer, shape) in cases.items():
        yield name, Sequential(layer).build(shape, dtype=np.float64).layers[0]
        if name != "groups":
            net = Sequential(layer, turned=Transposed(layer)).build(shape, dtype=np.float64)
            yield f"{name} turned", net.layers[1]


@settings(max_examples=5, deadline=None)
@given(seeds())
def test_mixing_deltas_and_mixing_matrices_are_the_same(seed):
    rng, checks = np.random.default_rng(seed), 0
    for name, layer in linear_kinds():
        feedback = ProductFeedbackAlignment(expand=3)
        feedback.net = layer
        layer.dtype, layer.device = np.dtype(np.float64), None
        feedback.put = np.asarray
        path = feedback.feedback(layer, rng)
        B, R = path.lift, path.lower.value
        x = rng.normal(size=(2, *layer.in_shape, 3))
        d = rng.normal(size=batch_shape(layer.out_shape, x))
        for one, two in ((layer.outer(x, layer.mix(d, B)), layer.widen(layer.outer(x, d), B)),
                         (layer.adjoint(layer.mix(d, B), R, x.shape), layer.adjoint(d, layer.widen(R, B.T), x.shape))):
            assert one.shape == two.shape, name
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-12 * abs(two).max())
            checks += 1
    assert checks == 14


@pytest.mark.parametrize("net", [all_kinds, residual_net], ids=["all kinds", "residual"])
def test_the_gradient_of_r_is_that_of_w_mixed(net):
    for path in PATHS:
        trial = Trial(net, pfa(expand=3, path=path))
        trial.step(0)
        for layer in trial.rule.layers:
            wanted = layer.widen(layer.weight.grad, layer.feedback.lift)
            np.testing.assert_allclose(layer.feedback.lower.grad, wanted, rtol=0, atol=1e-12 * abs(wanted).max())
            assert wanted.any()


@pytest.mark.parametrize("net", [all_kinds, dense_net], ids=["all kinds", "dense"])
def test_both_paths_train_alike(net):
    one, two = (Trial(net, pfa(expand=3, path=path)) for path in PATHS)
    for step in range(50):
        one.step(step)
        two.step(step)
    assert not differ(two.state(), one.state(), 1e-10)
    assert differ(one.state(), net_state(net), 0.1)     # it did train


def net_state(net):
    return Trial(net, pfa(expand=3)).state()


def test_the_path_is_chosen_by_its_cost():
    def chosen(layers, shape, batch):
        net = Sequential(*layers).build(shape)
        ProductFeedbackAlignment(expand=10, batch=batch).attach(net)
        return weighted(net)[-1].feedback.collapsed
    dense, maps = [Dense(512), Dense(512)], [Conv2d(64, 3), Conv2d(64, 3)]
    assert not chosen(dense, (3,), 352) and chosen(dense, (3,), 354)            # equal at 353 samples
    assert chosen(maps, (8, 8, 1), 2) and not chosen(maps, (1, 1, 1), 63)       # equal at 64 positions


# -- limits -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{"expand": 1, "lift": "orthogonal"}, {"expand": 3, "lift": "orthogonal"},
                                     {"expand": 1, "lift": "identity"}], ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_aligned_with_orthonormal_rows_every_delta_is_backprops_for_a_hundred_steps(options, path):
    trial = Trial(map_net, pfa(lower="aligned", path=path, **options),
                  optimise=lambda arena: SGD(arena, 0.02, momentum=0.9, decay=0.01))
    checks = 0
    for step in range(100):
        trial.run(step)
        mine, true = trial.tape.walk(records=True), trial.tape.walk(records=True, exact=True)
        for walk in mine, true:
            trial.net.backward(walk.error, walk)
        for layer, (delta,) in true.deltas.items():
            assert abs(mine.deltas[layer][0] - delta).max() <= 1e-11 * abs(delta).max(), (step, layer.path)
            checks += 1
        trial.step(step)
    assert checks == 300


@pytest.mark.parametrize("net", ["map", "residual"])
def test_with_the_identity_in_between_it_is_kolen_pollack(net):
    one = Trial(NETS[net], pfa(expand=1, lift="identity", path="direct"))
    two = Trial(NETS[net], KolenPollack)
    for layer in two.rule.layers:                       # the same first draw, and R of the lowest layer is PFA's alone
        assert np.array_equal(one.rule.arrays()[f"{layer.path}.lower"], layer.feedback.matrix.value)
    for step in range(30):
        one.step(step)
        two.step(step)
    assert not differ(one.forward_state(), two.forward_state(), 1e-12)
    assert not differ({layer.path: layer.feedback.lower.value for layer in one.rule.layers if layer.sends},
                      {layer.path: layer.feedback.matrix.value for layer in two.rule.layers}, 1e-12)


def test_the_lowest_layer_has_a_path_that_learns_and_drives_nothing():
    trial = Trial(dense_net, pfa(expand=2))
    lowest = weighted(trial.net)[0]
    assert trial.rule.layers == weighted(trial.net) and not lowest.sends
    before = lowest.feedback.lower.value.copy()
    lowest.adjoint = None
    trial.step(0)
    assert not np.array_equal(lowest.feedback.lower.value, before)


# -- how it starts ----------------------------------------------------------------------------------------------------

def started(n, m, **options):
    """The one dense layer of m inputs and n outputs, fresh."""
    net = Sequential(a=Dense(m), b=Dense(n)).build((2,), dtype=np.float64)
    ProductFeedbackAlignment(**options).attach(net, 0)
    return weighted(net)[1]


def test_eigenvalues_of_b_b_lie_where_marchenko_and_pastur_say():
    B = started(512, 2).feedback.lift
    assert B.shape == (512, 5120)
    values = np.linalg.eigvalsh(B @ B.T)
    least, most = (1 - 10 ** -0.5) ** 2, (1 + 10 ** -0.5) ** 2
    assert least - 0.01 < values[0] < least + 0.03 and most - 0.06 < values[-1] < most + 0.01
    assert values.mean() == pytest.approx(1, abs=0.005) and values.std() == pytest.approx(10 ** -0.5, abs=0.005)


@pytest.mark.parametrize("n, m", [(64, 98), (100, 100), (10, 512)])
def test_the_path_starts_at_a_right_angle_with_the_known_norm(n, m):
    layer = started(n, m)
    path, W = layer.feedback.effective(layer), layer.weight.value
    assert np.linalg.norm(path) / np.linalg.norm(W) == pytest.approx(((n + m) / (10 * n + m)) ** 0.5, rel=0.05)
    assert angle(path, W) == pytest.approx(90, abs=4 * 57.3 / W.size ** 0.5)


def test_a_convolution_starts_with_the_same_ratio():
    net = Sequential(a=Conv2d(32, 1), b=Conv2d(32, 3)).build((3, 3, 1), dtype=np.float64)
    ProductFeedbackAlignment().attach(net, 0)
    layer = weighted(net)[1]
    ratio = np.linalg.norm(layer.feedback.effective(layer)) / np.linalg.norm(layer.weight.value)
    assert ratio == pytest.approx((64 / 352) ** 0.5, rel=0.05)


@pytest.mark.parametrize("expand, degrees", [(1, 45.0), (2, 35.26), (5, 24.09), (10, 17.55), (20, 12.6)])
def test_the_limit_of_the_path_has_the_known_angle_and_norm(expand, degrees):
    layer = started(200, 300, expand=expand, lower="aligned")          # R = B' W, where the rule ends
    path, W = layer.feedback.effective(layer), layer.weight.value
    assert angle(path, W) == pytest.approx(degrees, abs=0.4)
    assert np.linalg.norm(path) / np.linalg.norm(W) == pytest.approx((1 + 1 / expand) ** 0.5, rel=0.01)
    np.testing.assert_allclose(path, layer.feedback.lift @ layer.feedback.lift.T @ W, rtol=0, atol=1e-13)


def test_a_sparse_path_ends_at_the_known_angle_and_norm():
    layer = started(200, 300, density=0.3)
    f, W, n, N = layer.feedback, layer.weight.value, 200, 2000
    f.lower.value[...] = f.mask * layer.widen(W, f.lift)
    q = (1.8 / 0.09 - 1 + (n - 1) / 0.3) / N
    path = f.effective(layer)
    assert angle(path, W) == pytest.approx(np.degrees(np.arccos((1 + q) ** -0.5)), abs=0.6)
    assert np.linalg.norm(path) / np.linalg.norm(W) == pytest.approx(0.3 * (1 + q) ** 0.5, rel=0.02)


@pytest.mark.parametrize("groups", [1, 2])
def test_pfa_o_mixes_by_an_orthogonal_matrix_of_one_block_for_each_group(groups):
    net = Sequential(a=Conv2d(4, 1), b=Conv2d(6, 3, groups=groups)).build((3, 3, 1), dtype=np.float64)
    ProductFeedbackAlignment(expand=1, lift="orthogonal").attach(net, 0)
    B = weighted(net)[1].feedback.lift
    np.testing.assert_allclose(B @ B.T, np.eye(6), rtol=0, atol=1e-14)
    assert (B[:3, 3:] == 0).all() == (B[3:, :3] == 0).all() == (groups == 2)
    assert ProductFeedbackAlignment(expand=2).attach(net, 0).arrays()["b.lower"].shape == (12, 3, 3, 4 // groups)


@pytest.mark.parametrize("options, found", [
    ({"lift": "ortho"}, "lift 'ortho'; expected random or orthogonal or identity"),
    ({"lower": "zero"}, "lower 'zero'; expected random or aligned"),
    ({"path": "short"}, "path 'short'; expected auto or direct or collapsed"),
    ({"expand": 0.5}, "expand 0.5"), ({"lift": "identity"}, "expand 10, .* lift identity"),
    ({"density": 0}, "density 0"), ({"density": 1.5}, "density 1.5")])
def test_bad_settings_are_refused(options, found):
    with pytest.raises(SettingError, match=f"ProductFeedbackAlignment: .*{found}"):
        ProductFeedbackAlignment(**options)


def test_the_published_net_has_the_published_number_of_feedback_parameters():
    net = Sequential(a=Dense(512), b=Dense(512), c=Dense(10)).build((784,))
    assert sum(array.size for array in ProductFeedbackAlignment().attach(net).arrays().values()) == 11_930_600


@pytest.mark.parametrize("first, branch, shortcut, shape", [
    (Dense(4), Dense(4), Dense(4), (5,)), (Conv2d(4, 3), Conv2d(4, 3), Conv2d(4, 1), (5, 5, 2))])
def test_paths_that_end_in_one_sum_learn_from_their_own_lift(first, branch, shortcut, shape):
    """Branch and shortcut get the very same error; dR = B' dW holds for each with its own B."""
    net = Sequential(first, Residual(branch, shortcut=shortcut)).build(shape, dtype="float64")
    rule = ProductFeedbackAlignment(expand=2, path="direct").attach(net, 0)
    tape, rng = Tape(net, SquaredError()), np.random.default_rng(0)
    tape.begin(rng.normal(size=(8, *shape)), rng.normal(size=(8, *shape[:-1], 4)))
    tape.run()
    rule.assign(net, tape)
    for layer in rule.layers:
        assert np.allclose(layer.feedback.lower.grad, layer.widen(layer.weight.grad, layer.feedback.lift), atol=1e-12)


def test_options_of_numpy_are_those_of_python():
    how = {"expand": 3, "density": 0.5, "batch": 64}
    wide = {name: {int: np.int64, float: np.float64}[type(x)](x) for name, x in how.items()}
    def build(seed):
        return Sequential(fc1=Dense(6), act=Tanh(), fc2=Dense(5), act2=Tanh(), fc3=Dense(4)).build(7, seed, np.float32)
    one, two = (Trial(build, pfa(**options)) for options in (how, wide))
    for trial in one, two:
        trial.step(0)
    assert not differ(two.state(), one.state()) and all(x.dtype == np.float32 for x in two.state().values())
    assert {name: type(getattr(two.rule, name)) for name in how} == {name: type(x) for name, x in how.items()}

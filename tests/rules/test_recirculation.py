"""Recirculation: where it goes, how fast, and what is left of the noise of its drive."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplearn.columns import columns
from nplearn.layers import Conv2d, Dense, LocallyConnected2d, Sequential, Transposed
from nplearn.optim import SGD
from nplearn.params import Arena, Param
from nplearn.rules import Reciprocal
from nplearn.rules.recirculation import largest, recirculate
from nplearn.testing.strategies import seeds
from nplearn.testing.trial import differ

SHAPES = [(6, 10), (10, 6), (8, 8)]                     # outputs, inputs: contracting, expanding, square


def spectrum(m, n, seed=0, low=0.5, high=2.0):
    """(m, n) with singular values from low to high."""
    rng, k = np.random.default_rng(seed), min(m, n)
    U, V = (np.linalg.qr(rng.normal(size=(a, k)))[0] for a in (m, n))
    return U * np.linspace(low, high, k) @ V.T


def dense(W):
    """A dense layer with that weight, which sends."""
    m, n = W.shape
    net = Sequential(low=Dense(n), high=Dense(m)).build(3, 0, np.float64)
    net.layers[1].weight.value[...] = W
    return net.layers[1]


LAYERS = {"dense": lambda: [Dense(9), Dense(5)],
          "conv": lambda: [Conv2d(2, 1), Conv2d(3, 3, stride=2, padding=((0, 1), (1, 2)))],
          "groups": lambda: [Conv2d(4, 1), Conv2d(6, (2, 3), groups=2)],
          "wide kernel": lambda: [Conv2d(2, 1), Conv2d(3, 15)],
          "local": lambda: [Conv2d(2, 1), LocallyConnected2d(3, 3, stride=2, padding=((0, 1), (1, 2)))]}


def sender(kind, seed=0):
    """(net, its second layer) on a small map; (8, 6, 2) comes in."""
    low, high = LAYERS[kind]()
    shape = (7,) if kind == "dense" else (8, 6, 2)
    return Sequential(low=low, high=high).build(shape, seed, np.float64), high


def attached(net, **how):
    return Reciprocal(**{"rescale": "none", "lam": 0, **how}).attach(net, 1)


def white(n):
    """All units one at a time: exactly white."""
    return columns(np.eye(n) * n ** 0.5)


def basis(layer, net):
    rule = attached(net)
    return rule.drives[layer].whole, layer.feedback.uses


def run(layer, X, steps, V=None, uses=1, momentum=0.0, **how):
    V = Param(np.zeros_like(layer.weight.value) if V is None else V.copy())
    optimiser, start = SGD(Arena([V]), 1.0, momentum), np.ones(np.prod(layer.out_shape))
    for _ in range(steps):
        V.grad[...] = -recirculate(layer, V.value, X, start, uses, **{"relative": False, **how})[0]
        optimiser.step()
    return V.value


def tikhonov(W, lam):
    return W.T @ np.linalg.inv(W @ W.T + lam * np.eye(len(W)))


def relative(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


# -- where recirculation goes -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", SHAPES)
def test_white_drive_leads_to_the_tikhonov_inverse(shape):
    W = spectrum(*shape)
    V = run(dense(W), white(shape[1]), 20 * 16, eta=1 / 4, lam=0.1)
    assert relative(V.T, tikhonov(W, 0.1)) < 1e-8


@pytest.mark.parametrize("shape", SHAPES)
def test_without_decay_it_ends_in_the_four_conditions_of_penrose(shape):
    W = spectrum(*shape)
    B = run(dense(W), white(shape[1]), 20 * 16, eta=1 / 4, lam=0).T
    for found, wanted in ((W @ B @ W, W), (B @ W @ B, B), ((W @ B).T, W @ B), ((B @ W).T, B @ W)):
        assert abs(found - wanted).max() < 1e-8


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bound_on_eta_is_two_over_s_squared_and_lam(shape):
    W, bound = spectrum(*shape), 2 / 4.1
    assert relative(run(dense(W), white(shape[1]), 3000, eta=0.95 * bound, lam=0.1).T, tikhonov(W, 0.1)) < 1e-8
    assert np.linalg.norm(run(dense(W), white(shape[1]), 3000, eta=1.05 * bound, lam=0.1)) > 1e6


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rate_that_is_not_given_knows_lam(shape):
    W = spectrum(*shape)
    assert relative(run(dense(W), white(shape[1]), 200, lam=20).T, tikhonov(W, 20)) < 1e-8


def test_momentum_raises_the_bound():
    W = spectrum(6, 10)
    V = run(dense(W), white(10), 2000, eta=1.8 * 2 / 4.1, lam=0.1, momentum=0.9)
    assert relative(V.T, tikhonov(W, 0.1)) < 1e-8


@pytest.mark.parametrize("shape", SHAPES)
def test_from_zero_the_map_is_harmless_at_every_step(shape):
    W = spectrum(*shape, low=0.05)
    layer, V = dense(W), np.zeros(shape)
    for _ in range(50):
        V = run(layer, white(shape[1]), 1, V, eta=0.25, lam=0)
        P = W @ V.T
        assert abs(P - P.T).max() < 1e-12
        assert -1e-12 <= np.linalg.eigvalsh(P).min() and np.linalg.eigvalsh(P).max() <= 1 + 1e-12


def test_a_random_start_is_forgotten_but_where_the_layer_expands_without_decay():
    rng = np.random.default_rng(3)
    for m, n in SHAPES:
        W, V0 = spectrum(m, n), rng.normal(size=(m, n))
        found = run(dense(W), white(n), 600, V0, eta=0.25, lam=0).T
        kept = np.linalg.pinv(W) + V0.T @ (np.eye(m) - W @ np.linalg.pinv(W))
        assert relative(found, kept) < 1e-8
        assert (relative(found, np.linalg.pinv(W)) < 1e-8) == (m <= n)
        assert relative(run(dense(W), white(n), 1500, V0, eta=0.25, lam=0.1).T, tikhonov(W, 0.1)) < 1e-8


def test_another_drive_leads_to_the_inverse_that_its_covariance_weights():
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(5, 40)), rng.normal(size=(4, 5))
    C = x @ x.T / 40
    wanted = C @ W.T @ np.linalg.inv(W @ C @ W.T + 0.3 * np.eye(4))
    assert relative(run(dense(W), x[None], 4000, eta=None, lam=0.3).T, wanted) < 1e-10


def test_a_layer_that_keeps_everything_is_inverted_under_any_drive():
    rng = np.random.default_rng(1)
    x, W = rng.normal(size=(6, 50)), spectrum(9, 6)
    assert relative(run(dense(W), x[None], 4000, lam=0).T, np.linalg.pinv(W)) < 1e-10


@pytest.mark.parametrize("kind", LAYERS)
def test_the_first_step_of_exactly_white_drive_copies_w(kind):
    net, layer = sender(kind)
    X, uses = basis(layer, net)
    V = run(layer, X, 1, uses=uses, eta=0.3, lam=0)
    assert differ({"V": V}, {"V": 0.3 * layer.weight.value * (uses > 0)}, 1e-13) == ""
    assert np.all(uses > 0) == (kind in ("dense", "conv", "groups"))    # of the others some weights meet padding alone


@pytest.mark.parametrize("kind", LAYERS)
def test_uses_count_how_often_a_weight_meets_the_map(kind):
    net, layer = sender(kind)
    _, uses = basis(layer, net)
    W, counted = layer.weight.value, np.zeros(layer.weight.value.shape)
    one = np.ones((1, 8, 6, net.layers[0].n) if layer.spatial else (1, 9))
    for i in np.ndindex(W.shape):
        unit = np.zeros_like(W)
        unit[i] = 1
        counted[i] = layer.apply(columns(one), unit).sum()
    assert np.array_equal(uses * np.ones_like(W), counted)


def of_its_kind(layer, lam):
    """The best inverse that the layer's kind has, by normal equations over unit weights."""
    W, size = layer.weight.value, int(np.prod(layer.in_shape))
    X = columns(np.eye(size).reshape(size, *np.array(layer.in_shape)[[0, 2, 1]]))
    full = layer.apply(X, W).reshape(-1, size)                          # outputs x inputs
    P = []
    for i in range(W.size):
        unit = np.zeros(W.size)
        unit[i] = 1
        P.append(layer.apply(X, unit.reshape(W.shape)).reshape(-1, size).T)
    P = np.array(P)
    PW = np.einsum("iab,bc->iac", P, full)
    A = np.einsum("iab,jab->ij", PW, PW) + lam * np.einsum("iab,jab->ij", P, P)
    return np.linalg.lstsq(A, np.einsum("iaa->i", PW), rcond=1e-13)[0].reshape(W.shape), np.linalg.norm(full, 2)


@pytest.mark.parametrize("kind", ["conv", "local", "groups"])
def test_maps_learn_the_best_inverse_of_their_kind_under_the_same_bound(kind):
    low, high = LAYERS[kind]()
    net = Sequential(low=low, high=high).build((6, 4, 2), 0, np.float64)
    X, uses = basis(high, net)
    wanted, s = of_its_kind(high, 0.2)
    V = run(high, X, 600, uses=uses, eta=0.95 * 2 / (s ** 2 + 0.2), lam=0.2)
    assert relative(V, wanted) < 1e-9


def test_of_a_locally_connected_layer_every_input_unit_is_inverted_from_those_that_see_it():
    net, layer = sender("local")
    X, uses = basis(layer, net)
    V = run(layer, X, 400, uses=uses, lam=0.3)
    size = X.shape[-1] * len(X)
    eye = columns(np.eye(size).reshape(size, 8, 6, 2))
    full, back = (layer.apply(eye, W).reshape(-1, size) for W in (layer.weight.value, V))
    for i in range(size):
        S = full[:, i] != 0
        assert relative(back[S, i], np.linalg.solve(full[S] @ full[S].T + 0.3 * np.eye(S.sum()), full[S, i])) < 1e-9


@settings(max_examples=15, deadline=None)
@given(seeds(), st.integers(2, 9), st.integers(2, 9))
def test_a_full_window_is_a_dense_layer(seed, m, n):
    rng, W = np.random.default_rng(seed), spectrum(m, n * 2, seed % 99)
    V0, found = rng.normal(size=W.shape), []

    for high in (Conv2d(m, (1, n), padding="valid"), LocallyConnected2d(m, (1, n), padding="valid")):
        net = Sequential(low=Conv2d(2, 1), high=high).build((1, n, 2), 0, np.float64)
        shape = high.weight.value.shape
        high.weight.value[...] = W.reshape(shape)       # taps times channels, as columns
        X, uses = basis(high, net)
        found.append(run(high, X, 5, V0.reshape(shape), uses, lam=0.1).reshape(W.shape))
    wanted = run(dense(W), white(2 * n), 5, V0, lam=0.1)
    assert all(abs(V - wanted).max() < 1e-12 * abs(wanted).max() for V in found)


def test_a_turned_layer_learns_the_inverse_of_its_own_map():
    low = Dense(6)
    Sequential(low=low).build(9, 0, np.float64)
    net = Sequential(first=Dense(6), high=Transposed(low)).build(4, 0, np.float64)
    layer = net.layers[1]
    X, uses = basis(layer, net)
    V = run(layer, X, 4000, lam=0.1)
    assert relative(V, tikhonov(layer.weight.value.T, 0.1)) < 1e-8     # its own W is the map's transpose


# -- how fast, how noisy ----------------------------------------------------------------------------------------------

def glorot(n, m, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (m, n)) * (6 / (n + m)) ** 0.5


def test_power_iteration_finds_s_squared_from_below():
    rng = np.random.default_rng(0)
    for n, m in ((784, 256), (256, 128), (64, 10), (50, 50)):
        W = glorot(n, m)
        found = largest(W, rng.standard_normal(m)) / np.linalg.norm(W, 2) ** 2
        assert 0.8 < found <= 1 + 1e-12                 # so that eta stays below 1.25 / s^2, and the bound is 2 / s^2
    assert largest(np.zeros((3, 4)), np.ones(3)) == 0


def test_steps_to_an_inverse_are_those_of_its_slowest_mode():
    W, V, errors = glorot(64, 10), np.zeros((10, 64)), []
    s2 = np.linalg.svd(W)[1] ** 2
    for _ in range(40):
        V = run(dense(W), white(64), 1, V, eta=1 / s2.max(), lam=0)
        errors.append(relative(V.T, np.linalg.pinv(W)))
    for k in (5, 16, 40):
        wanted = np.sqrt(((1 - s2 / s2.max()) ** (2 * k) / s2).sum() / (1 / s2).sum())
        assert errors[k - 1] == pytest.approx(wanted, rel=1e-9)
    assert 5 <= next(k for k, e in enumerate(errors, 1) if e < 0.1) <= 10
    assert 10 <= next(k for k, e in enumerate(errors, 1) if e < 0.01) <= 24


def test_sampled_drive_keeps_a_noise_floor_and_the_whole_basis_none():
    W, rng, n, m, R = glorot(64, 10), np.random.default_rng(2), 64, 10, 128
    s2 = np.linalg.svd(W)[1] ** 2
    eta = 1 / (s2.max() + (s2.sum() + s2.max()) / R)
    layer, V, seen = dense(W), np.zeros((m, n)), []
    for step in range(400):
        V = run(layer, columns(rng.standard_normal((R, n))), 1, V, eta=eta, lam=0)
        seen += [relative(V.T, np.linalg.pinv(W))] * (step >= 100)
    floor = (eta * m * (n - m) / (2 * R * (1 / s2).sum())) ** 0.5
    assert 0.9 < np.sqrt(np.mean(np.square(seen))) / floor < 1.4 and floor > 0.3
    assert relative(run(layer, white(n), 100, eta=eta, lam=0).T, np.linalg.pinv(W)) < 1e-4

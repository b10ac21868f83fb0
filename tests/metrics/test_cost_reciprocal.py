"""Multiply-adds of reciprocal feedback and dynamic inversion, against closed forms, on a small dense net.

M weights in all, M' without the lowest layer, N samples, a layer of n inputs and m outputs; for a batch of N

    rf         N (2 M + M') + k sum 3 R n m                  k recirculations of R inputs; eta given
               + k sum 21 R m                                else: ten rounds of power iteration, and its value
    rf-sleep   the same with S in place of k, in the phase
    rf-exact   N (2 M + M') + sum (2 m^2 n + m^3 / 3)        a refresh, m the smaller side
               N (2 M + M') + sum (8 m^2 n + 4 m^3)          with lam=0: the pseudoinverse
    di         N (2 M + 2 T M')                              dt given; else + 40 M'
    ndi        N (2 M + M') + sum (2 m^2 n + m^3 / 3)        K = (W B - alpha)^-T V once a batch, m the smaller side
    sdi        N (2 M + T (M' + n_1 K)) + 20 (M' + n_1 K)    its loop goes up through all W and down through one B

(of sdi the first product with B, of zeros, and that of the 20 turns' start go unseen: no array of the step is in them)
"""
import numpy as np
import pytest

from nplearn.layers import Tanh
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import cost
from nplearn.metrics.watch import Watch
from nplearn.nets import mlp
from nplearn.rules import registry

N, WIDE = 8, (30, 20, 12, 16, 10)
SIZES = [(n, m) for n, m in zip(WIDE, WIDE[1:], strict=False)]
M, SENDERS = sum(n * m for n, m in SIZES), SIZES[1:]
BELOW = sum(n * m for n, m in SENDERS)
PLAIN = N * (2 * M + BELOW)
SYSTEMS = sum(2 * min(s) ** 2 * max(s) + min(s) ** 3 // 3 for s in SENDERS)
TURN = BELOW + WIDE[1] * WIDE[-1]


def adds(name, **which):
    net = mlp(WIDE[-1], hidden=WIDE[1:-1], activation=Tanh).build(WIDE[0], 1)
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((N, WIDE[0])).astype(np.float32), rng.integers(WIDE[-1], size=N)
    found = cost(net, registry.make(name).attach(net, 1), SoftmaxCrossEntropy(), *batch)
    return sum(counts.multiply_adds for part, counts in found.parts.items()
               if which.items() <= dict(zip(("phase", "layer", "operation"), part, strict=True)).items())


def recirculation(rows=None, power=True):
    return sum((rows or n) * (3 * n * m + 21 * m * power) for n, m in SENDERS)


@pytest.mark.parametrize("name, wanted", [
    ("rf:eta=0.1", PLAIN + recirculation(power=False)),
    ("rf:eta=0.1,steps=3,rows=5", PLAIN + 3 * recirculation(5, False)),
    ("rf", PLAIN + recirculation()), ("rf:drive=white,rows=7,steps=2", PLAIN + 2 * recirculation(7)),
    ("rf:drive=activity", PLAIN + recirculation(N) + N * M),            # a pass with the weights as they now are
    ("rf-sleep:sleep=4,wake=1", PLAIN + 4 * recirculation()), ("rf-sleep:wake=2", PLAIN),
    ("rf-exact", PLAIN + SYSTEMS), ("rf-exact:refresh=2", PLAIN),
    ("rf-exact:lam=0", PLAIN + sum(8 * min(s) ** 2 * max(s) + 4 * min(s) ** 3 for s in SENDERS)),
    ("ndi", PLAIN + SYSTEMS),
    ("di:dt=0.5,steps=7", N * (2 * M + 2 * 7 * BELOW)), ("di:steps=7", N * (2 * M + 2 * 7 * BELOW) + 40 * BELOW)])
def test_multiply_adds(name, wanted):
    assert adds(name) == wanted


def test_phases_say_when_it_is_done():
    assert adds("rf", phase="learning") == recirculation() == adds("rf-sleep:sleep=1,wake=1", phase="offline")
    assert adds("di:dt=0.5,steps=7", phase="credit") == N * (M + 14 * BELOW)
    assert adds("rf-exact", phase="learning") == SYSTEMS and adds("ndi", phase="learning") == 0


def test_a_single_loop_goes_up_through_all_weights_and_down_through_one():
    unseen = (N + 1) * WIDE[1] * WIDE[-1]
    assert adds("sdi:steps=7", phase="forward") == N * M
    assert adds("sdi:steps=7", phase="credit") == N * (M + 7 * TURN) + 20 * TURN - unseen


A, TALL, STACK = np.eye(6) + 0.1, np.eye(6)[:, :4] + 0.1, 2 * np.eye(6) + np.zeros((5, 6, 6))


@pytest.mark.parametrize("call, a, wanted", [
    (lambda a: np.linalg.solve(a, np.ones((6, 4))), A, 72 + 36 * 4), (lambda a: np.linalg.solve(a, A[0]), A, 72 + 36),
    (lambda a: np.linalg.solve(a, np.ones((6, 4))), STACK, 5 * (72 + 36 * 4)),
    (np.linalg.inv, A, 216), (np.linalg.inv, STACK, 5 * 216),
    (np.linalg.eigvals, A, 1080), (np.linalg.eig, A, 2700),
    (lambda a: np.linalg.svd(a, compute_uv=False), TALL, 2 * 96 - 42), (np.linalg.svd, TALL, 7 * 96 + 256),
    (np.linalg.cond, TALL, 2 * 96 - 42), (np.linalg.cond, TALL.T, 2 * 96 - 42),
    (np.linalg.pinv, TALL, 8 * 96 + 256), (np.linalg.pinv, TALL.T, 8 * 96 + 256),
    (np.linalg.pinv, STACK, 5 * (8 * 216 + 4 * 216))])
def test_linear_algebra_is_counted_by_the_published_formulas(call, a, wanted):
    watch = Watch()
    found, plain = call(watch.see(a.copy())), call(a)
    for x, y in zip(found, plain, strict=True) if isinstance(plain, tuple) else [(found, plain)]:
        assert np.array_equal(x, y)
    assert [note[2:4] for note in watch.notes] == [("product", wanted)]

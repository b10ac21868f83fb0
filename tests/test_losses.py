import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.columns import columns, rows
from nplearn.errors import BuildError
from nplearn.layers import Conv2d, Dense
from nplearn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError
from nplearn.tape import Tape
from nplearn.testing.strategies import chunkings, dtypes, noise, seeds
from tests.helpers import agree, close, tensor

LOSSES = [SoftmaxCrossEntropy(), SquaredError(), SigmoidCrossEntropy()]
TARGETS = [SquaredError(), SigmoidCrossEntropy()]


def drawn(seed, K, cut):
    T, nb = cut
    return noise(seed, (T * nb, K)) * 3, np.random.default_rng(seed).integers(0, K, T * nb)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@given(seeds(), st.integers(1, 7), chunkings())
def test_the_error_is_the_derivative_of_the_mean_value(loss, seed, K, cut):
    y, labels = (columns(v, cut[1]) for v in drawn(seed, K, cut))
    _, error = loss(y, labels)
    u, h = noise(seed + 1, y.shape), 1e-4
    at = {step: loss(y + step * h * u, labels)[0].mean() for step in (-2, -1, 1, 2)}
    numeric = (4 * (at[1] - at[-1]) / (2 * h) - (at[2] - at[-2]) / (4 * h)) / 3
    scale = max(1, np.linalg.norm(error) * np.linalg.norm(u), *map(abs, at.values()))
    assert abs(numeric - np.vdot(error, u)) < 1e-9 * scale


@given(seeds(), st.integers(1, 7), chunkings())
def test_values_are_those_of_the_formulas_a_sample_at_a_time(seed, K, cut):
    y, labels = drawn(seed, K, cut)
    s = 1 / (1 + np.exp(-y))
    hot = np.eye(K)[labels]
    wanted = {SoftmaxCrossEntropy: -np.log(np.exp(y) / np.exp(y).sum(axis=1, keepdims=True))[range(len(y)), labels],
              SquaredError: ((y - hot) ** 2).sum(axis=1) / 2,
              SigmoidCrossEntropy: -(hot * np.log(s) + (1 - hot) * np.log(1 - s)).sum(axis=1)}
    for loss in LOSSES:
        values, error = loss(columns(y, cut[1]), columns(labels, cut[1]))
        assert values.shape == cut and error.shape == (cut[0], K, cut[1])
        assert np.abs(rows(values) - wanted[type(loss)]).max() < 1e-10     # log(1 - s) loses digits as s nears 1


@pytest.mark.parametrize("loss", TARGETS, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("shape", [(5,), (4, 3, 2)])
def test_targets_like_the_output_are_taken_as_they_are(loss, shape):
    y, t = noise(0, (6, *shape)), np.random.default_rng(1).random((6, *shape))
    values, error = loss(columns(y, 2), columns(t, 2))
    s = 1 / (1 + np.exp(-y))
    axes = tuple(range(1, y.ndim))
    terms = (y - t) ** 2 / 2 if isinstance(loss, SquaredError) else -t * np.log(s) - (1 - t) * np.log(1 - s)
    wanted = terms.sum(axis=axes)
    close(rows(values), wanted, y.size, scale=10)
    close(rows(error), ((y if isinstance(loss, SquaredError) else s) - t) / 6, scale=10)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@given(dtypes(), chunkings())
def test_precision_is_kept_and_the_output_left_alone(loss, dtype, cut):
    y, labels = (columns(v, cut[1]) for v in drawn(3, 4, cut))
    y = y.astype(dtype)
    before = y.copy()
    values, error = loss(y, labels)
    assert values.dtype == error.dtype == loss.probability(y).dtype == dtype
    assert np.array_equal(y, before)


@pytest.mark.parametrize("loss", LOSSES[::2], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_outputs_overflow_nowhere(loss, dtype):
    y = np.array([[1e30, -1e30, 0.0], [-1e30, 1e30, 5.0], [1e4, 1e4, -1e4]], dtype)
    values, error = loss(columns(y), columns(np.array([0, 1, 2])))
    assert np.isfinite(values).all() and np.isfinite(error).all()
    assert rows(error)[0, 0] == 0 and np.abs(rows(error)).max() <= 1 / 3
    assert np.isfinite(loss.probability(columns(y))).all()


def test_probabilities_are_softmax_sigmoid_and_the_output_itself():
    y = noise(0, (4, 3))
    e = np.exp(y)
    close(rows(LOSSES[0].probability(columns(y, 2))), e / e.sum(axis=1, keepdims=True))
    close(rows(LOSSES[2].probability(columns(y, 2))), e / (1 + e))
    assert np.array_equal(rows(LOSSES[1].probability(columns(y, 2))), y)


@pytest.mark.parametrize("loss, labels, words", [
    (LOSSES[0], [0, 3, 1], "label 3 at position 1; expected 0 to 2"),
    (LOSSES[1], [0, 1, -1], "label -1 at position 2"),
    (LOSSES[2], [0, 1], r"shape \(2,\)"),
    (LOSSES[0], [[0], [1], [2]], r"shape \(3, 1\)"),
    (LOSSES[0], [0.0, 1.0, 2.0], "SoftmaxCrossEntropy takes class labels"),
    (LOSSES[1], np.zeros((3, 4)), r"expected \(3, 3\)"),
])
def test_labels_that_do_not_fit_are_refused(loss, labels, words):
    tape = Tape(Dense(3).build((5,)), loss)
    with pytest.raises(BuildError, match=words) as caught:
        tape.begin(np.zeros((3, 5)), labels)
    assert caught.value.where == "labels"


def test_targets_of_a_net_that_puts_out_maps_are_rows():
    net = Conv2d(3, 3).build((5, 4, 2), dtype=np.float64)
    x, t = noise(0, (6, 5, 4, 2)), noise(1, (6, 5, 4, 3))
    tape = Tape(net, SquaredError()).begin(x, t)
    assert tape.run() == pytest.approx(((net.predict(x) - t) ** 2).sum() / 2 / 6)
    close(rows(tape.error), (net.predict(x) - t) / 6)
    with pytest.raises(BuildError, match=r"expected \(6, 5, 4, 3\)"):
        tape.begin(x, t.transpose(0, 1, 3, 2))
    with pytest.raises(BuildError, match="end the net in one number per class"):
        tape.begin(x, np.zeros(6, int))


def test_targets_take_the_nets_precision():
    tape = Tape(Dense(3).build((5,), dtype=np.float32), SquaredError()).begin(noise(0, (4, 5)), noise(1, (4, 3)))
    tape.run()
    assert tape.error.dtype == tape.values.dtype == np.float32


@pytest.mark.torch
@given(seeds(), st.integers(2, 7), chunkings())
def test_losses_are_pytorchs(seed, K, cut):
    torch = pytest.importorskip("torch")
    y, labels = drawn(seed, K, cut)
    hot = tensor(torch, np.eye(K)[labels])
    F = torch.nn.functional
    twins = [lambda o: F.cross_entropy(o, torch.tensor(labels), reduction="none"),
             lambda o: F.mse_loss(o, hot, reduction="none").sum(dim=1) / 2,
             lambda o: F.binary_cross_entropy_with_logits(o, hot, reduction="none").sum(dim=1)]
    for loss, twin in zip(LOSSES, twins, strict=True):
        values, error = loss(columns(y, cut[1]), columns(labels, cut[1]))
        output = tensor(torch, y, True)
        wanted = twin(output)
        wanted.mean().backward()
        agree(rows(values), wanted)
        agree(rows(error), output.grad)

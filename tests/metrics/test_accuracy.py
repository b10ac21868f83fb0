"""Accuracy, top-k, confusion and evaluation against loops over the samples."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.data import Loader
from nplearn.data.dataset import DataSet
from nplearn.errors import BuildError
from nplearn.layers import BatchNorm, Conv2d, Dense, Dropout, Flatten, ReLU, Sequential
from nplearn.losses import SoftmaxCrossEntropy, SquaredError
from nplearn.metrics import accuracy, confusion, evaluate, top_k


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 9), st.data())
def test_counts_are_those_of_a_loop_over_the_samples(seed, n, classes, data):
    rng = np.random.default_rng(seed)
    outputs, labels = rng.standard_normal((n, classes)), rng.integers(classes, size=n)
    k = data.draw(st.integers(1, classes))
    right, among, table = 0, 0, [[0] * classes for _ in range(classes)]
    for output, label in zip(outputs.tolist(), labels.tolist(), strict=True):
        order = sorted(range(classes), key=lambda c: -output[c])
        right, among = right + (order[0] == label), among + (label in order[:k])
        table[label][order[0]] += 1
    assert accuracy(outputs, labels) == right / n
    assert top_k(outputs, labels, k) == among / n
    assert confusion(outputs, labels).tolist() == table


def test_ties_count_against_the_net_in_top_k():
    outputs = np.array([[2.0, 1, 1, 0], [1, 1, 1, 1]])
    assert top_k(outputs, np.array([1, 0]), 1) == 0
    assert top_k(outputs, np.array([1, 0]), 2) == 0     # the first label is one of three, the second one of four
    assert top_k(outputs, np.array([1, 0]), 3) == 0.5
    assert top_k(outputs, np.array([0, 3]), 4) == 1


def test_confusion_has_a_row_per_true_class():
    outputs, labels = np.eye(4)[[2, 2, 1]], np.array([0, 0, 3])
    table = confusion(outputs, labels)
    assert table[0, 2] == 2 and table[3, 1] == 1 and table.sum() == 3
    assert table.sum(axis=1).tolist() == [2, 0, 0, 1]


def images(n=23, classes=5, shape=(6, 5, 2), seed=0):
    rng = np.random.default_rng(seed)
    return DataSet("noise", "drawn", rng.integers(0, 256, (n, *shape), np.uint8), rng.integers(classes, size=n),
                   map(str, range(classes)), [0.5] * shape[2], [0.3] * shape[2])


def net_for(data):
    return Sequential(conv=Conv2d(4, 3), norm=BatchNorm(), act=ReLU(), drop=Dropout(0.5), flatten=Flatten(),
                      fc=Dense(len(data.classes))).build(data.inputs.shape[1:], 1, np.float64)


@pytest.mark.parametrize("batch", [1, 8, 23])
def test_evaluation_is_inference_over_every_record_once(batch):
    data = images()
    net = net_for(data)
    outputs = net.predict(data.normalised(data.inputs, np.float64))
    values = [math.log(sum(math.exp(y) for y in row)) - row[c]
              for row, c in zip(outputs.tolist(), data.labels.tolist(), strict=True)]
    found = evaluate(net, SoftmaxCrossEntropy(), Loader(data, batch, shuffle=False, dtype=np.float64), k=2)
    assert found["n"] == 23 and found["loss"] == pytest.approx(sum(values) / 23, rel=1e-12)
    assert found["accuracy"] == accuracy(outputs, data.labels) and found["top_k"] == top_k(outputs, data.labels, 2)
    assert (found["confusion"] == confusion(outputs, data.labels)).all()


def test_evaluation_changes_nothing():
    data = images()
    net = net_for(data)
    before = [net.arena.value.copy(), net.arena.grad.copy(), net.layers[1].mean.copy(), net.layers[1].variance.copy()]
    evaluate(net, SquaredError(), Loader(data, 7, dtype=np.float64))
    after = [net.arena.value, net.arena.grad, net.layers[1].mean, net.layers[1].variance]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))


def test_data_of_another_kind_is_refused_in_words():
    net = net_for(images())
    with pytest.raises(BuildError, match=r"input: a batch of shape \(9, 5, 6, 2\)"):
        evaluate(net, SoftmaxCrossEntropy(), Loader(images(shape=(5, 6, 2)), 9))
    with pytest.raises(BuildError, match="labels: label [56] at position .* 5 outputs"):
        evaluate(net, SoftmaxCrossEntropy(), Loader(images(classes=7), 23))

import numpy as np
import pytest

from nplearn.errors import BuildError
from nplearn.layers import (
    AKROUT,
    HE_FAN_IN,
    HE_FAN_OUT,
    LECUN_NORMAL,
    ORTHOGONAL,
    TORCH,
    XAVIER,
    ZERO,
    Conv2d,
    Dense,
)
from nplearn.layers.initial import orthogonal

FAN_IN, FAN_OUT = 30, 50


@pytest.mark.parametrize("law, std, edge", [
    (XAVIER, (2 / 80) ** 0.5, (6 / 80) ** 0.5), (TORCH, 90 ** -0.5, 30 ** -0.5), (HE_FAN_OUT, (2 / 50) ** 0.5, None),
    (HE_FAN_IN, (2 / 30) ** 0.5, None), (LECUN_NORMAL, 30 ** -0.5, None), (AKROUT, 80 ** -0.5, None)])
def test_laws_have_the_spread_of_their_papers(law, std, edge):
    drawn = law.draw(np.random.default_rng(0), (300, 400), FAN_IN, FAN_OUT)
    assert law.std(FAN_IN, FAN_OUT) == pytest.approx(std, rel=1e-14)
    assert abs(drawn.std() / std - 1) < 5 / np.sqrt(drawn.size) and abs(drawn.mean()) < 5 * std / np.sqrt(drawn.size)
    if edge:                                            # uniform: fills its interval and stays inside
        assert 0.999 * edge < np.abs(drawn).max() <= edge
    else:
        assert np.abs(drawn).max() > 3.5 * std


def test_zero_is_zero():
    assert not ZERO.draw(np.random.default_rng(0), (3, 4), 3, 4).any()


def test_fans_count_taps_times_channels_of_a_group():
    assert Conv2d(8, (3, 2), groups=2).build((6, 5, 4)).fans(8) == (12, 48)
    assert Dense(5).build((7,)).fans(5) == (7, 5)


@pytest.mark.parametrize("n, m", [(3, 7), (7, 3), (5, 5)])
def test_orthogonal_has_orthonormal_rows_or_columns(n, m):
    q = orthogonal(np.random.default_rng(0), n, m)
    assert q.shape == (n, m)
    product = q @ q.T if n <= m else q.T @ q
    assert np.abs(product - np.eye(min(n, m))).max() < 1e-14


@pytest.mark.parametrize("n, m", [(30, 70), (70, 30), (50, 50)])
def test_the_orthogonal_law_has_the_spread_it_says(n, m):
    W = Dense(n, init=ORTHOGONAL).build(m, 3, np.float64).weight.value
    product = W @ W.T if n <= m else W.T @ W
    assert abs(product - np.eye(min(n, m))).max() < 1e-14
    assert W.std() == pytest.approx(ORTHOGONAL.std(m, n), rel=0.05)


def test_orthogonal_kernels_are_refused():
    with pytest.raises(BuildError, match="orthogonal weights of shape .*; expected two axes, as in Dense"):
        Conv2d(4, 3, init=ORTHOGONAL).build((6, 5, 2))


@pytest.mark.torch
def test_torch_law_is_pytorchs_default():
    torch = pytest.importorskip("torch")
    bound = torch.nn.Linear(30, 4000).weight.abs().max().item()
    assert bound == pytest.approx(TORCH.std(30, 4000) * 3 ** 0.5, rel=1e-3) and TORCH.kind == "uniform"

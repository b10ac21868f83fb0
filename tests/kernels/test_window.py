import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.errors import SettingError
from nplearn.kernels import window as module
from nplearn.kernels.window import Window, pads_for, pair
from nplearn.layers import Conv2d
from tests.oracles.conv import pads_of

SMALL = st.integers(0, 3)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.tuples(SMALL, SMALL), st.integers(1, 3))
def test_a_tap_meets_exactly_the_inputs_that_counting_finds(n, kernel, stride, pads, dilation):
    window = Window((kernel, 1), (stride, 1), (pads, (0, 0)), (dilation, 1))
    reach = dilation * (kernel - 1) + 1
    starts = [s for s in range(-pads[0], n + pads[1]) if (s + pads[0]) % stride == 0 and s + reach <= n + pads[1]]
    assert max(0, window.out(n, n)[0]) == len(starts)
    if not starts:
        return
    for tap in range(kernel):
        wanted = [(o, s + tap * dilation) for o, s in enumerate(starts) if 0 <= s + tap * dilation < n]
        outputs, inputs = window.meets(0, tap, n)
        assert list(zip(range(n * 4)[outputs], range(n)[inputs], strict=True)) == wanted


def test_taps_come_row_by_row():
    window = Window((2, 3), (1, 1), ((0, 0), (0, 0)), (1, 1))
    assert [(i, j) for i, j, *_ in window.taps(5, 4)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_same_is_that_of_the_definition(H, W, kernel, stride, dilation):
    found = pads_for("same", H, W, pair(kernel), pair(stride), pair(dilation))
    assert found == pads_of("same", (H, W), pair(kernel), pair(stride), pair(dilation))


@pytest.mark.parametrize("wrong", [{"padding": "smae"}, {"padding": -1}, {"stride": 0}, {"kernel": 0}, {"dilation": 0},
                                   {"groups": 0}, {"kernel": 2.5}, {"n": 0}])
def test_settings_that_are_no_window_are_refused(wrong):
    with pytest.raises(SettingError, match=f"Conv2d: {next(iter(wrong))} "):
        Conv2d(**{"n": 2, "kernel": 3, **wrong})


def test_the_example_in_the_docstring_is_true():
    failed, ran = doctest.testmod(module)
    assert failed == 0 and ran > 0

"""Oracles: values worked out by hand; the documented limits of each schedule."""
import doctest
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.errors import SettingError
from nplearn.optim import Constant, Cosine, MultiStep, WarmUp, as_schedule, schedule, sgd

EVERY = [Constant(0.1), MultiStep(0.1, {2: 0.5, 7: 0.1}), MultiStep(1, {3: 0.5}, unit="steps"), Cosine(0.2, 10),
         Cosine(0.2, 10, 0.01, "steps"), Cosine(0.2, 10, 0.01), WarmUp(0.3, 5), WarmUp(0.3, 5, unit="epochs"),
         WarmUp(Cosine(1.0, 9), 4, start=0.2, unit="epochs")]


def test_constant_is_constant():
    assert [Constant(3)(s, e) for s, e in ((0, 0), (7, 2))] == [3.0, 3.0]


def test_multistep_multiplies_from_the_named_epoch_on():
    lr = MultiStep(0.01, {30: 0.5, 20: 0.5})
    assert [lr(10**6, e) for e in (0, 19, 20, 29, 30, 99)] == [0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]


def test_multistep_in_steps_ignores_the_epoch():
    lr = MultiStep(8, {2: 0.5, 4: 0.25}, unit="steps")
    assert [lr(s, 50) for s in range(6)] == [8, 8, 4, 4, 1, 1]


def test_decay_of_product_feedback_alignment_is_large_in_the_first_epoch_only():
    decay = MultiStep(0.03, {1: 0.003})
    assert decay(0, 0) == decay(936, 0) == 0.03
    assert decay(937, 1) == decay(10**5, 39) == pytest.approx(9e-5, rel=1e-15)


def test_cosine_by_hand():
    lr = Cosine(3.0, 6, final=1.0)
    expected = [3, 2 + math.sqrt(3) / 2, 2.5, 2, 1.5, 2 - math.sqrt(3) / 2, 1, 1]
    assert [lr(0, e) for e in range(8)] == pytest.approx(expected, rel=1e-15)
    assert Cosine(3.0, 6, 1.0, "steps")(2, 0) == pytest.approx(2.5, rel=1e-15)


def test_warm_up_by_hand():
    lr = WarmUp(0.4, 4)
    assert [lr(s, 9) for s in range(6)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4], rel=1e-15)
    lr = WarmUp(1.0, 2, start=0.5, unit="epochs")
    assert [lr(77, e) for e in range(4)] == [0.5, 0.75, 1, 1]


def test_warm_up_rises_towards_the_moving_value_of_its_schedule():
    lr = WarmUp(MultiStep(1.0, {2: 0.5, 4: 0.5}, unit="steps"), 4)
    assert [lr(s, 0) for s in range(6)] == [0, 0.25, 0.25, 0.375, 0.25, 0.25]


@given(st.integers(0, 10**6), st.integers(0, 300))
def test_warm_up_is_its_schedule_from_its_length_on(step, epoch):
    inner = Cosine(0.7, 90, 0.001)
    assert WarmUp(inner, 20, start=0.1)(step + 20, epoch) == inner(step + 20, epoch)        # to the bit


def test_length_zero_means_at_once():
    assert Cosine(1.0, 0, 0.25)(0, 0) == 0.25
    assert WarmUp(0.5, 0)(0, 0) == 0.5


@pytest.mark.parametrize("s", EVERY)
def test_values_are_python_floats(s):
    assert {type(s(step, epoch)) for step in (0, 3, 20) for epoch in (0, 3, 20)} == {float}


@pytest.mark.parametrize("s", EVERY)
def test_description_survives_json(s):
    assert json.loads(json.dumps(s.describe())) == s.describe()


def test_descriptions_tell_schedules_apart():
    assert len({json.dumps(s.describe()) for s in EVERY}) == len(EVERY)


def test_as_schedule_keeps_schedules_and_wraps_numbers():
    cosine = Cosine(1, 2)
    assert as_schedule(cosine) is cosine
    assert as_schedule(2).describe() == 2.0


@pytest.mark.parametrize("make", [
    lambda: MultiStep(1, {1: 0.5}, unit="batches"), lambda: Cosine(1, 5, unit=""), lambda: WarmUp(1, 5, unit=None),
    lambda: Cosine(1, -1), lambda: WarmUp(1, -3), lambda: Cosine(1, 2.5), lambda: MultiStep(1, {-1: 0.5}),
    lambda: MultiStep(1, {1.5: 0.5}), lambda: MultiStep(1, {1: "half"}), lambda: MultiStep("fast", {}),
    lambda: Constant(math.nan), lambda: Constant(True), lambda: as_schedule("0.1"), lambda: as_schedule(math.inf),
    lambda: WarmUp(None, 3), lambda: Cosine(1, 3, final=math.inf)])
def test_nonsense_is_refused(make):
    with pytest.raises(SettingError):
        make()


@pytest.mark.parametrize("module", [schedule, sgd])
def test_examples_in_docstrings_are_true(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0

"""The layer contract itself: each law is seen to fail on a layer that breaks it, and says so."""
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import find
from hypothesis.errors import NoSuchExample

from nplearn.errors import SettingError
from nplearn.layers import Dense, Layer
from nplearn.params import Param
from nplearn.testing import check_layer, strategies
from nplearn.testing.layer_laws import CONTRACT
from nplearn.testing.layer_run import Run
from nplearn.testing.layers import Report, checked
from nplearn.testing.strategies import Case


class Square(Layer):
    """y = x^2, as it should be; each fault below changes one method."""

    def forward(self, x, tape=None):
        if tape is not None:
            tape.keep(self, x)
        return x * x

    def backward(self, d, tape):
        return 2 * d * tape.take(self)

    def tangent(self, v, tape):
        return 2 * v * tape.take(self)


class Remembers(Square):
    def forward(self, x, tape=None):
        self.x = x
        return super().forward(x, tape)

    def backward(self, d, tape):
        return 2 * d * self.x


class Counts(Square):
    calls = 0

    def forward(self, x, tape=None):
        self.calls += 1
        return super().forward(x, tape)


class WritesToItsInput(Square):
    def forward(self, x, tape=None):
        y = super().forward(x, tape)
        x *= 1.5
        return y


class Random(Square):
    def forward(self, x, tape=None):
        return super().forward(x, tape) * np.random.default_rng().random()


class Promotes(Square):
    def forward(self, x, tape=None):
        return super().forward(x, tape).astype(np.float64)


class PromotesDown(Square):
    def backward(self, d, tape):
        return super().backward(d, tape) * np.ones(1)


class TangentOff(Square):
    def tangent(self, v, tape):
        return 1.000001 * super().tangent(v, tape)


class BackwardOff(Square):
    def backward(self, d, tape):
        return 1.00001 * super().backward(d, tape)


class WritesToTheError(Square):
    def backward(self, d, tape):
        d *= 2 * tape.take(self)
        return d


class CentresItsSamples(Square):
    def forward(self, x, tape=None):
        return x - x.mean(axis=-1, keepdims=True)


class BackwardCentres(Square):
    def backward(self, d, tape):
        return super().backward(d - d.mean(axis=0, keepdims=True), tape)


class CountsChunks(Square):
    def forward(self, x, tape=None):
        return super().forward(x, tape) * x.shape[0]


class AssumesOneChunk(Square):
    def backward(self, d, tape):
        return super().backward(d[:1] + 0 * d, tape)


class ReadsMemoryAsItLies(Square):
    def forward(self, x, tape=None):
        return super().forward(np.lib.stride_tricks.as_strided(x, x.shape, np.empty(x.shape, x.dtype).strides), tape)


class ClaimsThree(Square):
    def infer(self, in_shape):
        return (3,)


class DrawsAnew(Square):
    def make(self, ground):
        self.gain = Param(ground.put(np.random.default_rng().random(1)))

    def params(self):
        return {"gain": self.gain}


class ForgotTranspose(Dense):
    def adjoint(self, d, W, shape):
        return W @ d if W.shape[0] == W.shape[1] else W.T @ d


class ScalesOuter(Dense):
    def outer(self, x, d):
        return super().outer(x, d) / len(x)


class Affine(Dense):
    def apply(self, x, W):
        return W @ x + 1


class MixesDouble(Dense):
    def mix(self, d, B):
        return 2 * super().mix(d, B)


class GradientOff(Dense):
    def over_bias(self, d):
        return super().over_bias(d) * 1.00001


class ForgetsItsFirstVisit(Dense):
    def collect(self, x, d, tape):
        tape._visited.discard(self.weight)
        super().collect(x, d, tape)


class CollectsAlways(Dense):
    def backward(self, d, tape):
        self.weight.grad[...] = self.outer(tape.seen(self)[-1], d)
        self.bias.grad[...] = self.over_bias(d)
        return super().backward(d, tape)


FAULTS = [
    ("three operators", partial(ForgotTranspose, 3)), ("three operators", partial(ScalesOuter, 4)),
    ("linear", partial(Affine, 4)), ("mix and widen", partial(MixesDouble, 4)),
    ("shapes and precision", Promotes), ("shapes and precision", PromotesDown),
    ("tangent transposes backward", TangentOff), ("tangent transposes backward", BackwardOff),
    ("derivatives", BackwardOff), ("derivatives", partial(GradientOff, 4)), ("used twice", Remembers),
    ("used twice", partial(ForgetsItsFirstVisit, 4)), ("pure passes", Counts), ("pure passes", WritesToItsInput),
    ("pure passes", Random), ("repeated walks", WritesToTheError), ("repeated walks", partial(CollectsAlways, 4)),
    ("samples apart", CentresItsSamples), ("samples apart", BackwardCentres), ("any cut", CountsChunks),
    ("any cut", AssumesOneChunk), ("any strides", ReadsMemoryAsItLies), ("wrong shapes refused", ClaimsThree),
    ("built alike", DrawsAnew),
]


def name(fault):
    return getattr(fault, "func", fault).__name__ if not isinstance(fault, str) else fault


@pytest.mark.parametrize("law, fault", FAULTS, ids=name)
def test_a_law_notices_the_layer_that_breaks_it(law, fault):
    run = Run(Case("Faulty()", fault, (3,)), (2, 4), np.float32 if "precision" in law else np.float64, 1, Report())
    says = rf"law broken, {law}: Faulty\(\) on \(3,\), batch cut 2 x 4, float.*, seed 1: "
    with pytest.raises(AssertionError, match=says):
        CONTRACT[law][1](partial(checked, run, law), run)


def test_every_law_has_a_fault_that_it_notices():
    assert {law for law, _ in FAULTS} == set(CONTRACT)


def test_a_sound_layer_passes_and_the_checks_are_counted():
    report = check_layer(Square, in_shapes=[(3,), (4, 3, 2)], examples=6)
    assert int(report) == sum(report.laws.values()) > 6 * 30
    assert set(report.laws) == {law for law, (applies, _) in CONTRACT.items() if "weighted" not in applies.__name__}
    assert report.layer == "Square" and report.examples == 6
    assert repr(report) == f"Square: {int(report)} checks of 11 laws in 6 examples"


def test_a_broken_layer_is_reported_with_law_layer_and_the_smallest_case():
    with pytest.raises(AssertionError, match="law broken, three operators: ForgotTranspose on") as caught:
        check_layer(lambda: ForgotTranspose(3), in_shapes=[(3,)], examples=20)
    assert "batch cut 1 x 1" in str(caught.value)


def test_what_a_layer_raises_is_reported_as_the_law_it_broke():
    class Raises(Square):
        def backward(self, d, tape):
            raise IndexError("no such thing")
    with pytest.raises(AssertionError, match="law broken, .*Raises.*IndexError: no such thing"):
        check_layer(Raises, in_shapes=[(3,)], examples=2)


def test_a_layer_that_cannot_run_at_all_is_reported_with_its_case():
    class Stops(Square):
        def forward(self, x, tape=None):
            raise IndexError("no such thing")
    with pytest.raises(AssertionError, match=r"Stops on \(3,\).*no pass: IndexError: no such thing"):
        check_layer(Stops, in_shapes=[(3,)], examples=2)


def test_a_layer_without_a_derivative_anywhere_does_not_pass_for_sound():
    class Rough(Square):
        def forward(self, x, tape=None):
            return super().forward(np.round(x * 3e4) / 3e4, tape)       # steps as wide as the differences reach
    with pytest.raises(AssertionError, match="derivative"):
        check_layer(Rough, in_shapes=[(3,)], examples=6)


def test_shapes_must_be_given_for_a_layer():
    with pytest.raises(SettingError, match="no in_shapes"):
        check_layer(Square)


def test_drawn_maps_are_never_square_and_their_channels_unlike_both_sides():
    for alike in (lambda s: s[0] == s[1], lambda s: s[2] in s[:2]):
        with pytest.raises(NoSuchExample):
            find(strategies.maps(), alike)


def test_without_hypothesis_the_contract_says_what_to_install():
    code = "import sys; sys.modules['hypothesis'] = None\ntry: import nplearn.testing\nexcept Exception as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'nplearn[test]'" in done.stdout, done.stdout + done.stderr

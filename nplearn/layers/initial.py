"""Laws from which weights are drawn: a shape of distribution and a standard deviation from fan-in and fan-out.

fan_in and fan_out count the weights that meet one output and one input (for a kernel: taps times channels). Feedback
matrices are drawn by the same law as the weight whose place they take.

    XAVIER          U, std sqrt(2 / (fan_in + fan_out))   Glorot and Bengio 2010; BioTorch and the PFA paper
    TORCH           U, std 1 / sqrt(3 fan_in)             PyTorch's default for linear and convolution
    HE_FAN_OUT      N, std sqrt(2 / fan_out)              He et al. 2015; sign-symmetry's ResNet-18
    HE_FAN_IN       N, std sqrt(2 / fan_in)
    LECUN_NORMAL    N, std 1 / sqrt(fan_in)
    AKROUT          N, std 1 / sqrt(fan_in + fan_out)     Akrout et al. 2019, small nets
    ORTHOGONAL      orthonormal rows or columns           Ahmad et al. 2020; of two-axis weights
    ZERO            0                                     Nokland 2016, tanh nets under DFA
"""
from math import prod, sqrt
from typing import NamedTuple

import numpy as np

from nplearn.errors import BuildError


class Law(NamedTuple):
    """`draw(rng, shape, fan_in, fan_out)` float64 on the host; `std(fan_in, fan_out)`."""

    name: str
    kind: str                                           # uniform, normal or orthogonal
    std: object

    def draw(self, rng, shape, fan_in, fan_out):
        s = self.std(fan_in, fan_out)
        if self.kind == "orthogonal":
            if len(shape) != 2:
                raise BuildError("init", f"orthogonal weights of shape {shape}", "two axes, as in Dense",
                                 "use another law")
            return orthogonal(rng, *shape)
        return rng.uniform(-s * sqrt(3), s * sqrt(3), shape) if self.kind == "uniform" else rng.normal(0, s, shape)


XAVIER = Law("xavier", "uniform", lambda fan_in, fan_out: sqrt(2 / (fan_in + fan_out)))
TORCH = Law("torch", "uniform", lambda fan_in, fan_out: 1 / sqrt(3 * fan_in))
HE_FAN_OUT = Law("he-fan-out", "normal", lambda fan_in, fan_out: sqrt(2 / fan_out))
HE_FAN_IN = Law("he-fan-in", "normal", lambda fan_in, fan_out: sqrt(2 / fan_in))
LECUN_NORMAL = Law("lecun", "normal", lambda fan_in, fan_out: 1 / sqrt(fan_in))
AKROUT = Law("akrout", "normal", lambda fan_in, fan_out: 1 / sqrt(fan_in + fan_out))
ORTHOGONAL = Law("orthogonal", "orthogonal", lambda fan_in, fan_out: 1 / sqrt(max(fan_in, fan_out)))
ZERO = Law("zero", "normal", lambda fan_in, fan_out: 0.0)
LAWS = {law.name: law for law in (XAVIER, TORCH, HE_FAN_OUT, HE_FAN_IN, LECUN_NORMAL, AKROUT, ORTHOGONAL, ZERO)}


def orthogonal(rng, n, m):
    """(n, m) with orthonormal rows (n <= m) or columns: the QR factor of a Gaussian, signs fixed so that it is Haar."""
    q, r = np.linalg.qr(rng.normal(size=(max(n, m), min(n, m))))
    q = q * np.sign(np.diag(r))
    return q if n >= m else q.T


def orthogonal_like(layer, rng):
    """On the host, weights for a layer with orthonormal rows (or columns, where those are fewer) at every position."""
    shape, axis = layer.weight.value.shape, layer.out_axis
    n, m = shape[axis], prod(shape[axis + 1:])
    return np.array([orthogonal(rng, n, m) for _ in range(prod(shape[:axis]))]).reshape(shape)

"""Angles, norms and sign agreement of two arrays of one shape.

    cos(a, b) = <a, b> / (|a| |b|) over all entries           angle = arccos of it, in degrees

Sums are taken in float64; an angle with a zero array is NaN. Near 0 and 180 degrees arccos loses half the digits, so
the angle is computed as 2 arcsin(|u - v| / 2) with u = a / |a|, v = b / |b| (from the far end above 90 degrees).
"""
import math

from nplearn.backend import to_host
from nplearn.columns import rows


def norm(a):
    """|a|, a float."""
    a = to_host(a).astype("float64", copy=False).ravel()
    return math.sqrt(a @ a)


def angle(a, b):
    """Degrees between a and b, 0 to 180; NaN if one of them is zero."""
    a, b = (to_host(x).astype("float64", copy=False).ravel() for x in (a, b))
    size_a, size_b = math.sqrt(a @ a), math.sqrt(b @ b)
    if size_a == 0 or size_b == 0:
        return math.nan
    u, v = a / size_a, b / size_b
    apart = u - v if u @ v >= 0 else u + v
    small = math.degrees(2 * math.asin(min(1.0, math.sqrt(apart @ apart) / 2)))
    return small if u @ v >= 0 else 180 - small


def ratio(a, b):
    """|a| / |b|; NaN where b is zero."""
    below = norm(b)
    return norm(a) / below if below else math.nan


def mean_sample_angle(a, b):
    """Mean over samples of each sample's angle, for columns (T, ..., nb); samples with a zero are left out.

    Returns (degrees, how many samples were left out).
    """
    pairs = zip(rows(to_host(a)), rows(to_host(b)), strict=True)
    angles = [angle(x, y) for x, y in pairs]
    kept = [x for x in angles if not math.isnan(x)]
    return (sum(kept) / len(kept) if kept else math.nan), len(angles) - len(kept)


def sign_agreement(B, W):
    """Share of entries with sign(B) = sign(W), among those where W is not 0."""
    B, W = to_host(B), to_host(W)
    there = W != 0
    return float(((B > 0) == (W > 0))[there & (B != 0)].sum() / there.sum()) if there.any() else math.nan

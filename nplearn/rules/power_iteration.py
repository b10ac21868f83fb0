"""Power iteration: what a map does at most to the length of a vector, found by turning one through it, with no matrix.

    v <- turn(v) / |turn(v)|        `times` times; |turn(v)| tends to the largest |eigenvalue| of turn

Used where a rule may know the size of a loop or of a weight by activity alone.
"""
from nplearn.columns import nonzero


def power_iteration(turn, v, times):
    """(v, of length 1, and the length that the last turn gave it); v, an array of any shape, should start so too."""
    for _ in range(times):
        v = turn(v)
        size = length(v)
        v = v / nonzero(size)
    return v, size


def unit(v):
    """v, of length 1."""
    return v / nonzero(length(v))


def length(v):
    return (v * v).sum() ** 0.5

"""Rows that are about to be turned into columns: an odd number of cache lines apart.

A core's first cache repeats after PAGE bytes: addresses that differ by multiples of PAGE share one place of it, which
holds WAYS lines. Rows `stride` bytes apart fall on PAGE / gcd(stride, PAGE) distinct places. Sizes of maps often are
such that these are few; then the entries of a column drive each other out, and turning takes four times as long. An
odd number of lines has no divisor in common with the number of places: rows fall on all of them in turn.
"""
from math import gcd

import numpy as np

from nplearn.backend import array_module
from nplearn.kernels.workspace import ALIGN, empty

PAGE, WAYS = 4096, 8                                    # together 32 KiB, the least that x86-64 cores have had for long


def spread_rows(rows):
    """`rows` (n, ...) as they are where the places that they fall on hold them all, or a copy with spread rows."""
    if array_module(rows) is not np or len(rows) <= WAYS * PAGE // gcd(rows.strides[0], PAGE):
        return rows
    size, per_line = rows[0].size, ALIGN // rows.itemsize
    lines = -(-size // per_line) | 1                    # whole ones, and odd
    wide = empty(np, (len(rows), lines * per_line), rows.dtype)[:, :size].reshape(rows.shape)
    wide[...] = rows
    return wide

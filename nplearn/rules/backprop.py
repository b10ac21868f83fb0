"""Backprop: the delta goes down through the forward weight itself.

    dW_l    = outer(x_l, d_l)
    d_{l-1} = f'(a_{l-1}) adjoint(d_l, W_l)

Kept: nothing.
Source: Rumelhart, Hinton and Williams 1986, Nature 323:533.
"""
from nplearn.rules.base import EXACT_TOP, REDUCES, SAMPLES_APART, Rule


class Backprop(Rule):
    idea = "the delta goes down through the forward weight itself"
    paper = "Rumelhart et al. 1986"
    keeps, learns_when = "nothing", "W every step"
    claims = frozenset({REDUCES, EXACT_TOP, SAMPLES_APART})

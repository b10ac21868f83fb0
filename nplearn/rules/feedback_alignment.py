"""Feedback alignment (FA): a fixed random matrix carries the error down.

For layer l with input x_l (n_in, N), weights W_l (n_out, n_in), delta d_l (n_out, N):

    dW_l    = outer(x_l, d_l)                       as in backprop
    d_{l-1} = f'(a_{l-1}) adjoint(d_l, B_l)         B_l in place of W_l

Kept: B_l, one per weighted layer that sends, shaped like W_l and drawn by its law; never changed.
Source: Lillicrap et al. 2016, Nature Communications 7:13276, doi 10.1038/ncomms13276.
"""
from nplearn.feedback import Matrix
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, REDUCES, SAMPLES_APART, Rule
from nplearn.rules.checks import number


class FeedbackAlignment(Rule):
    """scale  factor on B; without normalisation a delta k layers down scales with its k-th power"""

    idea = "a fixed random matrix carries the error down"
    paper = "Lillicrap et al. 2016"
    keeps, learns_when = "B, fixed", "W every step"
    claims = frozenset({NO_TRANSPORT, REDUCES, EXACT_TOP, SAMPLES_APART})

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = number(self, "scale", scale)

    def feedback(self, layer, rng):
        B = layer.draw(rng)
        B *= self.scale
        return Matrix(B)

"""Zero-divergence inference learning (Z-IL): predictive coding, each layer read when backprop's error has come to it.

Strict dynamics with gamma = 1 from the forward pass, the layer k below the top read after k moves of the nodes. Till
then nothing below has moved, and what it holds is

    eps_{L-k} = gamma adjoint(D_{L-k+1} eps_{L-k+1}, W_{L-k+1})        dW_l = -outer(h_{l-1}, D_l eps_l) / N

so that only this needs computing (what the whole loop does is an oracle of the tests): gamma^(L-l) times backprop's
gradient, or that of the rule whose feedback is on the layers, whatever `through` is.

gamma  1 as published; another rate shows in every layer how often the schedule moved it

Kept: nothing but what `through` keeps. W learns once a batch, from gradients that all wait for the last of them.
Source: Song, Lukasiewicz, Xu and Bogacz 2020, NeurIPS 33; convolutions: Salvatori et al. 2022, AAAI 36.
"""
from nplearn.rules.backprop import Backprop
from nplearn.rules.base import EXACT_TOP, REDUCES
from nplearn.rules.checks import number
from nplearn.rules.relaxation import Relaxation


class ZeroDivergence(Relaxation):
    """gamma  rate of the nodes        through  see Relaxation"""

    idea = "predictive coding, each layer read when backprop's error has come to it"
    paper = "Song et al. 2020"
    keeps, learns_when = "nothing, or what its feedback keeps", "W every step"

    def __init__(self, through=Backprop, gamma=1.0):
        super().__init__(through)
        self.gamma = number(self, "gamma", gamma, 0)
        self.claims = self.claims | {EXACT_TOP} | (self.through.claims & {REDUCES} if gamma == 1 else set())

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        e = tape.error
        for stage in reversed(self.chain):
            e = self.gamma * stage.backward(e, tape)

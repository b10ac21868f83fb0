"""Forward gradient: the slope of the loss along a random move of all units, by one pass of tangents.

The units are those of node perturbation, moved by xi_l ~ N(0, I), every sample its own. With e_n the output error of
sample n and v_n the tangent of the output for the move of all layers at once:

    g_n     = <e_n, v_n>                            the limit of node perturbation for noise of no size
    d_l     = g_n xi_l / N                          the mean of `draws` such estimates
    dW_l    = outer(x_l, d_l)

E d_l is backprop's delta, without bias; its noise is that of node perturbation.

Kept: nothing. W learns every step, all layers from one number per sample.
Source: Baydin et al. 2022, arXiv 2202.08587, for weights; of activities, Ren et al. 2023, arXiv 2210.03310.
"""
from nplearn.columns import sample_sum
from nplearn.layers import activities
from nplearn.rules.perturbation import Perturbation


class ForwardGradient(Perturbation):
    walk = "noise in the units below, and the loss's slope along it"
    idea = "the slope of the loss along random moves of all units, by one pass of tangents"
    paper = "Baydin et al. 2022; Ren et al. 2023"

    def moves(self, tape, draw):
        up, xi, v = tape.walk(up=True), {}, 0
        for stage, h in zip(self.chain, activities(self.chain, tape)[1:], strict=True):
            at = tape.seen(stage.activation)[0] if stage.activation else h
            v = stage.pre.tangent(v, up) if xi else 0   # below the lowest units nothing moves
            xi[stage] = self.noise(tape, stage, at, draw)
            v = stage.post.tangent(v + xi[stage], up)
        return xi, sample_sum(tape.error * v) * tape.count

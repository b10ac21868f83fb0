"""Node perturbation: noise in the units says how the loss would change; no error is sent anywhere.

What each nonlinearity reads (what the next layer reads, where there is none), and the output, is moved by noise
xi_l ~ N(0, I), every sample its own, sigma in size. With L_n the loss of sample n:

    g_n     = (L_n(sigma xi) - L_n(0)) / sigma                  a second pass; with antithetic=True
              (L_n(sigma xi) - L_n(-sigma xi)) / (2 sigma)      a second and a third
    d_l     = g_n xi_l / N                                      the mean of `draws` such estimates
    dW_l    = outer(x_l, d_l)

E d_l is backprop's delta up to sigma^2, E |d|^2 of a sample (P + 2) |delta|^2 with P numbers moved, and the mean of K
draws is off by sqrt((P + 1) / K) relative to it: the noise that other rules are compared with. Where samples meet in a
batch (BatchNorm), a sample's noise is paired with its own loss alone.

Kept: nothing. W learns every step, all layers from one number per sample.
Source: Williams 1992, Machine Learning 8:229; Werfel, Xie and Seung 2005, Neural Computation 17:2699, who also move the
weights themselves: weight perturbation, whose noise grows with their number, is not offered.
"""
from nplearn.columns import beside, normal_like
from nplearn.feedback import Cut
from nplearn.layers import stages
from nplearn.rules.base import NEEDS_CHAIN, NO_TRANSPORT, NOISY, Rule
from nplearn.rules.checks import bare, choice, number, whole


class Perturbation(Rule):
    """draws  how many estimates are averaged; a rule writes `moves(tape, draw)`: {stage: xi} and g_n (T, nb)"""

    keeps, learns_when = "nothing", "W every step, from a second pass"
    claims = frozenset({NO_TRANSPORT, NEEDS_CHAIN, NOISY})
    home = {"optimiser": "adam", "lr": 1e-3, "decay": 0.0}

    def __init__(self, draws=1):
        super().__init__()
        self.draws = whole(self, "draws", draws)

    def prepare(self, net):
        self.chain = bare(stages(net))

    def feedback(self, layer, rng):
        return Cut()

    def noise(self, tape, stage, x, draw):
        """xi: one number for each entry of x."""
        return normal_like(x, tape.rng(stage.layer, "perturbation", draw))

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        total = dict.fromkeys(self.chain, 0)
        for draw in range(self.draws):
            xi, gains = self.moves(tape, draw)
            for stage in self.chain:
                total[stage] = total[stage] + beside(gains, xi[stage]) * xi[stage]
        for stage in self.chain:
            stage.pre.backward(total[stage] / (self.draws * tape.count), tape)      # every layer holds a Cut


class NodePerturbation(Perturbation):
    """sigma  size of the noise, with cancellation below 1e-3 in float32     antithetic  see above"""

    walk = "noise in the units below, and how it changed the loss"
    idea = "noise in every unit, and by how much it changed the loss"
    paper = "Werfel et al. 2005"

    def __init__(self, sigma=1e-2, antithetic=False, draws=1):
        super().__init__(draws)
        self.sigma = number(self, "sigma", sigma, least=1e-9)
        self.antithetic = choice(self, "antithetic", antithetic, (True, False))

    def moves(self, tape, draw):
        values, xi = self.moved(tape, draw, self.sigma)
        if self.antithetic:
            return xi, (values - self.moved(tape, draw, -self.sigma)[0]) / (2 * self.sigma)
        return xi, (values - tape.values) / self.sigma

    def moved(self, tape, draw, sigma):
        """(L_n(sigma xi), xi) by another pass of the batch."""
        again, x, xi = tape.again(), tape.input, {}
        for stage in self.chain:
            a = stage.pre.forward(x, again)
            xi[stage] = self.noise(tape, stage, a, draw)
            x = stage.post.forward(a + sigma * xi[stage], again)
        return tape.loss(x, tape.labels)[0], xi

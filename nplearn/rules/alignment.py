"""Alignment losses: feedback B goes down a loss of the layer's own, made of five primitives; W takes no part in that.

With x the layer's input (or noise), N samples, z = apply(x, W), y = apply(x, B), rec = adjoint(z, B), no biases:

    option   loss                                gradient for B
    decay    |B|^2                               2 B
    self_    - <W, B>                            - W
    amp      - mean_n <z, y>                     - outer(x, z) / N
    sparse   mean_n |y|^2                        2 outer(x, y) / N
    null     mean_n |rec|^2                      2 outer(rec, z) / N

Each option is the coefficient of its term; sums run over units and positions, means over samples only, so a convolution
has a rate larger by its positions. With S = mean x x', C = mean z z' a dense layer comes to rest at

    ia  information alignment   amp, null, decay    (2 null C + 2 decay I) B = amp W S     local; a ridge pseudo-inverse
    sa  symmetric alignment     decay, self_        B = self_ / (2 decay) W                reads W
    aa  activation alignment    sparse, amp         B = amp / (2 sparse) W where x varies  sees only z and y
    (amp and decay on noise: Akrout's weight mirror)

noise  standard deviation of normal noise, new each step, that stands for x in the loss, so that S is a multiple of the
       identity; 0 takes the input itself, and what its S is tilts B
Kept: B, shaped like W and drawn by its law, with its optimiser's slots; a twin of the forward one adds its own decay to
the loss's. The gradient is that of the walk, before W moves. W and B learn every step.
Source: Kunin et al. 2020, ICML, arXiv 2003.01513, with the coefficients and factors of their code; of its options are
left out alternate_step_freq, delay_epochs, uniform noise, and centring and normalising of x, y and z.
"""
from nplearn.columns import count, draw_rows
from nplearn.errors import SettingError
from nplearn.feedback import Feedback
from nplearn.params import Param
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, REDUCES, SAMPLES_APART, Rule
from nplearn.rules.checks import number


class Aligned(Feedback):
    """B in W's place, with a gradient of its own: `gradient(layer, x, B, tape, first)`."""

    says = "a learned matrix B, pulled towards W by a loss of the layer's own"

    def __init__(self, B, gradient):
        self.matrix, self.gradient = Param(B), gradient

    def carry(self, layer, d, x, tape):
        return layer.adjoint(d, self.matrix.value, x.shape)

    def collect(self, layer, d, x, tape):
        first = tape.room(self.matrix) is not None      # decay and self_ count once, however often the layer is used
        tape.add(self.matrix, self.gradient(layer, x, self.matrix.value, tape, first))

    def effective(self, layer):
        return self.matrix.value

    def params(self):
        return {"matrix": self.matrix}

    def become_exact(self, layer):
        self.matrix.value[...] = layer.weight.value
        return True


class Alignment(Rule):
    idea = "feedback goes down a loss of its own, made of the primitives of Kunin et al."
    paper = "Kunin et al. 2020"
    keeps, learns_when = "B, learned", "W and B every step"
    claims = frozenset({NO_TRANSPORT, REDUCES, EXACT_TOP, SAMPLES_APART})
    learned = True

    def __init__(self, decay=0.0, self_=0.0, amp=0.0, sparse=0.0, null=0.0, noise=0.0, optimiser=None):
        super().__init__(optimiser)
        self.decay, self.self_ = number(self, "decay", decay, 0), number(self, "self_", self_, 0)
        self.amp, self.sparse = number(self, "amp", amp, 0), number(self, "sparse", sparse, 0)
        self.null, self.noise = number(self, "null", null, 0), number(self, "noise", noise, 0)
        if not (decay or sparse or null):
            raise SettingError(type(self).__name__, "decay, sparse and null all 0", "one of them above 0, or B grows "
                               "without bound", "give one, or take ia, sa or aa of the registry")
        if self_:                                       # the one term that hands W over
            self.claims = self.claims - {NO_TRANSPORT}

    def feedback(self, layer, rng):
        return Aligned(layer.draw(rng), self.gradient)

    def gradient(self, layer, x, B, tape, first=True):
        W, N = layer.weight.value, count(x)
        g = 2 * self.decay * B - self.self_ * W if self.self_ else 2 * self.decay * B
        g *= first
        if self.noise:
            rng = tape.rng(layer, "alignment")
            x = draw_rows(lambda shape: self.noise * rng.normal(size=shape), x).astype(x.dtype)
        z = layer.apply(x, W) if self.amp or self.null else None
        if self.amp:
            g -= self.amp / N * layer.outer(x, z)
        if self.sparse:
            g += 2 * self.sparse / N * layer.outer(x, layer.apply(x, B))
        if self.null:
            g += 2 * self.null / N * layer.outer(layer.adjoint(z, B, x.shape), z)
        return g

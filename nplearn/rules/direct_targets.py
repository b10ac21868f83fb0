"""Direct random target projection (DRTP) and sign DFA (sDFA): direct feedback alignment with less of an error.

As direct feedback alignment, with another signal s (K, N) in the place of the output error e = y - t:

    error at the input of l   B_l' s      from there down to layer l-1 exactly; the last layer learns from e itself
    DRTP    s = sign * hid_scale * t / N      the target alone: a hidden layer waits for no output, and never stops
    sDFA    s = hid_scale * sign(e) / N       sign(0) = 0

With outputs inside (0, 1) and one-hot t,  B' sign(e) = B' 1 - 2 B' t.  So for a B whose columns are centred over the
classes sDFA is 2 DRTP with sign -1, the sign that agrees with DFA for the same B; uncentred, B' 1 drowns the targets.

sign       -1, or +1 as in the official code      center  whether B_l is centred over the classes
hid_scale  factor on the hidden layers' signal; N reproduces the official code under softmax cross-entropy (N K under
           its other losses), which leaves the mean out there and not in the last layer
form, residual, scale  as in direct feedback alignment: where the signal enters, and with "author" B's bound

Kept: B_l (K, size of the input), fixed: U(-r, r), r = sqrt(6 / size) unless `scale` gives it. W learns every step.
Source: Frenkel, Lefebvre and Bol 2021, arXiv 1909.01311, and its code, which projects before pooling (B of the size of
the unpooled map) where this library projects to the next weighted layer's input.
"""
from nplearn.backend import array_module
from nplearn.errors import BuildError
from nplearn.rules.checks import choice, number
from nplearn.rules.direct_feedback_alignment import DirectRule


class DirectTargets(DirectRule):
    """What the two share: the paper's law for B, centred if asked. A rule gives `signal(tape)`, and says what it is."""

    paper = "Frenkel, Lefebvre and Bol 2021"
    home = {"optimiser": "adam", "lr": 1e-3, "decay": 0.0, "net_options": {"activation": "tanh"}}

    def __init__(self, center, hid_scale, form, residual, scale):
        super().__init__(form, residual, scale)
        self.center = choice(self, "center", center, (True, False))
        self.hid_scale = number(self, "hid_scale", hid_scale, least=0)

    def feedback(self, layer, rng):
        feedback = super().feedback(layer, rng)
        B, classes = feedback.matrix, 0 if self.form == "author" else layer.out_axis
        if self.form == "author" and self.scale is None:
            B *= 6 ** 0.5                               # DFA's bound is sqrt(1 / size)
        if self.center:
            if self.form == "biotorch" and layer.groups > 1:
                raise BuildError(layer.path, f"{layer.groups} groups, which share no classes", "one, to centre B",
                                 'use form="author" or center=False')
            B -= B.mean(axis=classes, keepdims=True)
        feedback.says = f"{self.says} through a fixed random matrix {'x'.join(map(str, B.shape))}"
        return feedback


class DirectRandomTargetProjection(DirectTargets):
    idea, says = "a fixed random projection of the target teaches each hidden layer", "the target"
    keeps, learns_when = "B, fixed", "W every step, hidden layers before the output is known"

    def __init__(self, sign=-1, hid_scale=1.0, center=False, form="author", residual="biotorch", scale=None):
        super().__init__(center, hid_scale, form, residual, scale)
        self.sign = choice(self, "sign", sign, (-1, 1))

    def signal(self, tape):
        return tape.target * (self.sign * self.hid_scale / tape.count)


class SignDirectFeedbackAlignment(DirectTargets):
    idea, says = "the output error's signs go straight to every hidden layer", "the signs of the output error"

    def __init__(self, hid_scale=1.0, center=True, form="author", residual="biotorch", scale=None):
        super().__init__(center, hid_scale, form, residual, scale)

    def signal(self, tape):
        return array_module(tape.error).sign(tape.error) * (self.hid_scale / tape.count)

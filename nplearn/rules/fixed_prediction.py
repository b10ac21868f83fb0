"""Predictive coding with fixed predictions (FPA): errors settle, predictions stay those of the forward pass.

With everything but the errors frozen at the forward pass (h, a, D_l = f_l'(a_l)), all hidden errors at once, T times:

    e_L = dloss/dmu_L / N        e_l <- e_l + gamma (-e_l + adjoint(D_{l+1} e_{l+1}, W_{l+1}))        from e_l = 0
    dW_l = outer(h_{l-1}, D_l e_l)

The fixed point is backprop's delta. After T steps the error k layers below the top is P(Binomial(T, gamma) >= k) of it:
the direction of every layer's gradient is backprop's, only its size is less. With gamma = 1, L - 1 steps are exact.

Kept: nothing but what `through` keeps. W learns once a batch.
Source: Millidge, Tschantz and Buckley 2020, arXiv 2006.04182. Their code steps errors in turn, and twice as far: 100
steps of .1, so gamma = .2. T = 20 is ours; it leaves a top that learns faster than what is far below it.
"""
from nplearn.layers import activities
from nplearn.rules.backprop import Backprop
from nplearn.rules.base import EXACT_TOP
from nplearn.rules.checks import number, whole
from nplearn.rules.relaxation import Relaxation


class FixedPrediction(Relaxation):
    """steps  T        gamma  rate of the errors        through  see Relaxation"""

    idea = "predictive coding with the predictions of the forward pass: errors settle to backprop's"
    paper = "Millidge et al. 2020"
    keeps, learns_when = "nothing, or what its feedback keeps", "W every step, after settling"
    claims = Relaxation.claims | {EXACT_TOP}

    def __init__(self, through=Backprop, steps=20, gamma=0.2):
        super().__init__(through)
        self.steps, self.gamma = whole(self, "steps", steps), number(self, "gamma", gamma, 0)

    def assign(self, net, tape):
        self.begin_walk(net, tape)
        chain, gamma = self.chain, self.gamma
        e = [0 * h for h in activities(chain, tape)[1:-1]] + [tape.error]
        for _ in range(self.steps):
            down = tape.walk(collects=False, records=False)
            back = [stage.backward(d, down) for stage, d in zip(chain[1:], e[1:], strict=True)]
            e = [(1 - gamma) * d + gamma * m for d, m in zip(e, back, strict=False)] + [tape.error]
        for stage, d in zip(chain, e, strict=True):
            self.read_out(stage, d, tape, tape)

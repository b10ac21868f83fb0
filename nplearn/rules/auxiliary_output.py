"""Auxiliary-output SDTP (AO-SDTP): the top inverse is also told something of the input, so that targets differ.

In SDTP all samples of a class send the same one-hot target down. Here the output layer has further units z beside the
classes' o = softmax(a_L), with fixed random weights A from h_{L-1}; they enter the top inverse both times unchanged:

    z       = tanh(A h_{L-1})
    t_{L-1} = h_{L-1} + (g_L([one-hot, z]) - g_L([o, z]))       below that as in SDTP
    dV_L    of |g_L([softmax(f_L(z~)), z(z~)]) - h_{L-1}|^2 / 2,  z~ = h_{L-1} + sigma noise

units   how many (512 in the paper); with 0 the rule is SDTP to the bit. The paper does not say which nonlinearity they
        have; tanh is ours, as are 64 units and A's law, that of the inverses
sigma, schedule, optimiser, squares as in `inverses`. Kept: the inverses, learned; A, in no arena that anything steps.
Source: Bartunov et al. 2018, arXiv 1807.04587, section 4.
"""
from nplearn.columns import join
from nplearn.errors import BuildError
from nplearn.layers import Dense, Tanh, Transposed, stages
from nplearn.rules.checks import whole
from nplearn.rules.inverses import TargetRule


class AuxiliaryOutput(TargetRule):
    idea = "SDTP whose top inverse also reads fixed random units, which tell inputs of a class apart"
    paper = "Bartunov et al. 2018"
    keeps = "inverses, learned; random weights of auxiliary units, fixed"

    def __init__(self, units=64, sigma=0.1, schedule="alternating", optimiser=None, squares="sum"):
        super().__init__(sigma, schedule, optimiser, squares)
        self.units, self.auxiliary = whole(self, "units", units, least=0), None

    def prepare(self, net):
        chain = stages(net)
        self.auxiliary, top = None, chain[-1].layer
        if self.units and len(chain) > 1:
            if chain[-1].linear.layers[-1] is not top or top.weight.value.shape != (*top.out_shape, *top.in_shape):
                raise BuildError(top.path, f"a last layer that is no plain Dense ({type(top).__name__})",
                                 "one whose outputs auxiliary units can stand beside",
                                 "end the net in a Dense, or use SimplifiedDifferenceTargetPropagation")
            self.auxiliary = self.grown("auxiliary", [Dense(self.units, bias=False), Tanh()], top.in_shape)
        super().prepare(net)

    def turned(self, i):
        layers, shape = super().turned(i)
        if i < self.L or not self.units:
            return layers, shape
        top = self.f[i].layer
        wide = Dense(top.n + self.units).build(top.in_shape, 0, self.net.dtype, self.net.device)
        return [Transposed(wide), *layers[1:]], wide.out_shape

    def fixed(self):
        return {"auxiliary.weight": self.auxiliary.layers[0].weight.value} if self.auxiliary else {}

    def beside(self, o, below):
        return join(o, self.auxiliary.forward(below)) if self.auxiliary else o

    def output(self, a, below, tape):
        return self.beside(super().output(a, below, tape), below)

    def top(self, h, down, tape):
        return {self.L: self.beside(tape.target, h[-2])}

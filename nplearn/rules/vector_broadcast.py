"""Global error-vector broadcasting (GEVB): in a net of vector units every unit hears the same vector, the output error.

Units have K components, one per class, and weights above the first layer are at 0 or more (see layers/vector.py). With
e (K) the error of a sample's output, h_j (K) unit j's activity and g_i = 1[t_i . a_i >= 0] unit i's gate:

    d_i   = e g_i                                  in backprop e times a number at 0 or more, the sum over paths up
    dW_ij = sum over samples of <e, h_j> g_i       = outer(h, d), the layer's own operator        db_i = e g_i

(The outer product of sum_k e_k h_k and g is K times cheaper, a tenth of a step at home; pools and probes need d.)
So for one sample no entry of a gradient has another sign than backprop's. Nothing is carried down layer by layer.

Kept: nothing. W learns every step; optimisers restore W >= 0.
Source: Clark, Abbott and Chung 2021, NeurIPS 34, arXiv 2106.04089. Its code leaves out average pooling on the way down,
which here divides the error by its area.
"""
from nplearn.columns import over_components
from nplearn.errors import BuildError
from nplearn.feedback import Feedback
from nplearn.layers import stages
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, SAMPLES_APART, Rule
from nplearn.rules.checks import outputs


class ErrorVector(Feedback):
    says = "the output error, whole, at every unit"

    def carry(self, layer, d, x, tape):
        return over_components(tape.error, x)


class VectorBroadcast(Rule):
    walk = "the output error's components, to every unit below that is on"
    idea = "every vector unit hears the vector of the output error"
    paper = "Clark, Abbott and Chung 2021"
    keeps, learns_when = "nothing", "W every step"
    claims = frozenset({NO_TRANSPORT, EXACT_TOP, SAMPLES_APART, NEEDS_CHAIN})
    drawn = False
    home = {"net": "vector", "optimiser": "adam", "lr": 3e-4, "decay": 0.0}

    def prepare(self, net):
        K, chain = outputs(net, self), stages(net)
        for stage in chain:
            gates = [layer for layer in stage.layers if layer.gates_vectors]
            shared = stage.layer.components == K and stage.layer.weight.project is not None
            if stage.activation or len(gates) != (stage is not chain[-1]) or not (shared or stage is chain[0]):
                raise BuildError(stage.path, "no layer of vector units", "a Gate behind all but the last, and above "
                                 f"the first weights at 0 or more that {K} components share", "use the net vector")

    def feedback(self, layer, rng):
        return ErrorVector()

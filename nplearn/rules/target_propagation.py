"""Target propagation (TP): every layer is asked for the activity that an inverse of the layer above would have needed.

    t_L     = the correct label distribution, for h_L = softmax(a_L)
    t_{l-1} = g_l(t_l)                              l = L ... 2, g_l learned; the rest as in `inverses`
    dV_l    of |g_l(f_l(z)) - z|^2 / 2,  z = h_{l-1} + sigma noise

With exact inverses (g_l(f_l(h)) = h on the batch) this is difference target propagation. With others g_l(h_l) is not
h_{l-1}, and lower layers move even where the net makes no error; samples of one class all get the same targets.

Options: sigma, schedule, optimiser, squares, see `inverses`. Kept: the inverses g_2 ... g_L, learned.
Source: LeCun 1986, Learning process in an asymmetric threshold network; Bengio 2014, arXiv 1407.7906.
"""
from nplearn.rules.inverses import TargetRule


class TargetPropagation(TargetRule):
    idea = "a layer's target is an inverse of the target above"
    paper = "LeCun 1986; Bengio 2014"
    preserves = True

    def lower(self, i, t, h, back):
        return self.g[i].forward(t)

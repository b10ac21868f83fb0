"""Faults in the rules that send targets through inverses."""
from tests.seeded_faults.fault import Fault

BASE, TP, DTP, AO, FW, LDRL, DRL = (f"nplearn/rules/{name}.py" for name in (
    "inverses", "target_propagation", "difference_target_propagation", "auxiliary_output",
    "fixed_weight_target_propagation", "local_difference_reconstruction", "difference_reconstruction"))
TEST_TP, TEST_DTP, TEST_AO, TEST_FW, TEST_LDRL, TEST_DRL = (f"tests/rules/test_{name}.py" for name in (
    "target_propagation", "difference_target_propagation", "auxiliary_output", "fixed_weight_target_propagation",
    "local_difference_reconstruction", "difference_reconstruction"))
LAWS = f"{TEST_TP} --deselect {TEST_TP}::test_contract"
COST = "tests/metrics/test_cost_targets.py"

FAULTS = [
    Fault("difference added from left to right", BASE, "return h[i - 1] + (self.g[i].forward(t) - back(i))",
          "return h[i - 1] + self.g[i].forward(t) - back(i)", LAWS),
    Fault("noise in double precision", BASE, ".astype(x.dtype, copy=False)", "", f"{TEST_TP} -k float32"),
    Fault("difference turned round", BASE, "(self.g[i].forward(t) - back(i))", "(back(i) - self.g[i].forward(t))",
          LAWS),
    Fault("difference at h of the layer below", BASE, "return h[i - 1] + (self.g", "return self.L * 0 + (self.g", LAWS),
    Fault("error towards the activity and not the target", BASE, "(h[i] - t[i]) / tape.count",
          "(t[i] - h[i]) / tape.count", LAWS),
    Fault("a sum over samples in the deltas", BASE, "(h[i] - t[i]) / tape.count", "(h[i] - t[i])", LAWS),
    Fault("a mean of targets over the batch", BASE, "(h[i] - t[i]) / tape.count",
          "(h[i] - t[i].mean(axis=-1, keepdims=True)) / tape.count", LAWS),
    Fault("no N in the inverses' gradient", BASE, "- r) / now.count, now)", "- r), now)", LAWS),
    Fault("noise preserved and taken away mixed up", BASE, "if self.preserves else", "if not self.preserves else",
          LAWS),
    Fault("corrupted activity does not reach the layer above", BASE, "g.forward(self.up(i, z, now), now)",
          "g.forward(self.up(i, h[i - 1], now), now)", LAWS),
    Fault("the same noise in every step", BASE, 'tape.rng(self.f[i].layer, "noise", *key)',
          'tape.again(seed=0).rng(self.f[i].layer, "noise", *key)', LAWS),
    Fault("one noise for all layers", BASE, 'tape.rng(self.f[i].layer, "noise", *key)',
          'tape.rng(self.f[1].layer, "noise", *key)', LAWS),
    Fault("sigma forgotten", BASE, "x + self.sigma * self.noise", "x + self.noise", LAWS),
    Fault("an inverse epoch after every update", BASE, "and batches.step % batches.per_epoch == 0", "", LAWS),
    Fault("an inverse epoch of one step", BASE, "islice(batches, batches.per_epoch)", "islice(batches, 1)", LAWS),
    Fault("alternating inverses learn on line too", BASE,
          'def learn(self, net, tape):\n        if self.schedule != "alternating":', "def learn(self, net, tape):\n"
          "        if True:", LAWS),
    Fault("parallel inverses learn off-line", BASE, 'self.schedule != "parallel" and self.state', "self.state", LAWS),
    Fault("one start for all inverses", BASE, "(self.seed, path)", "(self.seed, 0)", f"{TEST_TP} -k start"),
    Fault("logits where probabilities are to be read", BASE, "return tape.loss.probability(a)", "return a", TEST_DTP),
    Fault("inverse without the nonlinearity below", BASE, "copy(below)] if below", "copy(below)] if False", TEST_DTP),
    Fault("last layer learns from its target", BASE, "self.f[-1].backward(self.error(tape), tape)",
          "self.f[-1].backward(self.error(tape) * 1.5, tape)", f"{TEST_TP} -k contract"),

    Fault("TP with the difference", TP, "return self.g[i].forward(t)", "return super().lower(i, t, h, back)", LAWS),
    Fault("TP reads the activity", TP, "return self.g[i].forward(t)", "return self.g[i].forward(h[i])", LAWS),
    Fault("TP takes the noise away", TP, "preserves = True", "preserves = False", LAWS),

    Fault("step up the loss", DTP, "h[-2] - self.alpha", "h[-2] + self.alpha", TEST_DTP),
    Fault("step of the batch mean's gradient", DTP, "self.alpha * tape.count * down", "self.alpha * down", TEST_DTP),
    Fault("every layer sends by its weight", DTP, "if layer is not self.f[-1].layer:", "if False:", TEST_DTP),
    Fault("an inverse of the last layer nobody needs", DTP, "preserves, direct = True, 1",
          "preserves, direct = True, 0", TEST_DTP),
    Fault("DTP takes the noise away", DTP, "preserves, direct = True, 1", "preserves, direct = False, 1",
          f"{TEST_TP} -k inverse_losses"),
    Fault("all positions start alike", DTP, "orthogonal(rng, n, m) for _", "orthogonal(np.random.default_rng(0), n, m) "
          "for _", TEST_DTP),
    Fault("no orthogonal start", DTP, 'if self.init == "orthogonal" else ()', "if False else ()", TEST_DTP),

    Fault("units missing in the target", AO, "self.beside(tape.target, h[-2])", "self.beside(tape.target, 0 * h[-2])",
          TEST_AO),
    Fault("units linear", AO, "bias=False), Tanh()]", "bias=False)]", TEST_AO),
    Fault("units drawn by the last layer's law alone", AO, "wide = Dense(top.n + self.units)",
          "self.law = TargetRule.law._replace(std=lambda i, o: 1.0); wide = Dense(top.n + self.units)", TEST_AO),
    Fault("units and their inverse drawn alike", AO, 'self.grown("auxiliary", ', 'self.grown("inverse." + top.path, ',
          TEST_AO),
    Fault("units learn", AO, "    def fixed(self):\n", "    def params(self):\n        own = self.auxiliary.layers[0]"
          ".params() if self.auxiliary else {}\n        return super().params() | {f'auxiliary.{k}': p for k, p in "
          "own.items()}\n\n    def fixed(self):\n", TEST_AO),
    Fault("corrupted activities do not reach the units", AO, "super().output(a, below, tape), below)",
          "super().output(a, below, tape), 0 * below)", TEST_AO),

    Fault("step up the loss", FW, "h[-1] - tape.count * e", "h[-1] + tape.count * e", TEST_FW),
    Fault("last layer exact", FW, "return self.eta * tape.error", "return tape.error", TEST_FW),
    Fault("direct layers go down the loss by their targets' feedback", FW, "tape.walk(exact=True, collects=False)",
          "tape.walk(collects=False)", TEST_FW),
    Fault("one direct layer too many", FW, "self.direct = self.direct_depth - 1", "self.direct = self.direct_depth",
          TEST_FW),
    Fault("transport unsaid", FW, "self.claims - {NO_TRANSPORT}", "self.claims", TEST_FW),
    Fault("standard deviation for bound", FW, "scale / 3 ** 0.5", "scale", TEST_FW),
    Fault("inverses learn", FW, "    def params(self):\n        return {}\n\n", "", TEST_FW),

    Fault("correlation with the wrong sign", LDRL, "2 * (xi - (o2 - o)), 2 * (o2 - o), -2 * xi",
          "2 * (-xi - (o2 - o)), 2 * (o2 - o), 2 * xi", TEST_LDRL),
    Fault("reference g(h) held", LDRL, "2 * (xi - (o2 - o)), 2 * (o2 - o)", "0 * xi, 2 * (o2 - o)", TEST_LDRL),
    Fault("visits out of order", LDRL, "2 * (o2 - o), -2 * xi", "-2 * xi, 2 * (o2 - o)", TEST_LDRL),
    Fault("one noise for both ends", LDRL, '"above", k', '"below", k', TEST_LDRL),
    Fault("the same noise in every inner step", LDRL, '"below", k)', '"below", 0)', f"{TEST_LDRL} -k loss"),
    Fault("activities of the pass before the step", LDRL, "h, now = self.afresh(tape)",
          "h, now = self.read(tape), tape", TEST_LDRL),
    Fault("the same noise at every update", LDRL, "self.inner(h, k, now.again())",
          "self.inner(h, k, now.again(seed=0))", TEST_LDRL),
    Fault("one step for K", LDRL, "range(self.steps)", "range(1)", TEST_LDRL),
    Fault("hidden layers without beta", LDRL, "h[-1] - self.beta * tape.count", "h[-1] - tape.count", TEST_LDRL),
    Fault("last layer without beta", LDRL, "return self.beta * tape.error", "return tape.error", TEST_LDRL),

    Fault("reference g(h) held", DRL, "            g.backward(-d, now)\n", "", TEST_DRL),
    Fault("visits out of order", DRL, "g.backward(d, now) ", "g.backward(-d, now); d = -d ", TEST_DRL),
    Fault("not divided by the variance", DRL, "(self.sigma ** 2 * now.count)", "now.count", TEST_DRL),
    Fault("upper inverses without the difference", DRL, "q = self.lower(k, q, h, back)", "q = self.g[k].forward(q)",
          TEST_DRL),
    Fault("corruption goes up one layer alone", DRL, "for k in range(i, self.L + 1):", "for k in range(i, i + 1):",
          TEST_DRL),
    Fault("decay left out", DRL, "self.decay * layer.weight.value", "0 * layer.weight.value", TEST_DRL),
    Fault("step up the loss", DRL, "h[-1] - self.eta", "h[-1] + self.eta", TEST_DRL),
    Fault("direct maps read the target of the layer above", DRL, "self.g[i].forward(h[-1], now)",
          "self.g[i].forward(0 * h[-1], now)", TEST_DRL),
    Fault("g(h) computed for every use", BASE, "return cache(lambda i: self.g[i].forward(h[i], now))",
          "return lambda i: self.g[i].forward(h[i], now)", COST),
]

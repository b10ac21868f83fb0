"""Faults in rules whose activities settle."""
from tests.seeded_faults.fault import Fault

PC, FPA, ZIL, BASE, EP, SETTLING, ACTIVATION = (f"nplearn/{name}.py" for name in (
    "rules/predictive_coding", "rules/fixed_prediction", "rules/zero_divergence", "rules/relaxation",
    "rules/equilibrium_propagation", "rules/settling", "layers/activation"))
PC_TESTS, EP_TESTS = "tests/rules/test_predictive_coding.py", "tests/rules/test_equilibrium_propagation.py"
ZIL_LAWS, FPA_LAWS = f"{PC_TESTS} -k zil", f"{PC_TESTS} -k fixed"
STRICT, CONTRAST = f"{PC_TESTS} -k strict_dynamics", f"{EP_TESTS} -k nudge"

FAULTS = [
    Fault("nodes go up the energy", PC, "self.gamma * (d - b)", "self.gamma * (b - d)", STRICT),
    Fault("beta not taken out of the gradient", PC, "error / scale", "error / tape.count", STRICT),
    Fault("output error of the forward pass for ever", PC, "scale * tape.loss(mu[-1], tape.labels)[1]]",
          "scale * tape.error]", STRICT),
    Fault("read out at the forward pass's activities", PC, "tape if stage is self.chain[0] else sweep, tape)",
          "tape, tape)", STRICT),
    Fault("messages by the slopes of the forward pass", PC, "down = sweep.walk(", "down = tape.walk(", STRICT),
    Fault("node rate per batch, not per sample", PC, "chain, scale = self.chain, self.beta * tape.count",
          "chain, scale = self.chain, self.beta", STRICT),
    Fault("one step more", FPA, "range(self.steps)", "range(self.steps + 1)", FPA_LAWS),
    Fault("errors start at backprop's", FPA, "[0 * h for h in", "[h for h in", FPA_LAWS),
    Fault("error not leaking", FPA, "(1 - gamma) * d", "d", FPA_LAWS),
    Fault("top error relaxes too", FPA, "for d, m in zip(e, back, strict=False)] + [tape.error]",
          "for d, m in zip(e, back, strict=False)] + [gamma * tape.error]", FPA_LAWS),
    Fault("rate left out", ZIL, "e = self.gamma * stage.backward", "e = stage.backward", ZIL_LAWS),
    Fault("rate twice", ZIL, "e = self.gamma * stage", "e = self.gamma ** 2 * stage", ZIL_LAWS),
    Fault("reduces to backprop at any rate", ZIL, "if gamma == 1", "if gamma", f"{PC_TESTS} -k claims"),
    Fault("feedback of its own learns nothing", BASE, "        layer.feedback.collect(layer, d, x, tape)\n", "",
          f"{PC_TESTS} -k contract_holds_through"),
    Fault("its feedback is never stepped", BASE, "self.through.learn(net, tape)", "pass", f"{PC_TESTS} -k kolen"),
    Fault("no off-line phases", BASE, "self.through.phase(net, batches)", "pass", f"{PC_TESTS} -k phases"),
    Fault("broadcasts are taken", BASE, "is None:\n                raise", "is layer:\n                raise",
          f"{PC_TESTS} -k refused"),
    Fault("pushed up its loss", EP, "state, -beta * tape.count", "state, beta * tape.count", CONTRAST),
    Fault("nudged by the mean loss", EP, "-beta * tape.count * self.error", "-beta * self.error", CONTRAST),
    Fault("contrast of the wrong sign", EP, "(state, -sign / scale)", "(state, sign / scale)", CONTRAST),
    Fault("gradient summed over the batch", EP, "len(signs) * self.beta * tape.count", "len(signs) * self.beta",
          CONTRAST),
    Fault("second phase from the first one's end", EP, "self.nudged(free, sign * self.beta, tape)",
          "self.nudged(free, self.beta, tape)", CONTRAST),
    Fault("read-out's gradient at the free state", EP, "for state in nudged]", "for state in [free] * k]",
          f"{EP_TESTS} -k read_out"),
    Fault("sign drawn anew at every call", EP, 'int(tape.rng(self.chain[-1].layer, "nudge").integers(2))',
          "int(__import__('random').random() < 0.5)", f"{EP_TESTS} -k one_sided"),
    Fault("twice the top-down drive", SETTLING, "for f, above in zip(self.linear[1:], s[1:], strict=False)]",
          "for f, above in zip(self.linear[1:], [2 * h for h in s[1:]], strict=False)]", f"{EP_TESTS} -k phi"),
    Fault("no top-down drive", SETTLING, "forward(v + b)", "forward(v + 0 * b)", f"{EP_TESTS} -k slope_of_phi"),
    Fault("damping the wrong way", SETTLING, "self.damping * h + (1 - self.damping) * f",
          "self.damping * f + (1 - self.damping) * h", f"{EP_TESTS} -k damping"),
    Fault("contrast of the states' mean", SETTLING, "self.pools[i].backward(d, state.up.walk())",
          "self.pools[i].backward(0 * d + d.mean(), state.up.walk())", f"{EP_TESTS} -k pooling"),
    Fault("clip's slope forgets its scale", ACTIVATION, "(y < self.high)) * y.dtype.type(self.scale)",
          "(y < self.high)) * y.dtype.type(1)", "tests/layers/test_activation.py -k formulas"),
    Fault("steep slope without its gain", ACTIVATION, "return self.gain * y * (1 - y)", "return y * (1 - y)",
          "tests/layers/test_activation.py -k formulas"),
]

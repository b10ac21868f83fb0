"""Faults in the rules that project targets or errors, modulate the input, or bring targets down by exact inverses."""
from tests.seeded_faults.fault import Fault

TARGETS, IFA, PEPITA, GAIT, INVERSE = (f"nplearn/rules/{name}.py" for name in (
    "direct_targets", "indirect_feedback_alignment", "pepita", "gait_prop", "exact_inverse"))
LAWS = "direct_targets", "indirect_feedback_alignment", "pepita", "gait_prop"
TEST_TARGETS, TEST_IFA, TEST_PEPITA, TEST_GAIT = (f"tests/rules/test_{name}.py" for name in LAWS)
FIRST = "nplearn/layers/first.py"

FAULTS = [
    Fault("sign of the target left out", TARGETS, "(self.sign * self.hid_scale / tape.count)",
          "(self.hid_scale / tape.count)", TEST_TARGETS),
    Fault("sum over the batch for its mean", TARGETS, "(self.sign * self.hid_scale / tape.count)",
          "(self.sign * self.hid_scale)", TEST_TARGETS),
    Fault("the error for its sign", TARGETS, "array_module(tape.error).sign(tape.error)", "tape.error", TEST_TARGETS),
    Fault("the error projected for the target", TARGETS, "return tape.target * ", "return tape.error * ", TEST_TARGETS),
    Fault("bound of B as in DFA", TARGETS, "B *= 6 ** 0.5", "pass", TEST_TARGETS),
    Fault("centred over units", TARGETS, "B.mean(axis=classes, keepdims=True)",
          "B.mean(axis=1, keepdims=True)", TEST_TARGETS),
    Fault("never centred", TARGETS, "if self.center:", "if False:", TEST_TARGETS),
    Fault("no slope on the way up", IFA, "v = stage.activation.tangent(v, up)", "v = v", TEST_IFA),
    Fault("bias added to the change", IFA, "else layer.tangent(v, up)", "else layer.forward(v)", TEST_IFA),
    Fault("twice the change goes on up", IFA, "                d = layer.backward(d, tape)",
          "                d = layer.backward(d, tape)\n            v = v * 2", TEST_IFA),
    Fault("the fixed carriers are not used", IFA, "if layer in self.carried else", "if False else", TEST_IFA),
    Fault("the change skips what stands behind the nonlinearity", IFA,
          "                v = layer.tangent(v, up)\n        self",
          "                v = layer.forward(v)\n        self", TEST_IFA),
    Fault("bound of B by the classes", IFA, "prod(self.site) ** -0.5", "self.K ** -0.5", TEST_IFA),
    Fault("modulation the other way round", PEPITA, "tape.input + over_channels", "tape.input - over_channels",
          TEST_PEPITA),
    Fault("change the other way round", PEPITA, "(h - k) / (", "(k - h) / (", TEST_PEPITA),
    Fault("the error's mean modulates", PEPITA, "tape.error * tape.count)", "tape.error)", TEST_PEPITA),
    Fault("inputs of the first pass", PEPITA, "d = layer.backward(d, second)", "d = layer.backward(d, tape)",
          TEST_PEPITA),
    Fault("the second pass has masks of its own", PEPITA, "        second.input =",
          "        second.seed = (1, 2, 3)\n        second.input =", TEST_PEPITA),
    Fault("the mask counts twice", PEPITA, "d = layer.tangent(d, up) ",
          "d = layer.tangent(layer.backward(d, second), up) ", TEST_PEPITA),
    Fault("the mask does not count", PEPITA, "d = layer.tangent(d, up) ", "d = 1 * d ", TEST_PEPITA),
    Fault("sum over positions", PEPITA, '"mean": 1,', '"mean": 0,', TEST_PEPITA),
    Fault("the last layer's error is the other pass's", PEPITA, 'self.out_error == "second"',
          'self.out_error == "first"', TEST_PEPITA),
    Fault("the second pass moves running statistics", PEPITA, "tape.again(joins=True)",
          'tape.again(joins=True, mode="train")', TEST_PEPITA),
    Fault("the inverse is not turned", INVERSE, "return inverse(layer).T", "return inverse(layer)", TEST_GAIT),
    Fault("the transpose for the inverse", INVERSE, "V = xp.linalg.inv(W)", "V = W.T.copy()", TEST_GAIT),
    Fault("inverses that do not undo W pass", INVERSE, "if off > 1e-10:", "if False:", TEST_GAIT),
    Fault("stale inverse", INVERSE, "        return inverse(layer).T",
          "        self.kept = getattr(self, 'kept', inverse(layer).T)\n        return self.kept", TEST_GAIT),
    Fault("one slope for two", GAIT, "gamma * f.slope(h) ** 2", "gamma * f.slope(h)", TEST_GAIT),
    Fault("gamma is not undone", GAIT, "scale /= gamma", "scale /= 1", TEST_GAIT),
    Fault("bias left in the target", GAIT, "a - layer.bias.value if layer.bias else a", "a", TEST_GAIT),
    Fault("step away from the target", GAIT, "mix = h - size * off", "mix = h + size * off", TEST_GAIT),
    Fault("norms are regularised too", GAIT, "array_module(W).fill_diagonal(gram, 0)", "pass", TEST_GAIT),
    Fault("gram matrix of rows", GAIT, "gram = W.T @ W", "gram = W @ W.T", TEST_GAIT),
    Fault("a factor of the regulariser", GAIT, "(4 * self.orthogonality)", "(2 * self.orthogonality)", TEST_GAIT),
    Fault("units that are not read are taught", FIRST, "zeros(batch", "ones(batch", "tests/layers/test_first.py"),
]

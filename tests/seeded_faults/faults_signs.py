"""Faults in backprop's walk, in sign-concordant and direct feedback, in mixtures, in the controls, in laws of all."""
from tests.seeded_faults.fault import Fault

SIGN, DFA, MIXED, CONTROLS, BASE = (f"nplearn/rules/{name}.py" for name in (
    "sign_concordant", "direct_feedback_alignment", "mixed", "controls", "base"))
LAYER, FEEDBACK = "nplearn/layers/base.py", "nplearn/feedback.py"
TEST_SIGN, TEST_DFA, TEST_MIXED, TEST_CONTROLS, TEST_BASE, TEST_BACKPROP = (f"tests/rules/test_{name}.py" for name in (
    "sign_concordant", "direct_feedback_alignment", "mixed", "controls", "rule_base", "backprop"))
INVERSES, LOCAL, NP = "nplearn/rules/inverses.py", "nplearn/kernels/local.py", "nplearn/rules/perturbation.py"
TEST_LAWS, TEST_NP = "tests/rules/test_common_laws.py", "tests/rules/test_perturbation.py"
SIGNS = "sign(layer.weight.value)"

FAULTS = [
    # all three
    Fault("W itself for its signs", SIGN, f"array_module(layer.weight.value).{SIGNS}", "layer.weight.value.copy()",
          TEST_SIGN),
    Fault("a weight of zero is positive", SIGN, f"array_module(layer.weight.value).{SIGNS}",
          "1 - 2 * (layer.weight.value < 0).astype(layer.weight.value.dtype)", TEST_SIGN),
    Fault("signs as they were at first", SIGN, f"        M = array_module(layer.weight.value).{SIGNS}\n",
          f"        first = array_module(layer.weight.value).{SIGNS}\n"
          "        M = vars(self).setdefault('first', first).copy()\n", TEST_SIGN),
    Fault("what carries has no magnitudes", SIGN, "return layer.adjoint(d, self.matrix(layer, tape), x.shape)",
          "return layer.adjoint(d, array_module(d).sign(layer.weight.value), x.shape)", TEST_SIGN),
    # uSF
    Fault("the variance for the deviation", SIGN, "return layer.std()", "return layer.std() ** 2", TEST_SIGN),
    Fault("maps scaled by their inputs", SIGN, "(2 / fan_out) ** 0.5", "(2 / fan_in) ** 0.5", TEST_SIGN),
    Fault("dense layers scaled as maps", SIGN, "if layer.spatial else fan_in ** -0.5", "", TEST_SIGN),
    Fault("a number is a factor on the draw's law", SIGN, "return self.scale\n", "return self.scale * layer.std()\n",
          TEST_SIGN),
    Fault("feedback in double precision", SIGN, "M *= self.magnitude(layer, tape)",
          "M = M * np.asarray(self.magnitude(layer, tape), float)", TEST_SIGN),
    # frSF
    Fault("magnitudes with signs of their own", SIGN, "return abs(layer.draw(rng))", "return layer.draw(rng)",
          TEST_SIGN),
    Fault("fixed magnitudes are not kept", SIGN, "lambda layer, tape: M, kept=M", "lambda layer, tape: M", TEST_SIGN),
    Fault("fixed magnitudes drawn in every pass", SIGN, "lambda layer, tape: M, kept=M",
          "lambda layer, tape: self.random(layer, rng), kept=M", TEST_SIGN),
    Fault("fixed magnitudes are those of W", SIGN, "M = self.random(layer, rng)", "M = abs(layer.weight.value)",
          TEST_SIGN),
    Fault("dense magnitudes normal too", SIGN, 'normal = layer.weight.value.shape, self.scale == "sign-symmetry" and '
          "layer.spatial", 'normal = layer.weight.value.shape, self.scale == "sign-symmetry"', TEST_SIGN),
    Fault("map magnitudes uniform too", SIGN, "abs(rng.normal(size=shape) if normal else rng.random(shape))",
          "abs(rng.random(shape))", TEST_SIGN),
    # brSF
    Fault("magnitudes of every step the same", SIGN,
          'tape.rng(layer, "magnitude") if tape else stream(self.seed, "feedback", layer.path)',
          'stream(self.seed, "feedback", layer.path)', TEST_SIGN),
    Fault("magnitudes new in every walk", SIGN, 'tape.rng(layer, "magnitude") if tape else', "rng if tape else",
          TEST_SIGN),
    Fault("magnitudes of the step, not of the layer", SIGN, 'tape.rng(layer, "magnitude")',
          'tape.rng(tape.net, "magnitude")', TEST_SIGN),
    Fault("what is compared with W is drawn anew", SIGN, 'else stream(self.seed, "feedback", layer.path)', "else rng",
          TEST_SIGN),
    # DFA
    Fault("bound of B by the outputs", DFA, "m = size ** -0.5 if", "m = K ** -0.5 if", TEST_DFA),
    Fault("the scale left out", DFA, "if self.scale is None else self.scale", "", TEST_DFA),
    Fault("B in double precision", DFA, "self.put(rng.uniform(-m, m, (K, size)))", "rng.uniform(-m, m, (K, size))",
          TEST_DFA),
    Fault("B positive", DFA, "rng.uniform(-m, m,", "rng.uniform(0, m,", TEST_DFA),
    Fault("the error's sign for the error", DFA, "        return tape.error\n",
          "        return (tape.error > 0) - (tape.error < 0.0)\n", TEST_DFA),
    Fault("shortcuts cut under every meaning", DFA, 'if self.residual != "biotorch" else ()', "if True else ()",
          TEST_DFA),
    Fault("shortcuts carry under every meaning", DFA, "holder.feedback = Cut()", "pass", TEST_DFA),
    Fault("backprop inside a block from its first layer on", DFA, "for layer in inside[1:] if",
          "for layer in inside if", TEST_DFA),
    Fault("backprop inside a block is claimed free of transport", DFA,
          "self.claims = self.claims - {NO_TRANSPORT}", "pass", TEST_DFA),
    Fault("a layer at two places gets one matrix of the first's size", DFA, "if layer.other_shapes:", "if False:",
          TEST_DFA),
    # mixtures
    Fault("the last pattern that fits", MIXED, "for pattern in self.rules if fnmatchcase",
          "for pattern in reversed(self.rules) if fnmatchcase", TEST_MIXED),
    Fault("learning of the first rule alone", MIXED, "            rule.learn(net, tape)",
          "            rule.learn(net, tape)\n            break", TEST_MIXED),
    Fault("the off-line phase left out", MIXED, "            rule.phase(net, batches)", "            pass", TEST_MIXED),
    Fault("claims of any for claims of all", MIXED, "frozenset.intersection(*", "frozenset().union(*", TEST_MIXED),
    Fault("another rule's shortcuts stay", MIXED, "holder.feedback = holder.exact", "pass", TEST_MIXED),
    Fault("one optimiser for all parts", MIXED, 'return {f"{pattern}.{name}": optimiser', "return {name: optimiser",
          TEST_MIXED),
    Fault("each rule draws by its pattern", MIXED, "rule.attach(net, seed, [",
          "rule.attach(net, (seed, pattern), [", TEST_MIXED),
    # controls
    Fault("hidden layers decay", CONTROLS, "param.value[...] = start", "pass", TEST_CONTROLS),
    Fault("hidden layers are not cut", CONTROLS, "return Cut()", "return super().feedback(layer, rng)", TEST_CONTROLS),
    Fault("the last layer is held too", CONTROLS, "leaves(net)[:leaves(net).index(last)]", "leaves(net)",
          TEST_CONTROLS),
    Fault("the start is a view", CONTROLS, "(p, p.value.copy())", "(p, p.value)", TEST_CONTROLS),
    Fault("nothing is dealt", CONTROLS, ".permutation(count(x))", ".permutation(1).repeat(count(x)) * 0 + "
          "__import__('numpy').arange(count(x))", TEST_CONTROLS),
    Fault("one deal for all layers", CONTROLS, 'tape.rng(layer, "shuffle")', 'tape.rng(tape.net, "shuffle")',
          TEST_CONTROLS),
    Fault("samples drawn with replacement", CONTROLS, ".permutation(count(x))", ".integers(0, count(x), count(x))",
          TEST_CONTROLS),
    Fault("one deal for ever", CONTROLS, 'tape.rng(layer, "shuffle")',
          "__import__('numpy').random.default_rng(hash(layer.path))", TEST_CONTROLS),
    # backprop
    Fault("feedback of another rule stays", BASE, "holder.feedback = holder.exact", "pass", TEST_BACKPROP),
    Fault("the sum over the batch for its mean", BASE, "net.backward(tape.error, tape)",
          "net.backward(tape.error * tape.count, tape)", TEST_BACKPROP),
    Fault("a rule walks through a net that is not its own", BASE, "        self.check(net)\n        net.backward(",
          "        net.backward(", TEST_BASE),
    Fault("a second walk adds to the first", BASE, "net.backward(tape.error, tape)",
          "tape.joins = True; net.backward(tape.error, tape)", TEST_BACKPROP),
    Fault("the lowest layer sends too", LAYER, "if self.sends else nothing_like(x)", "", TEST_BACKPROP),
    Fault("every layer's feedback sees no delta", FEEDBACK, "return layer.adjoint(d, layer.weight.value, x.shape)",
          "return layer.adjoint(0 * d, layer.weight.value, x.shape)", TEST_BACKPROP),
    Fault("the way down through the signs of W", FEEDBACK, "return layer.adjoint(d, layer.weight.value, x.shape)",
          "return layer.adjoint(d, array_module(d).sign(layer.weight.value), x.shape)", TEST_BACKPROP),
    # laws of all rules
    Fault("the last layer's own error twice", INVERSES, "        return tape.error\n",
          "        return 2 * tape.error\n", TEST_LAWS),
    Fault("taps of a locally connected layer in another order", LOCAL, "return room.reshape(",
          "return room.swapaxes(2, 3).reshape(", TEST_LAWS),
    Fault("opposite noise that is not the same noise", NP, "self.moved(tape, draw, -self.sigma)",
          "self.moved(tape, draw + 1, -self.sigma)", TEST_NP),
]

"""Faults in the rules that learn from noise."""
from tests.seeded_faults.fault import Fault

NP, FG, PTF = (f"nplearn/rules/{name}.py" for name in ("perturbation", "forward_gradient",
                                                       "perturbation_trained_feedback"))
TEST_NP = "tests/rules/test_perturbation.py"
TEST_PTF = "tests/rules/test_perturbation_trained_feedback.py"

FAULTS = [
    Fault("one draw for all draws", NP, 'tape.rng(stage.layer, "perturbation", draw)',
          'tape.rng(stage.layer, "perturbation")', TEST_NP),
    Fault("sign of the gain", NP, "(values - tape.values) / self.sigma", "(tape.values - values) / self.sigma",
          TEST_NP),
    Fault("divided by sigma twice", NP, "(values - tape.values) / self.sigma", "(values - tape.values) / self.sigma**2",
          TEST_NP),
    Fault("noise in double precision", "nplearn/columns.py", "(rng.standard_normal, x).astype(x.dtype, copy=False)",
          "(rng.standard_normal, x)", TEST_NP),
    Fault("antithetic not halved", NP, "/ (2 * self.sigma)", "/ self.sigma", TEST_NP),
    Fault("sum over draws instead of mean", NP, "(self.draws * tape.count)", "tape.count", TEST_NP),
    Fault("batch gain for every sample", NP, "beside(gains, xi[stage]) * xi[stage]", "gains.mean() * xi[stage]",
          TEST_NP),
    Fault("tangent without the layer's own move", FG, "v + xi[stage]", "v + xi[stage] * (not xi or len(xi) < 2)",
          TEST_NP),
    Fault("tangent without what moved below", FG, "v + xi[stage]", "xi[stage]", TEST_NP),
    Fault("loss of the batch mean", FG, "sample_sum(tape.error * v) * tape.count", "sample_sum(tape.error * v)",
          TEST_NP),
    Fault("a layer without nonlinearity moved as if it were the output", FG, "if stage.activation else h",
          "if stage.activation else tape.output", TEST_NP),
    Fault("noise before what stands below the layer", PTF,
          "x = layer.forward(x + sigma * xi[layer] if layer in xi else x, again)",
          "first, noise = layer is stage.layers[0], xi.get(stage.layer)\n                "
          "x = layer.forward(x + sigma * noise if first and noise is not None else x, again)", TEST_PTF),
    Fault("the second pass has masks of its own in the fit", PTF, "again, x = tape.again(), tape.input",
          "again, x = tape.again(seed=7), tape.input", TEST_PTF),
    Fault("sign of the fit", PTF, "- tape.seen(self)", "+ tape.seen(self)", TEST_PTF),
    Fault("arguments of outer exchanged in scale", PTF, "layer.outer(off, d) * tape.count", "layer.outer(off, d)",
          TEST_PTF),
    Fault("estimate without 1 / N", PTF, "(self.sigma * tape.count)", "self.sigma", TEST_PTF),
    Fault("antithetic not halved in the fit", PTF, "-self.sigma)) / 2", "-self.sigma))", TEST_PTF),
    Fault("fitted without noise", PTF, "* xi[layer])\n", "* 0)\n", TEST_PTF),
    Fault("B starts at W", PTF, "Fitted(layer.draw(rng)", "Fitted(layer.weight.value.copy()", TEST_PTF),
]

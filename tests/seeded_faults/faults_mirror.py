"""Faults in the rules that learn feedback from noise or from a loss of the layer's own."""
from tests.seeded_faults.fault import Fault

WM, AL, REGISTRY = (f"nplearn/rules/{name}.py" for name in ("weight_mirror", "alignment", "registry"))
COLUMNS = "nplearn/columns.py"
TEST_WM, TEST_AL = "tests/rules/test_weight_mirror.py", "tests/rules/test_alignment.py"

FAULTS = [
    Fault("feedback goes against what noise says", WM, "B += self.rate", "B -= self.rate", TEST_WM),
    Fault("noise not about zero", WM, "(self.uniform(layer.in_shape, rng) - 0.5)", "self.uniform(layer.in_shape, rng)",
          TEST_WM),
    Fault("response not centred", WM, "y -= f(b)", "pass", TEST_WM),
    Fault("bias left out of the response", WM, "layer.apply(x, W) + b)", "layer.apply(x, W))", TEST_WM),
    Fault("response of a linear unit", WM, "y = f(layer.apply(x, W) + b)", "y = layer.apply(x, W) + b", TEST_WM),
    Fault("noise of another layer", WM, "batches.step, turn, layer.path)", "batches.step, turn)", TEST_WM),
    Fault("noise reused in every step", WM, '"mirror", batches.step, turn', '"mirror", turn', TEST_WM),
    Fault("noise reused within the first phase", WM, "batches.step, turn, layer.path)", "batches.step, layer.path)",
          TEST_WM),
    Fault("taps counted for two samples", WM, "np.ones((1, *outside", "np.ones((2, *outside", TEST_WM),
    Fault("taps left as they are", WM, "/ self.uses[layer]", "/ 1", TEST_WM),
    Fault("growth control that acts on nothing", WM, "B *= 0.5 /", "B = B * 0.5 /", TEST_WM),
    Fault("decay left out", WM, "B *= 1 - self.lam", "pass", TEST_WM),
    Fault("decay without the samples", WM, "lam = self.rate * self.samples * self.amp", "lam = self.rate * self.amp",
          TEST_WM),
    Fault("variance of noise as if normal", WM, "amp ** 2 / 12", "amp ** 2", TEST_WM),
    Fault("one mirror batch before training", WM, "turns = batches.per_epoch if", "turns = 1 if", TEST_WM),
    Fault("mirrors in the wrong steps", WM, "% self.every == 0", "% self.every != 0", TEST_WM),
    Fault("feedback asks for an optimiser", WM, "    def learn(self, net, tape):\n        pass\n", "", TEST_WM),
    Fault("noise in double precision", WM, "return self.put(columns(rng.random((self.samples, *outside(shape))), "
          "self.net.chunk(self.samples)))", "return columns(rng.random((self.samples, *outside(shape))), "
          "self.net.chunk(self.samples))", TEST_WM),
    Fault("deviation over samples", COLUMNS, "x.shape[-1]).std(axis=1)", "x.shape[-1]).std(axis=2)",
          "tests/test_columns.py -k standard_deviation"),
    Fault("decay of half its size", AL, "2 * self.decay * B - self.self_", "self.decay * B - self.self_", TEST_AL),
    Fault("decay alone of half its size", AL, "else 2 * self.decay * B", "else self.decay * B", TEST_AL),
    Fault("self pushes away", AL, "B - self.self_ * W", "B + self.self_ * W", TEST_AL),
    Fault("amp pushes away", AL, "g -= self.amp", "g += self.amp", TEST_AL),
    Fault("amp of a sum over samples", AL, "self.amp / N", "self.amp", TEST_AL),
    Fault("sparse of the forward response", AL, "layer.apply(x, B)", "layer.apply(x, W)", TEST_AL),
    Fault("sparse of half its size", AL, "2 * self.sparse / N", "self.sparse / N", TEST_AL),
    Fault("null with the input for what comes back", AL, "layer.outer(layer.adjoint(z, B, x.shape), z)",
          "layer.outer(x, z)", TEST_AL),
    Fault("null back through W", AL, "layer.adjoint(z, B, x.shape)", "layer.adjoint(z, W, x.shape)", TEST_AL),
    Fault("decay once a use", AL, "g *= first", "pass", TEST_AL),
    Fault("response to the input for that to noise", AL, "z = layer.apply(x, W) if",
          "z = layer.apply(tape.seen(layer)[0] if self.noise else x, W) if", TEST_AL),
    Fault("ia with another coefficient", REGISTRY, '"amp": 2e-3, "null": 1e-3', '"amp": 1e-3, "null": 1e-3', TEST_AL),
    Fault("noise in double precision", AL, ", x).astype(x.dtype)", ", x)", TEST_AL),
    Fault("noise never drawn", AL, "if self.noise:", "if False:", TEST_AL),
    Fault("noise of another size", AL, "self.noise * rng.normal", "rng.normal", TEST_AL),
    Fault("noise the same for every layer", AL, "tape.rng(layer,", "tape.rng(tape.net,", TEST_AL),
    Fault("aa with one coefficient", REGISTRY, '"sparse": 1e-3, "amp": 2e-3', '"sparse": 1e-3, "amp": 1e-3', TEST_AL),
    Fault("sa hides that it reads W", AL, "self.claims = self.claims - {NO_TRANSPORT}", "pass", TEST_AL),
]

"""Faults in the rules whose layers have losses of their own: local losses and Forward-Forward."""
from tests.seeded_faults.fault import Fault

LOCAL, HEADS, SIM, FF, NORM = ("nplearn/rules/local_losses.py", "nplearn/rules/heads.py",
                               "nplearn/rules/similarity.py", "nplearn/rules/forward_forward.py",
                               "nplearn/layers/normalise.py")
TEST_LOCAL = "tests/rules/test_local_losses.py"
TEST_SIM, TEST_FF, TEST_NORM = ("tests/rules/test_similarity.py", "tests/rules/test_forward_forward.py",
                                "tests/layers/test_normalise.py")

FAULTS = [
    Fault("last layer learns from the whole loss", LOCAL, "self.shares.get(pred, 1) * tape.error", "tape.error",
          TEST_LOCAL),
    Fault("shares exchanged", LOCAL, "{pred: 1 - self.beta, sim: self.beta}",
          "{pred: self.beta, sim: 1 - self.beta}", TEST_LOCAL),
    Fault("share of the loss left out", LOCAL, "head.backward(share * losses", "head.backward(losses", TEST_LOCAL),
    Fault("heads' gradients written by every walk", LOCAL, ", collects=tape.collects", "", TEST_LOCAL),
    Fault("shortcuts carry", LOCAL, "holder.feedback = Cut()", "pass", TEST_LOCAL),
    Fault("pred starts at random", HEADS, "Dense(classes, init=ZERO)", "Dense(classes)", TEST_LOCAL),
    Fault("head takes no error down", HEADS, "head.reach(True)", "head.reach(False)", TEST_LOCAL),
    Fault("pooled in width first", HEADS, "if kh == kw else (kh, 2 * kw)", "if kh < kw else (kh, 2 * kw)", TEST_LOCAL),
    Fault("one draw for all heads", HEADS, "(seed, path)", "(seed, kind.__name__)", TEST_LOCAL),
    Fault("one side of the pair", SIM, "4 / len(x)", "2 / len(x)", TEST_SIM),
    Fault("length of a sample left in", SIM, "(dx - (dx * x).sum(axis=1, keepdims=True) * u)", "dx", TEST_SIM),
    Fault("deviation not divided by the positions", SIM, "(spread * between)", "spread", TEST_SIM),
    Fault("samples not centred", SIM, "centred = v - v.mean(axis=1, keepdims=True)", "centred = v", TEST_SIM),
    Fault("dead samples are driven", SIM, " / n * live", " / n", TEST_SIM),
    Fault("rounding is driven as if it were spread", SIM, "DEAD = 1e-8, 1e-6", "DEAD = 1e-8, 0.0", TEST_SIM),
    Fault("maps of three channels reduced", SIM, "x.shape[3] <= 3", "x.shape[3] <= 1", TEST_SIM),
    Fault("wrong label may be right", FF, "rng.integers(1, C, shape)", "rng.integers(0, C, shape)", TEST_FF),
    Fault("right and wrong exchanged", FF, "(tape.labels, 1), (self.wrong(tape), 0)",
          "(tape.labels, 0), (self.wrong(tape), 1)", TEST_FF),
    Fault("wrong pass replaces the right one's gradient", FF, "tape.again(joins=True)", "tape.again()", TEST_FF),
    Fault("threshold not per unit", FF, "self.theta * prod(layer.out_shape)", "self.theta", TEST_FF),
    Fault("label added in training passes alone", FF, "self.net.forward(self.embed(x, self.neutral), tape)",
          "self.net.forward(x, tape)", TEST_FF),
    Fault("goodness of the layer below counted", FF, "[min(self.skip, len(self.hidden) - 1):]", "", TEST_FF),
    Fault("goodness goes on unnormalised", FF, "z = normalise.forward(found[-1], tape)", "z = found[-1]", TEST_FF),
    Fault("label's size left out", FF, "self.scale * label", "label", TEST_FF),
    Fault("labels written over the user's batch", "nplearn/columns.py", "x.shape[-1]).copy(), v.shape[-2]",
          "x.shape[-1]), v.shape[-2]", TEST_FF),
    Fault("one wrong label for ever", FF, 'tape.rng(self.top.layer, "wrong label")', "np.random.default_rng(0)",
          TEST_FF),
    Fault("sum instead of mean", NORM, "/ (x.size // (x.shape[0] * x.shape[-1]))", "/ 1", TEST_NORM),
    Fault("derivative of the length left out", NORM, "(d - x * beside(along, x))", "d", TEST_NORM),
]

"""Faults in the rules that carry a delta through a matrix of the weight's kind."""
from tests.seeded_faults.fault import Fault

FA, KP, PFA = ("nplearn/rules/feedback_alignment.py", "nplearn/rules/kolen_pollack.py",
               "nplearn/rules/product_feedback_alignment.py")
TEST_FA, TEST_KP, TEST_PFA = (f"tests/rules/test_{name}.py" for name in (
    "feedback_alignment", "kolen_pollack", "product_feedback_alignment"))

FAULTS = [
    Fault("scale left out", FA, "B *= self.scale", "pass", TEST_FA),
    Fault("feedback is W", FA, "B = layer.draw(rng)", "B = layer.weight.value.copy()", TEST_FA),
    Fault("one matrix's draw is learned", FA, "return Matrix(B)", "return Matrix(B, learns=True)", TEST_FA),
    Fault("feedback fixed", KP, "learns=True", "learns=False", TEST_KP),
    Fault("gradient of its own, never filled", KP, "layer.feedback.matrix.grad = layer.weight.grad",
          "layer.feedback.matrix.grad[...] = layer.weight.grad", TEST_KP),
    Fault("feedback starts at W", KP, "Matrix(layer.draw(rng)", "Matrix(layer.weight.value.copy()", TEST_KP),
    Fault("scale of B by its rows", PFA, "(3 / (self.density * N))", "(3 / (self.density * n))", TEST_PFA),
    Fault("mask of R not drawn apart", PFA, "R *= mask", "pass", TEST_PFA),
    Fault("aligned start forgotten", PFA, "R[...] = layer.widen(layer.weight.value, B)", "pass", TEST_PFA),
    Fault("collapsed path keeps no gradient", PFA, "layer.feedback.gather(layer)", "pass", TEST_PFA),
]

"""What is measured beside the loss: accuracy, and how far a rule's feedback and updates are from backprop's."""
from nplearn.metrics.accuracy import accuracy, confusion, evaluate, top_k
from nplearn.metrics.angles import angle, mean_sample_angle, norm, ratio, sign_agreement
from nplearn.metrics.probe import Probe

__all__ = ["Probe", "accuracy", "angle", "confusion", "evaluate", "mean_sample_angle", "norm", "ratio",
           "sign_agreement", "top_k"]

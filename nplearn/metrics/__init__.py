"""What is measured beside the loss: accuracy, what a step costs, how far feedback and updates are from backprop's."""
from nplearn.metrics.accuracy import accuracy, confusion, evaluate, top_k
from nplearn.metrics.angles import angle, mean_sample_angle, norm, ratio, sign_agreement
from nplearn.metrics.cost import Cost, Counts, cost, held
from nplearn.metrics.probe import Probe

__all__ = ["Cost", "Counts", "Probe", "accuracy", "angle", "confusion", "cost", "evaluate", "held", "mean_sample_angle",
           "norm", "ratio", "sign_agreement", "top_k"]

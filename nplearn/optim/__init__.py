"""Optimisers move an arena by its gradients; schedules say how fast."""
from nplearn.optim.adam import Adam, AdamW
from nplearn.optim.base import Optimiser
from nplearn.optim.manhattan import BatchManhattan
from nplearn.optim.rmsprop import RMSprop
from nplearn.optim.schedule import Constant, Cosine, MultiStep, Schedule, WarmUp, as_schedule
from nplearn.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "BatchManhattan", "Constant", "Cosine", "MultiStep", "Optimiser", "RMSprop",
           "Schedule", "WarmUp", "as_schedule"]

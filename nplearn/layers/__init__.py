"""The layers a net is made of."""
from nplearn.layers.activation import ELU, Activation, Clip, LeakyReLU, ReLU, Sigmoid, SteepSigmoid, Tanh
from nplearn.layers.base import Layer, Weighted
from nplearn.layers.container import Port, Residual, Sequential, residuals
from nplearn.layers.conv import Conv2d
from nplearn.layers.dense import Dense
from nplearn.layers.dropout import Dropout
from nplearn.layers.first import First
from nplearn.layers.initial import AKROUT, HE_FAN_IN, HE_FAN_OUT, LECUN_NORMAL, ORTHOGONAL, TORCH, XAVIER, ZERO
from nplearn.layers.local import LocallyConnected2d
from nplearn.layers.members import everything, holders, laned, leaves, weighted
from nplearn.layers.norm import BatchNorm
from nplearn.layers.normalise import Normalise
from nplearn.layers.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from nplearn.layers.shape import Flatten, Reshape
from nplearn.layers.shortcut import Subsample
from nplearn.layers.stages import Stage, activities, stages
from nplearn.layers.transposed import Transposed
from nplearn.layers.vector import ON_OFF, ON_OFF_FIRST, Componentwise, Gate, Stacked

__all__ = ["AKROUT", "ELU", "HE_FAN_IN", "HE_FAN_OUT", "LECUN_NORMAL", "ON_OFF", "ON_OFF_FIRST", "ORTHOGONAL", "TORCH",
           "XAVIER", "ZERO", "Activation", "AvgPool2d", "BatchNorm", "Clip", "Componentwise", "Conv2d", "Dense",
           "Dropout", "First", "Flatten", "Gate", "GlobalAvgPool", "Layer", "LeakyReLU", "LocallyConnected2d",
           "MaxPool2d", "Normalise", "Port", "ReLU", "Reshape", "Residual", "Sequential", "Sigmoid", "Stacked", "Stage",
           "SteepSigmoid", "Subsample", "Tanh", "Transposed", "Weighted", "activities", "everything", "holders",
           "laned", "leaves", "residuals", "stages", "weighted"]

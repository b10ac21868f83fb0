"""The layers a net is made of."""
from nplearn.layers.activation import ELU, Activation, LeakyReLU, ReLU, Sigmoid, Tanh
from nplearn.layers.base import Layer, Weighted, everything, holders, laned, leaves, weighted
from nplearn.layers.container import Port, Residual, Sequential, residuals
from nplearn.layers.conv import Conv2d
from nplearn.layers.dense import Dense
from nplearn.layers.dropout import Dropout
from nplearn.layers.initial import AKROUT, HE_FAN_IN, HE_FAN_OUT, LECUN_NORMAL, TORCH, XAVIER, ZERO
from nplearn.layers.local import LocallyConnected2d
from nplearn.layers.norm import BatchNorm
from nplearn.layers.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from nplearn.layers.shape import Flatten, Reshape
from nplearn.layers.shortcut import Subsample
from nplearn.layers.transposed import Transposed

__all__ = ["AKROUT", "ELU", "HE_FAN_IN", "HE_FAN_OUT", "LECUN_NORMAL", "TORCH", "XAVIER", "ZERO", "Activation",
           "AvgPool2d", "BatchNorm", "Conv2d", "Dense", "Dropout", "Flatten", "GlobalAvgPool", "Layer", "LeakyReLU",
           "LocallyConnected2d", "MaxPool2d", "Port", "ReLU", "Reshape", "Residual", "Sequential", "Sigmoid",
           "Subsample", "Tanh", "Transposed", "Weighted", "everything", "holders", "laned", "leaves", "residuals",
           "weighted"]

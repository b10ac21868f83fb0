"""A multilayer perceptron whose layers hear the direction of the activity below and not its length: the net of
Forward-Forward (Hinton 2022, arXiv 2212.13345), whose layers say with their length what they found.

    norm1, fc1, act1, norm2, fc2, act2, ..., normL, fcL for inputs of any shape; fcL is a linear read-out
"""
from nplearn.layers import XAVIER, Normalise, Sequential
from nplearn.nets.mlp import mlp


def normalised_mlp(classes=10, hidden=(512, 512), activation="relu", init=XAVIER):
    """`mlp` with a Normalise in front of each fully connected layer."""
    plain, named = mlp(classes, hidden, activation, init), {}
    for name, layer in plain.children().items():
        if name.startswith("fc"):
            named[f"norm{name[2:]}"] = Normalise()
        named[name] = layer
    return Sequential(**named)

"""A multilayer perceptron: fully connected layers with a nonlinearity between them."""
from nplearn.layers import XAVIER, Dense, Flatten, ReLU, Sequential


def mlp(classes=10, hidden=(512, 512), activation=ReLU, init=XAVIER):
    """fc1, act1, ..., fcL for inputs of any shape. 784-512-512-10 (the PFA paper's MNIST net) has 669,706 parameters.

    hidden      widths of the hidden layers
    activation  a class of nonlinearity, between layers; the output is linear
    """
    named = {"flatten": Flatten()}
    for i, n in enumerate(hidden, start=1):
        named[f"fc{i}"], named[f"act{i}"] = Dense(n, init=init), activation()
    return Sequential(**named, **{f"fc{len(hidden) + 1}": Dense(classes, init=init)})

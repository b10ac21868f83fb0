"""A multilayer perceptron: fully connected layers with a nonlinearity between them."""
from nplearn.errors import SettingError
from nplearn.layers import (
    ELU,
    XAVIER,
    Clip,
    Dense,
    Flatten,
    LeakyReLU,
    ReLU,
    Sequential,
    Sigmoid,
    SteepSigmoid,
    Tanh,
)

ACTIVATIONS = {"relu": ReLU, "leaky-relu": LeakyReLU, "elu": ELU, "tanh": Tanh, "sigmoid": Sigmoid,
               "clip": Clip, "steep-sigmoid": SteepSigmoid}


def mlp(classes=10, hidden=(512, 512), activation=ReLU, init=XAVIER, output=None):
    """fc1, act1, ..., fcL for inputs of any shape. 784-512-512-10 (the PFA paper's MNIST net) has 669,706 parameters.

    hidden      widths of the hidden layers
    activation  a class of nonlinearity or its name, between layers
    output      likewise, behind the last layer; None for a linear output
    """
    activation, output = known("activation", activation), known("output", output)
    named = {"flatten": Flatten()}
    for i, n in enumerate(hidden, start=1):
        named[f"fc{i}"], named[f"act{i}"] = Dense(n, init=init), activation()
    top = {f"fc{len(hidden) + 1}": Dense(classes, init=init)}
    return Sequential(**named, **top, **({f"act{len(hidden) + 1}": output()} if output else {}))


def known(option, kind):
    """The class of nonlinearity of that name; a class, or None, as it is."""
    if not isinstance(kind, str):
        return kind
    if kind not in ACTIVATIONS:
        raise SettingError("mlp", f"{option} {kind!r}", f"one of {', '.join(ACTIVATIONS)}", "choose one of these")
    return ACTIVATIONS[kind]

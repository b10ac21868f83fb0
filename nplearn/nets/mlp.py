"""A multilayer perceptron: fully connected layers with a nonlinearity between them."""
from nplearn.errors import SettingError
from nplearn.layers import (
    ELU,
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
from nplearn.layers.initial import LAWS

ACTIVATIONS = {"relu": ReLU, "leaky-relu": LeakyReLU, "elu": ELU, "tanh": Tanh, "sigmoid": Sigmoid,
               "clip": Clip, "steep-sigmoid": SteepSigmoid}


def mlp(classes=10, hidden=(512, 512), activation=ReLU, init="xavier", output=None):
    """fc1, act1, ..., fcL for inputs of any shape. 784-512-512-10 (the PFA paper's MNIST net) has 669,706 parameters.

    hidden      widths of the hidden layers
    activation  a class of nonlinearity or its name, between layers
    init        the law that weights are drawn from, or its name
    output      a nonlinearity behind the last layer; None for a linear output
    """
    activation, output = known("activation", activation), known("output", output)
    init = known("init", init, LAWS)
    named = {"flatten": Flatten()}
    for i, n in enumerate(hidden, start=1):
        named[f"fc{i}"], named[f"act{i}"] = Dense(n, init=init), activation()
    top = {f"fc{len(hidden) + 1}": Dense(classes, init=init)}
    return Sequential(**named, **top, **({f"act{len(hidden) + 1}": output()} if output else {}))


def known(option, kind, names=ACTIVATIONS):
    """What is called so; what is no name, as it is."""
    if not isinstance(kind, str):
        return kind
    if kind not in names:
        raise SettingError("mlp", f"{option} {kind!r}", f"one of {', '.join(names)}", "choose one of these")
    return names[kind]

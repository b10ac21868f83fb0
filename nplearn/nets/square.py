"""Nets of square weights, which have inverses: every layer is as wide as what it reads, and starts orthogonal.

    square  size-size-...-size: the input's width everywhere, the first outputs are the classes
    tower   784-500-200-10: each layer reads the first units of the one below, as many as it has itself

784-784-784-784-784-784 with leaky ReLU 0.1, at the output too, is the net of Ahmad et al. 2020 (arXiv 2006.06438) for
MNIST; (784, 500, 200, 10) its tower. Outputs beyond the classes, and units not read, have no error.
"""
from nplearn.layers import ORTHOGONAL, Dense, First, Flatten, LeakyReLU, Sequential


def square(classes=10, size=784, hidden=4, widths=None, leak=0.1, init=ORTHOGONAL):
    """fc1, act1, ..., fcL, actL, out for inputs of any shape.

    size, hidden  width of the layers, and how many stand below the last      widths  instead of both, one per layer
    leak          slope of the nonlinearity below zero
    """
    widths, named = tuple(widths or (size,) * (hidden + 1)), {"flatten": Flatten()}
    for i, n in enumerate(widths, start=1):
        if i > 1 and n != widths[i - 2]:
            named[f"first{i}"] = First(n)
        named[f"fc{i}"], named[f"act{i}"] = Dense(n, init=init), LeakyReLU(leak)
    return Sequential(**named, out=First(classes))

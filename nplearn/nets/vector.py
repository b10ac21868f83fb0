"""A net of vector units with weights at 0 or more: the output error of a class tells each unit's component its sign.

    fc1, gate1, ..., fcL for inputs of any shape; K = classes, and fcL is one unit, whose components are the classes.
    784-1024-512-1 is the dense MNIST net of Clark, Abbott and Chung 2021 (arXiv 2106.04089).
"""
from nplearn.errors import SettingError
from nplearn.layers import ON_OFF, ON_OFF_FIRST, Componentwise, Dense, Flatten, Gate, Sequential


def vector(classes=10, hidden=(256, 256)):
    """hidden  widths of the hidden layers, in units; even, as units come in pairs."""
    if not hidden or any(n % 2 for n in hidden):
        raise SettingError("vector", f"hidden {tuple(hidden)}", "even widths, one or more", "change them")
    named, K = {"flatten": Flatten()}, classes
    for i, n in enumerate(hidden, start=1):
        named[f"fc{i}"] = (Dense(K * n, init=ON_OFF_FIRST) if i == 1
                           else Componentwise(Dense(n, init=ON_OFF), K))
        named[f"gate{i}"] = Gate(K)
    return Sequential(**named, **{f"fc{len(hidden) + 1}": Componentwise(Dense(1, init=ON_OFF), K)})

"""Contracts that anybody's layer or rule can be held to, and the Hypothesis strategies that draw the cases.

    check_layer(lambda: MyLayer(7), in_shapes=[(5,), (8, 6, 3)])          runs every law; returns how many checks ran
    check_rule(lambda: MyRule())

A broken law is an AssertionError that names law, layer, settings and the smallest example that was found.
"""
from importlib import import_module

from nplearn.errors import NplearnError

try:
    import hypothesis  # noqa: F401
except ImportError:
    raise NplearnError("nplearn.testing", "Hypothesis is not installed", "Hypothesis 6.100 or later",
                       "install it with pip install 'nplearn[test]', or -e '.[test]' in a clone") from None

from nplearn.testing import strategies  # noqa: E402
from nplearn.testing.layers import Report, check_layer  # noqa: E402
from nplearn.testing.profiles import register_profiles  # noqa: E402

__all__ = ["Report", "check_layer", "check_rule", "register_profiles", "strategies"]


def __getattr__(name):
    if name == "check_rule":                            # rules stand a floor higher: loaded when asked for
        return import_module("nplearn.testing.rules").check_rule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What a rule checks at the edges, when it is made and when it is attached: options, feedback, the net's output."""
import math
import numbers

from nplearn.columns import outside
from nplearn.errors import BuildError, SettingError
from nplearn.feedback import Feedback
from nplearn.layers import base


def fits(layer):
    """What the rule gave the layer is a Feedback, real numbers in the weight's precision and shape: or BuildError."""
    given = layer.feedback
    if not isinstance(given, Feedback):
        raise BuildError(layer.path, f"a feedback that is {type(given).__name__}", "a Feedback",
                         "let the rule's feedback(layer, rng) return one, such as Matrix(B)")
    weight = getattr(layer, "weight", None)
    if weight is None:                                  # a Port
        return
    arrays = {**{name: param.value for name, param in given.params().items()}, **given.fixed()}
    for name, array in arrays.items():
        if array.dtype != weight.value.dtype:
            raise BuildError(layer.path, f"a feedback {name} of {array.dtype}", f"{weight.value.dtype}, as W",
                             "make it by layer.draw(rng), or cast it with rule.put(array)")
    B = given.effective(layer)
    if B is not None and B.shape != layer.weight.value.shape:
        shape, wanted = ("x".join(map(str, x.shape)) for x in (B, layer.weight.value))
        raise BuildError(layer.path, f"a feedback matrix of {shape}", wanted,
                         "draw it with layer.draw(rng), and attach the rule after build()")


def number(rule, name, x, least=-math.inf):
    """x if it is a finite number of at least `least`, else a SettingError that names the rule's option."""
    if isinstance(x, bool) or not isinstance(x, numbers.Real) or not math.isfinite(x) or x < least:
        bound = "" if least == -math.inf else f" of at least {least}"
        raise SettingError(type(rule).__name__, f"{name} {x!r}", f"a finite number{bound}", "give one")
    return x.item() if hasattr(x, "item") else x        # one of NumPy's would make float64 of float32 arrays


def whole(rule, name, x, least=1):
    """x as an int if it is a whole number of at least `least`, else a SettingError that names the rule's option."""
    return base.whole(type(rule).__name__, name, x, least)


def choice(rule, name, x, known, other=""):
    """The one of `known` that x is, else a SettingError that names the rule's option; `other`: what else it may be."""
    found = [k for k in known if x == k and isinstance(x, bool) == isinstance(k, bool)]         # True == 1
    if not found:
        wanted = [str(k).lower() if isinstance(k, bool) else str(k) for k in known]             # as options say it
        raise SettingError(type(rule).__name__, f"{name} {x!r}", " or ".join(wanted) + other, "choose one of these")
    return found[0]


def outputs(net, rule):
    """K, how many numbers per sample the net puts out; BuildError where that is not one axis."""
    if len(net.out_shape) != 1:
        found = f"a net whose output is {outside(net.out_shape)}, {math.prod(net.out_shape)} numbers"
        raise BuildError(type(rule).__name__, found, "one axis",
                         "end the net in one number per class")
    return net.out_shape[0]


def bare(chain):
    """The stages, if parameters stand nowhere but between a weighted layer and its nonlinearity; else BuildError.

    For rules that find an error at the nonlinearity and take it to the weighted layer: others it would not reach."""
    before = [(layer, "before the first weighted layer") for layer in chain[0].below.layers]
    behind = [(layer, "behind a nonlinearity") for stage in chain[:-1] for layer in stage.behind]
    for layer, where in before + behind:
        if layer.params():
            raise BuildError(layer.path, f"a {type(layer).__name__} {where}", "none with parameters",
                             "put it between a weighted layer and its nonlinearity, or use a rule that walks down")
    return chain

"""Laws of all rules at once: one layer learns by the delta rule, and a full field is a fully connected layer."""
import pytest

from nplearn.errors import BuildError
from nplearn.layers import Conv2d, Dense, Flatten, LocallyConnected2d, Sequential, Sigmoid, Tanh
from nplearn.rules import registry
from nplearn.testing.trial import Trial, copies, differ, ready

RULES = registry.names(controls=True)


# -- one layer --------------------------------------------------------------------------------------------------------

NO_DELTA_RULE = {                                       # by design
    "fw-dtp": "its last layer learns from a target too", "l-drl": "its last layer learns from a target too",
    "predsim": "its last layer learns from a share of the loss", "pepita": "its last layer learns from a second pass",
    "np": "all layers learn from noise", "forward-gradient": "all layers learn from noise"}
NO_ONE_LAYER = "gait", "ff"                             # needs a nonlinearity; needs a hidden layer


def one_layer(seed=0):
    return ready(Sequential(fc=Dense(4)), (6,), seed)


@pytest.mark.parametrize("name", [name for name in RULES if name not in NO_ONE_LAYER])
def test_one_layer_learns_by_the_delta_rule(name):
    trial = Trial(one_layer, lambda: registry.make(name))
    for step in range(2):                               # the second time what a rule learns has moved
        trial.run(step)
        wrong = differ(trial.assign(), trial.backprop(), 1e-12)
        assert bool(wrong) == (name in NO_DELTA_RULE), wrong
        trial.step(step)


@pytest.mark.parametrize("name", NO_ONE_LAYER)
def test_what_wants_more_than_a_layer_says_so(name):
    with pytest.raises(BuildError):
        registry.make(name).attach(one_layer())


# -- a full field -----------------------------------------------------------------------------------------------------

MAP = H, C, W = 4, 3, 2                                 # what the layer x reads
NO_MAPS = {"rf-exact", "ndi", "gait", "ff", "gevb"}     # dense layers, square ones, or units of their own kind
NOT_ALIKE = {                                           # by design
    "sim": "of a map its head compares channels, of a vector the units",
    "predsim": "of a map its head compares channels, of a vector the units",
    "brsf": "its magnitudes are drawn in the order of the weight, which is another one"}
SCALES = {"usf": "usf:scale=1"}                          # not by the fan-out
STILL = {name: f"{name}:sigma=0,schedule=parallel" for name in ("tp", "dtp", "sdtp", "ao-sdtp")}
NOISE = "drl", "ddtp", "ptf"                            # what they learn is from noise, in the order of the input


def field(kind, f=Tanh):
    """A net in which x reads a whole map, as a dense layer, a locally connected one or a convolution."""
    x = {"dense": lambda: Dense(5, bias=False), "local": lambda: LocallyConnected2d(5, (H, W), padding="valid",
                                                                                    bias=False),
         "conv": lambda: Conv2d(5, (H, W), padding="valid", bias=False)}[kind]()
    middle = {"flatten": Flatten(), "x": x, "act2": f()} if kind == "dense" else {"x": x, "act2": f(),
                                                                                 "flatten": Flatten()}
    return lambda seed=0: ready(Sequential(low=Conv2d(C, 1), act1=f(), **middle, top=Dense(4)), (H, 2, W), seed)


def as_in(a, shape):
    """An array of the dense net as it is in another: taps in the order (h, w, c), a map's bias shared by positions."""
    if a.shape == shape:
        return a
    if a.size == H * C * W and shape == (C, 1, 1):
        return a.reshape(MAP).sum(axis=(0, 2)).reshape(shape)
    return a.reshape(-1, *MAP).transpose(0, 1, 3, 2).reshape(shape)


@pytest.mark.parametrize("kind", ["local", "conv"])
@pytest.mark.parametrize("name", [name for name in RULES if name not in NO_MAPS | set(NOT_ALIKE)])
def test_a_full_field_is_a_dense_layer(name, kind):
    """Of the weights' gradients and of those of what the rule learns."""
    text, f, found = {**SCALES, **STILL}.get(name, name), Sigmoid if name == "burst" else Tanh, []
    dense, other = (Trial(field(each, f), lambda: registry.make(text)) for each in ("dense", kind))
    given = dense.forward_state() | dense.rule.arrays()
    for path, array in (other.forward_state() | other.rule.arrays()).items():
        array[...] = as_in(given.pop(path), array.shape)
    for trial in dense, other:
        trial.run()
        learned = {} if name in NOISE else trial.rule.params()
        found.append(copies(trial.assign() | {f"rule {path}": param.grad for path, param in learned.items()}))
    wanted = {path: as_in(g, found[1][path].shape) for path, g in found[0].items()}
    assert not given and found[0].keys() == found[1].keys() and not differ(found[1], wanted, 1e-12)


@pytest.mark.parametrize("name", sorted(NO_MAPS))
def test_what_takes_no_full_field_says_so(name):
    with pytest.raises(BuildError):
        registry.make(name).attach(field("local")())

"""A chain, cut at its weighted layers: what rules with targets, relaxations and second passes work on.

    stages(net)              a Stage for each weighted layer, with the unweighted ones behind it
    activities(chain, tape)  h_0 .. h_L of a pass: the input, what each stage handed to the next, the output

The stages share the net's own layers, so a pass over them is a pass of the net.
"""
from nplearn.columns import outside
from nplearn.errors import BuildError
from nplearn.layers.activation import Activation
from nplearn.layers.base import Weighted
from nplearn.layers.container import Sequential
from nplearn.layers.shape import Flatten, Reshape
from nplearn.layers.transposed import Transposed


class Stage:
    """One weighted layer with the unweighted ones behind it; the first stage also has those before it.

    layer       the weighted layer; the stage has its path
    activation  the nonlinearity behind it, or None
    layers, front, behind  all of them; those before the nonlinearity; those behind it

    Made of them, each as one layer:

    whole    the stage                                  linear  the stage without its nonlinearity
    pre      what makes the pre-activation              post    the nonlinearity and what is behind it
    below    what stands before the weighted layer      above   what stands behind it
    between  of `above`, what stands before the nonlinearity    tail    of `above`, what stands behind the nonlinearity
    """

    def __init__(self, layers):
        at, end = _first(Weighted, layers), _first(Activation, layers)
        self.layer, self.activation = layers[at], layers[end] if end < len(layers) else None
        self.layers, self.front, self.behind = layers, layers[:end], layers[end + 1:]
        self.path, self.in_shape, self.out_shape = self.layer.path, layers[0].in_shape, layers[-1].out_shape
        self.whole, self.linear = chain_of(layers), chain_of(self.front + self.behind)
        self.pre, self.post, self.tail = chain_of(self.front), chain_of(layers[end:]), chain_of(self.behind)
        self.below, self.above, self.between = map(chain_of, (layers[:at], layers[at + 1:], layers[at + 1:end]))

    def forward(self, x, tape=None):
        return self.whole.forward(x, tape)

    def backward(self, d, tape):
        return self.whole.backward(d, tape)

    def turned(self):
        """The linear part, read from its end: new layers from the stage's output to its input, not yet built."""
        return Sequential(*map(turn, reversed(self.linear.layers)))


def chain_of(layers):
    """Layers that are built already, as one."""
    chain = Sequential(*layers)
    if layers:
        chain.path, chain.in_shape, chain.out_shape = layers[0].path, layers[0].in_shape, layers[-1].out_shape
    return chain


def turn(layer):
    """A new layer from this one's output to its input: with weights of its own, or only other axes."""
    if isinstance(layer, Flatten | Reshape):
        return Reshape(outside(layer.in_shape))
    if isinstance(layer, Weighted) and not isinstance(layer, Transposed):
        return Transposed(layer)
    raise BuildError(layer.path, f"a {type(layer).__name__}, which has no inverse to learn",
                     "weighted layers, nonlinearities and Flatten", "use strides instead of pooling, and no "
                     "normalisation, or another rule")


def stages(net):
    """The stages of a chain, in forward order; BuildError where the net is no chain."""
    cut = []
    for layer in _flat(net):
        if not cut or isinstance(layer, Weighted) and any(isinstance(other, Weighted) for other in cut[-1]):
            cut.append([])
        if any(layer is other for stage in cut for other in stage):
            raise BuildError(layer.path, "the same layer a second time", "a chain whose layers each stand in one place",
                             "use a layer of its own there, or a rule that takes any net")
        cut[-1].append(layer)
    if not cut or not any(isinstance(layer, Weighted) for layer in cut[0]):
        raise BuildError("net", "no weighted layer", "at least one", "add one")
    for layers in cut:
        kinds = [layer for layer in layers if isinstance(layer, Activation)]
        if len(kinds) > 1 or _first(Activation, layers) < _first(Weighted, layers):
            raise BuildError(kinds[-1].path, "a nonlinearity that is not the only one behind its weighted layer",
                             "one behind each weighted layer at most", "take it away")
    return [Stage(layers) for layers in cut]


def activities(chain, tape):
    """[h_0, ..., h_L] of the pass on `tape`: the input, what each stage handed to the next one, the output."""
    return [tape.input, *(tape.seen(stage.layer)[0] for stage in chain[1:]), tape.output]


def _first(kind, layers):
    """Where the first layer of that kind stands; len(layers) if there is none."""
    return next((i for i, layer in enumerate(layers) if isinstance(layer, kind)), len(layers))


def _flat(layer):
    if isinstance(layer, Sequential):
        return [inner for child in layer.layers for inner in _flat(child)]
    if layer.children():
        raise BuildError(layer.path or type(layer).__name__, f"a {type(layer).__name__}, where the way divides",
                         "a chain: one layer after the other", "use a net without branches, or a rule that takes any")
    return [layer]

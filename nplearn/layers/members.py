"""Which layers a net has: all of them, or those a rule, a report or a checkpoint asks for.

    everything(net)    the net, the layers inside it and those inside them
    leaves(net)        those without layers inside
    weighted(net)      those with the three operators
    holders(net)       those that hold a feedback: the weighted ones and the Ports
    laned(net)         whether threads are of use as lanes
    told(net)          all of them in words, a line each

In forward order, each once: a layer may be used twice. A layer is told by what it has, not by its class.
"""
from nplearn.columns import outside


def everything(net):
    """The net, the layers inside it and those inside them."""
    def walk(layer):
        yield layer
        for child in layer.children().values():
            yield from walk(child)
    return list(dict.fromkeys(walk(net)))


def leaves(net):
    """Every layer without layers inside."""
    return [layer for layer in everything(net) if not layer.children()]


def weighted(net):
    """The weighted layers."""
    return [layer for layer in leaves(net) if hasattr(layer, "adjoint")]


def holders(net):
    """Every layer that holds a feedback: the weighted ones and the Ports."""
    return [layer for layer in leaves(net) if hasattr(layer, "feedback")]


def laned(net):
    """Whether a run's threads are of more use as lanes than to BLAS: where maps are, until they are pooled away."""
    return any(layer.laned for layer in leaves(net))


def told(layer, name="", depth=0):
    """A line for each layer: name, kind, and once it is built the shape it puts out and how many parameters it has."""
    words = [f"{'  ' * depth}{name}:" if name else "", type(layer).__name__]
    if layer.out_shape is not None:
        n = sum(param.value.size for param in layer.params().values())
        words.append(f"-> {'x'.join(map(str, outside(layer.out_shape)))}" + (f", {n:,} parameters" if n else ""))
    inner = [told(child, path, depth + bool(name)) for path, child in layer.children().items()]
    return "\n".join([" ".join(filter(None, words)), *inner])

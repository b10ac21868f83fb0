"""Which layers a net has: all of them, or those a rule, a report or a checkpoint asks for.

    everything(net)    the net, the layers inside it and those inside them
    leaves(net)        those without layers inside
    weighted(net)      those with the three operators
    holders(net)       those that hold a feedback: the weighted ones and the Ports
    laned(net)         whether threads are of use as lanes

In forward order, each once: a layer may be used twice. A layer is told by what it has, not by its class.
"""


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

"""Nets by name. A net is a function that returns a Sequential, made for any rule."""
from math import prod

from nplearn.errors import SettingError
from nplearn.nets.lenet import lenet
from nplearn.nets.mlp import mlp
from nplearn.nets.normalised_mlp import normalised_mlp
from nplearn.nets.resnet import cifar_resnet
from nplearn.nets.square import square
from nplearn.nets.vector import vector

NETS = {
    "mlp": lambda in_shape, classes, **options: mlp(classes, **options),
    "lenet": lambda in_shape, classes, **options: lenet(classes, in_shape[2], in_shape[0], **options),
    "square": lambda in_shape, classes, **options: square(classes, **{"size": prod(in_shape), **options}),
    "vector": lambda in_shape, classes, **options: vector(classes, **options),
    "ff": lambda in_shape, classes, **options: normalised_mlp(classes, **options),
    "resnet20": lambda in_shape, classes, **options: cifar_resnet(20, classes, **options),
}


def make(name, in_shape, classes, **options):
    """The net of that name for inputs of `in_shape` (H, W, C), not yet built."""
    if name not in NETS:
        raise SettingError("net", f"{name!r}", f"one of {', '.join(NETS)}", "choose one of these")
    try:
        return NETS[name](in_shape, classes, **options)
    except TypeError as error:
        raise SettingError(f"net {name}", f"options {options} ({error})", "options the net has",
                           "see its page, nplearn/nets/") from error


__all__ = ["NETS", "cifar_resnet", "lenet", "make", "mlp", "normalised_mlp", "square", "vector"]

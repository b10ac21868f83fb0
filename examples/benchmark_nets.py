"""What the benchmark trains: the same nets on every side, by name. Plain facts, so that a rival imports no more.

A whole net takes rows and labels, as in training. A piece stands for the middle of a larger net: its input lies ready
in the layout of its side, and the error at its input is computed too. A bare layer is a piece whose output error is
given.
"""
import os
from typing import NamedTuple

DEVICE = os.environ.get("NPLEARN_BENCHMARK_DEVICE", "cpu")               # where both sides compute: cpu or gpu
LEARNING_RATE, MOMENTUM = 1e-4, 0.9                     # small: no rule diverges in thousands of steps


class Net(NamedTuple):
    """shape  of a sample as in rows    batch  samples a step    piece, bare  as above    large  raced only if named"""

    shape: tuple
    batch: int = 128
    piece: bool = False
    bare: bool = False
    large: bool = False

    @property
    def maps(self):
        """Whether a sample is a map, which PyTorch can hold in two layouts."""
        return len(self.shape) == 3


NETS = {
    "mlp": Net((784,)),                                                 # 784-1000-1000-10
    "lenet": Net((32, 32, 3)),                                          # LeNet-5, kernels 5x5
    "resnet20": Net((32, 32, 3)),
    "local": Net((16, 16, 64), piece=True, bare=True),                  # to 8x8x128, 5x5, stride 2, nothing shared
    "conv64": Net((56, 56, 64), 16, piece=True, bare=True),             # 64 to 64, 3x3
    "small1": Net((784,), 1), "small8": Net((784,), 8), "small32": Net((784,), 32),     # 784-100-10
    "block": Net((56, 56, 64), 16, piece=True),                         # the first stage of a ResNet-18, and a head
    "pfa": Net((784,), 64),                                             # 784-512-512-10, batch as in the PFA paper
    "resnet20x1024": Net((32, 32, 3), 1024, large=True),                # ResNet-20, batch 1024
    "resnet18": Net((224, 224, 3), 256, large=True),                    # of He et al. 2016, for ImageNet; ten classes
}
QUICK = ("mlp", "lenet", "small32")
BIOTORCH_NET = "lenet"
BIOTORCH = {                                                            # its mode: our rule of the same meaning
    "backpropagation": "backprop", "fa": "fa", "dfa": "dfa:form=biotorch", "usf": "usf", "brsf": "brsf", "frsf": "frsf"}

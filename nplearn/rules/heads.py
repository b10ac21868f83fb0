"""The heads of local losses: what a hidden layer's output is read by, and by nothing else.

    sim    P, n x n; on maps a 3x3 convolution from its channels to as many; no bias
    pred   V and a bias, one output per class, both zero at first; on maps behind an average over windows
"""
from nplearn.columns import outside
from nplearn.layers import TORCH, ZERO, AvgPool2d, Conv2d, Dense, Flatten, Sequential, everything


def sim(shape, classes, width):
    return (Conv2d(shape[1], 3, bias=False, init=TORCH) if len(shape) == 3
            else Dense(shape[0], bias=False, init=TORCH))


def pred(shape, classes, width):
    kernel = window(shape, width) if len(shape) == 3 else (1, 1)
    pool = [] if kernel == (1, 1) else [AvgPool2d(kernel, padding="same")]
    return Sequential(*pool, Flatten(), Dense(classes, init=ZERO))


def window(shape, width):
    """Of the pool that leaves at most `width` numbers of a map (H, C, W): doubled in height, then width, in turn."""
    (H, C, W), (kh, kw) = shape, (1, 1)
    while C * -(-H // kh) * -(-W // kw) > width and (kh < H or kw < W):
        kh, kw = (2 * kh, kw) if kh == kw else (kh, 2 * kw)
    return kh, kw


def grown(kind, layer, classes, width, seed, net):
    """The head of a layer of `net`, built; its start depends on the seed and the layer's path alone."""
    head, path = kind(layer.in_shape, classes, width), f"{layer.path}.head.{kind.__name__}"
    head.build(outside(layer.in_shape), (seed, path), net.dtype, net.device)
    head.reach(True)                                    # an error at its input is what it is for
    for part in everything(head):
        part.path = path
    return head

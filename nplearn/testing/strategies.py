"""What the contracts draw: shapes, ways to cut a batch, layers with their settings, small nets.

Hypothesis chooses sizes, settings and a seed; arrays come from a NumPy generator of that seed, so that no entry is ever
a special value that hides a fault. Maps are never square, and channels differ from both sides.
"""
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from nplearn import layers as L
from nplearn.columns import outside
from nplearn.kernels.window import Window, pads_for

INITS = [L.XAVIER, L.TORCH, L.HE_FAN_OUT, L.LECUN_NORMAL, L.ZERO]


class Case(NamedTuple):
    """A layer to be made afresh as often as wanted, and the shape (as in rows) of the input it is for."""

    says: str
    make: object
    in_shape: tuple

    def __repr__(self):
        return f"{self.says} on {self.in_shape}"


def case(kind, in_shape, *values, **options):
    """The Case of `kind(*values, **options)`."""
    words = [*map(repr, values), *(f"{k}={getattr(v, 'name', v)!r}" for k, v in options.items())]
    return Case(f"{kind.__name__}({', '.join(words)})", lambda: kind(*values, **options), tuple(in_shape))


# -- sizes and numbers ------------------------------------------------------------------------------------------------

def seeds():
    return st.integers(0, 2**32 - 1)


def dtypes():
    return st.sampled_from([np.float64, np.float32])


def chunkings(most=3, widest=4):
    """(T, nb): how a batch of T nb samples is cut."""
    return st.tuples(st.integers(1, most), st.integers(1, widest))


def features(least=1, most=11):
    """A sample's shape (features,)."""
    return st.integers(least, most).map(lambda n: (n,))


@st.composite
def maps(draw, least=1, most=8):
    """A sample's shape (H, W, C), never square, C unlike both sides."""
    H = draw(st.integers(least, most))
    W = draw(st.integers(least, most).filter(lambda n: n != H))
    return H, W, draw(st.integers(1, 5).filter(lambda n: n not in (H, W)))


def samples():
    """Features or a map."""
    return features() | maps()


def noise(seed, shape, dtype=np.float64):
    """Standard normal numbers of `shape`, a function of `seed` alone."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# -- weighted layers --------------------------------------------------------------------------------------------------

@st.composite
def dense(draw):
    return case(L.Dense, draw(features()), draw(st.integers(1, 9)), bias=draw(st.booleans()),
                init=draw(st.sampled_from(INITS)))


def paddings(kernel):
    """Every form that Conv2d reads; numbers stay below the kernel, so that each window sees the map."""
    def below(n):
        return st.integers(0, n - 1)
    (kh, kw) = kernel
    both = st.tuples(st.tuples(below(kh), below(kh)), st.tuples(below(kw), below(kw)))
    return st.sampled_from(["same", "valid"]) | below(min(kernel)) | st.tuples(below(kh), below(kw)) | both


@st.composite
def windows(draw, in_shape, dilated=True):
    """(kernel, stride, padding, dilation) of a window that fits on a map of in_shape (H, W, C)."""
    def fits(found):
        kernel, stride, padding, dilation = found
        H, W = in_shape[:2]
        pads = pads_for(padding, H, W, kernel, stride, dilation)
        return min(Window(kernel, stride, pads, dilation).out(H, W)) > 0
    kernel = draw(st.tuples(*(st.integers(1, min(4, n + 1)) for n in in_shape[:2])))
    strides = st.tuples(st.integers(1, 3), st.integers(1, 3)) | st.just((1, 1))
    dilations = st.tuples(st.integers(1, 3), st.integers(1, 3)) if dilated else st.just((1, 1))
    found = st.tuples(st.just(kernel), strides, paddings(kernel), st.just((1, 1)) | dilations)
    return draw(found.filter(fits) | st.just((kernel, (1, 1), "same", (1, 1))))


@st.composite
def conv2d(draw):
    """Strides, asymmetric padding, dilation, groups, depthwise, with and without bias."""
    in_shape = draw(maps())
    C = in_shape[2]
    kernel, stride, padding, dilation = draw(windows(in_shape))
    groups = draw(st.sampled_from([g for g in range(1, C + 1) if C % g == 0]))
    n = groups * draw(st.integers(1, 3))
    return case(L.Conv2d, in_shape, n, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
                bias=draw(st.booleans()), init=draw(st.sampled_from(INITS)))


@st.composite
def locally_connected2d(draw):
    in_shape = draw(maps(most=6))
    kernel, stride, padding, _ = draw(windows(in_shape, dilated=False))
    return case(L.LocallyConnected2d, in_shape, draw(st.integers(1, 4)), kernel, stride=stride, padding=padding,
                bias=draw(st.booleans()), init=draw(st.sampled_from(INITS)))


@st.composite
def transposed(draw):
    """A dense, convolution or locally connected layer turned round."""
    inner = draw(dense() | conv2d() | locally_connected2d())
    bias = draw(st.booleans())

    def built():
        layer = inner.make()
        layer.groups = 1                                # a Transposed refuses groups
        return layer.build(inner.in_shape, 5, np.float64)
    return Case(f"Transposed({inner!r}, bias={bias})", lambda: L.Transposed(built(), bias), outside(built().out_shape))


# -- unweighted layers ------------------------------------------------------------------------------------------------

@st.composite
def activations(draw):
    kinds = [(L.ReLU, {}), (L.LeakyReLU, {"leak": 0.2}), (L.ELU, {"alpha": 0.7}), (L.Tanh, {}), (L.Sigmoid, {})]
    kind, options = draw(st.sampled_from(kinds))
    return case(kind, draw(samples()), **options)


@st.composite
def pools(draw, kinds=(L.MaxPool2d, L.AvgPool2d)):
    in_shape = draw(maps())
    kernel, stride, padding, _ = draw(windows(in_shape, dilated=False))
    return case(draw(st.sampled_from(kinds)), in_shape, kernel, stride=stride, padding=padding)


def global_pools():
    return maps().map(lambda shape: case(L.GlobalAvgPool, shape))


@st.composite
def batch_norms(draw):
    return case(L.BatchNorm, draw(samples()), eps=draw(st.sampled_from([1e-5, 1e-2])),
                momentum=draw(st.sampled_from([0.1, 0.4])))


@st.composite
def dropouts(draw):
    return case(L.Dropout, draw(samples()), draw(st.sampled_from([0.0, 0.3, 0.5, 0.8])))


def flattens():
    return samples().map(lambda shape: case(L.Flatten, shape))


@st.composite
def reshapes(draw):
    H, W, C = draw(maps())
    return case(L.Reshape, *draw(st.sampled_from([((H, W, C), (H * W * C,)), ((H * W * C,), (W, C, H)),
                                                  ((H, W, C), (C, H, W))])))


@st.composite
def subsamples(draw):
    H, W, C = draw(maps())
    return case(L.Subsample, (H, W, C), C + draw(st.integers(0, 3)), draw(st.integers(1, 3)))


def ports():
    return samples().map(lambda shape: case(L.Port, shape))


# -- layers of layers -------------------------------------------------------------------------------------------------

@st.composite
def chains(draw):
    """A few layers in a row, the last weighted."""
    H, W, C = draw(maps(least=4))
    n, dense_n = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    act = draw(st.sampled_from([L.ReLU, L.Tanh, L.Sigmoid]))
    norm = draw(st.booleans())

    def make():
        middle = {"norm": L.BatchNorm()} if norm else {}
        return L.Sequential(conv=L.Conv2d(n, 3, stride=2), **middle, act=act(), pool=L.AvgPool2d(2, 1),
                            flatten=L.Flatten(), fc=L.Dense(dense_n))
    return Case(f"Sequential(conv={n}, norm={norm}, act={act.__name__}, pool, flatten, fc={dense_n})", make, (H, W, C))


@st.composite
def residual_blocks(draw):
    """A residual block with the identity or a weighted shortcut."""
    H, W, C = draw(maps(least=3))
    act, across = draw(st.sampled_from([L.Tanh, L.ReLU])), draw(st.booleans())
    n = draw(st.integers(1, 4)) if across else C

    def make():
        shortcut = L.Conv2d(n, 1, stride=2, bias=False) if across else None
        return L.Residual(conv1=L.Conv2d(2, 3, stride=2 if across else 1), act=act(), conv2=L.Conv2d(n, 3, bias=False),
                          shortcut=shortcut)
    return Case(f"Residual(conv1, act={act.__name__}, conv2={n}, weighted shortcut={across})", make, (H, W, C))


@st.composite
def nets(draw, dtype=np.float64, norm=True, kinds=("mlp", "maps", "residual")):
    """A small built net with 3 or more weighted layers, each of which but the lowest sends; classes differ from widths.

    mlp       features, 2 or 3 hidden layers
    maps      convolution, BatchNorm (where `norm`), pool, locally connected layer, two dense ones
    residual  convolution, two blocks (identity and weighted shortcut), global mean, dense
    """
    kind, seed, classes = draw(st.sampled_from(kinds)), draw(seeds()), draw(st.integers(2, 5))
    act = draw(st.sampled_from([L.Tanh, L.ReLU, L.Sigmoid]))
    widths = draw(st.permutations([6, 7, 8, 9]))
    if kind == "mlp":
        net, in_shape = _mlp(widths[:draw(st.integers(2, 3))], classes, act), draw(features(least=3))
    elif kind == "maps":
        net = _maps(widths, classes, act, norm)
        in_shape = draw(st.sampled_from([6, 8])), 7, draw(st.integers(1, 3))
    else:
        net = _residual(widths, classes, act, norm)
        in_shape = 5, draw(st.sampled_from([4, 6])), draw(st.integers(1, 3))
    return net.build(in_shape, seed, dtype)


def _mlp(widths, classes, act):
    named = {}
    for i, n in enumerate(widths, start=1):
        named[f"fc{i}"], named[f"act{i}"] = L.Dense(n), act()
    return L.Sequential(**named, out=L.Dense(classes))


def _norm(wanted, name):
    return {name: L.BatchNorm()} if wanted else {}


def _maps(widths, classes, act, norm):
    return L.Sequential(conv=L.Conv2d(widths[0], 3, padding=((1, 0), (2, 1))), **_norm(norm, "norm"), act1=act(),
                        pool=L.MaxPool2d(2), local=L.LocallyConnected2d(widths[1], (3, 2), stride=(2, 1)), act2=act(),
                        flatten=L.Flatten(), fc1=L.Dense(widths[2]), act3=act(), fc2=L.Dense(classes))


def _residual(widths, classes, act, norm):
    n, wide = widths[:2]
    return L.Sequential(
        conv=L.Conv2d(n, 3, bias=False), **_norm(norm, "norm"), act1=act(),
        block1=L.Residual(conv1=L.Conv2d(n, 3), act=act(), conv2=L.Conv2d(n, 3, bias=False)), act2=act(),
        block2=L.Residual(conv1=L.Conv2d(wide, 3, stride=2), act=act(), conv2=L.Conv2d(wide, 3, bias=False),
                          shortcut=L.Conv2d(wide, 1, stride=2, bias=False)), act3=act(),
        mean=L.GlobalAvgPool(), fc=L.Dense(classes))


def batch(net, seed, n):
    """(inputs as rows, class labels) for a built net: random, a function of `seed`."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, *outside(net.in_shape))).astype(net.dtype), rng.integers(0, net.out_shape[0], n))

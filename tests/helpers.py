"""What several tests share: a layer in a net whose input error is wanted, and its twin in PyTorch's axes."""
import numpy as np

from nplearn.columns import rows
from nplearn.layers import Sequential
from nplearn.tape import Tape
from nplearn.testing.layer_run import Source


def on_source(layer, in_shape, seed=0, dtype=np.float64):
    """A net of `layer` on a Source, with all parameters moved off their start."""
    net = Sequential(source=Source(), layer=layer).build(in_shape, seed, dtype)
    rng = np.random.default_rng(seed + 1)
    for param in net.arena.params[1:]:
        param.value += 0.3 * rng.standard_normal(param.value.shape)
    return net


def walk(net, x_rows, rng, mode="train"):
    """(output, cotangent, error at the input), all as rows: one pass and the walk down from a random cotangent."""
    tape = Tape(net, mode=mode).begin(x_rows, seed=1)
    y = net.forward(tape.input, tape)
    d = rng.standard_normal(y.shape).astype(y.dtype)
    return rows(y), rows(d), rows(net.backward(d, tape))


def channels_first(x):
    """Rows (N, H, W, C) -> (N, C, H, W); (N, F) stays."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def tensor(torch, array, grad=False):
    return torch.tensor(np.ascontiguousarray(array), dtype=torch.float64, requires_grad=grad)


def agree(found, wanted, factor=1e-12):
    """Within 1e-12 of the largest entry of `wanted` (a torch tensor or an array), in float64."""
    wanted = wanted.detach().numpy() if hasattr(wanted, "detach") else wanted
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= factor * max(1.0, np.abs(wanted).max())


def close(found, wanted, n=None, scale=0.0):
    """Agree to rounding of sums of n terms, relative to the largest entry of `wanted` or to `scale`."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape, f"shape {found.shape}, wanted {wanted.shape}"
    n, eps = n or max(wanted.size, 16), np.finfo(wanted.dtype).eps
    worst, scale = np.abs(found - wanted).max(initial=0), max(np.abs(wanted).max(initial=0), scale)
    assert worst <= 8 * eps * n ** 0.5 * scale, f"{worst:.3g} apart, scale {scale:.3g}"

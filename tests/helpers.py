"""What several tests share: a layer whose input error is wanted, its twin in PyTorch's axes, slopes, and one trial
with its batch in one chunk and in two, or in float32 and in float64."""
import numpy as np

from nplearn.columns import outside, rows
from nplearn.layers import Sequential, weighted
from nplearn.tape import Tape
from nplearn.testing.layer_run import Source
from nplearn.testing.trial import Trial, differ

# -- a layer alone, numbers beside numbers ----------------------------------------------------------------------------

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


# -- slopes -----------------------------------------------------------------------------------------------------------

def slope(loss, param, direction, step=1e-5):
    """Derivative of loss() as param moves along `direction`, by central differences."""
    start, values = param.value.copy(), []
    for sign in (1, -1):
        param.value[...] = start + sign * step * direction
        values.append(loss())
    param.value[...] = start
    return (values[0] - values[1]) / (2 * step)


def assert_backprop_is_the_slope_of_the_loss(net, tape, rng, step=1e-6):
    """Every gradient of a tape that has run, along a random direction."""
    net.backward(tape.error, tape)
    for param in net.arena.params:
        gradient, u = param.grad.copy(), rng.uniform(-1, 1, param.value.shape)
        found, wanted = slope(lambda: tape.again().run(), param, u, step), (gradient * u).sum()
        assert abs(found - wanted) <= 1e-7 * np.linalg.norm(gradient) * np.linalg.norm(u), param.path


# -- a trial, and the same cut or rounded otherwise -------------------------------------------------------------------

def deltas(trial):
    """[delta of each weighted layer], by the rule, of a trial that has run."""
    walk = trial.tape.walk(records=True)
    trial.rule.assign(trial.net, walk)
    return [walk.deltas[layer][0] for layer in weighted(trial.net)]


def after_steps(trial, steps=3):
    for step in range(steps):
        trial.step(step)
    return trial


def remade(build, dtype=np.float64, column_bytes=2**21):
    """build(seed) in another dtype; a batch of 8 makes one chunk at 0 bytes, two at 2**21."""
    def again(seed):
        net = build(seed)
        net.build(outside(net.in_shape), seed, dtype)
        net.column_bytes = column_bytes
        return net
    return again


def one_chunk_and_two(build, rule, found, dtype=np.float64):
    """[found(trial)] of a batch in one chunk, and of the same in two."""
    trials = [Trial(remade(build, dtype, column_bytes), rule) for column_bytes in (0, 2**21)]
    results = [found(trial) for trial in trials]
    assert [len(trial.tape.input) for trial in trials] == [1, 2]
    return results


def single_and_double(build, rule, found):
    """[found(trial)] in float32, and in float64."""
    return [found(Trial(remade(build, dtype), rule)) for dtype in (np.float32, np.float64)]


def assert_float32_stays_and_is_near_float64(build, rule):
    """Three steps: every outer product and every array of the rule is in the net's dtype, arrays are near in both."""
    def arrays(trial):
        heard = set()
        for layer in trial.rule.layers:
            def outer(x, d, outer=layer.outer, **out):
                heard.update((x.dtype, d.dtype))
                return outer(x, d, **out)
            layer.outer = outer
        after_steps(trial)
        assert heard == {trial.net.arena.value.dtype} == {array.dtype for array in trial.rule.arrays().values()}
        return trial.rule.arrays()
    single, double = single_and_double(build, rule, arrays)
    assert {array.dtype for array in single.values()} == {np.dtype(np.float32)} and not differ(single, double, 1e-4)

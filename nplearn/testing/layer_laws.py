"""The laws of the layer contract. Each takes `check(holds, says)` and a `Run`, and makes one check or more.

    weighted    <apply(x, W), d> = <x, adjoint(d, W, x.shape)> = <W, outer(x, d)>      W of any width
                adjoint(mix(d, B), R) = adjoint(d, B R)      outer(x, mix(d, B)) = B' outer(x, d)
    all         <tangent(v), d> = <v, backward(d)>
                backward and gradients are the derivatives (central differences, float64)
                and passes are pure, walks repeat, samples do not meet, cuts do not matter
"""
import numpy as np

from nplearn.columns import columns, inside, rows
from nplearn.errors import BuildError
from nplearn.layers import Layer, Sequential, everything, leaves
from nplearn.tape import Tape
from nplearn.testing.layer_run import Source, all_same, dot, near, norm, room, same, scales, size, state


def apart(found, wanted):
    return f"{found!r} and {wanted!r}, {abs(found - wanted):.3g} apart"


# -- laws of weighted layers ------------------------------------------------------------------------------------------

def _weights(run):
    """Matrices of the weight's kind: the layer's width, a wider and a narrower one, each full of random numbers."""
    step, n = run.layer.groups, run.layer.n_out
    for width in dict.fromkeys((n, n + 2 * step, max(step, n - step))):
        yield width, run.noise(run.layer.draw(np.random.default_rng(run.seed), width).shape)


def operators(check, run):
    layer, x = run.layer, run.x
    for width, W in _weights(run):
        check(width != layer.n_out or W.shape == layer.weight.value.shape, "draw is not shaped like the weight")
        a = layer.apply(x, W)
        d, tolerance = run.noise(a.shape), room(run.dtype, size(x, W, a))
        dx, dW = layer.adjoint(d, W, x.shape), layer.outer(x, d)
        check(dx.shape == x.shape, f"adjoint has shape {dx.shape}, the input {x.shape}")
        check(dW.shape == W.shape, f"outer has shape {dW.shape}, a weight of {width} outputs {W.shape}")
        left, scale = dot(a, d), norm(a) * norm(d)
        check(abs(left - dot(x, dx)) <= tolerance * scale, f"<apply(x, W), d> and <x, adjoint(d, W)>, width {width}: "
              + apart(left, dot(x, dx)))
        check(abs(left - dot(W, dW)) <= tolerance * scale, f"<apply(x, W), d> and <W, outer(x, d)>, width {width}: "
              + apart(left, dot(W, dW)))


def linear(check, run):
    layer, x = run.layer, run.x
    for width, W in _weights(run):
        z, V, n = run.noise(x.shape), run.noise(W.shape), size(x, W)
        a = layer.apply(x, W)
        d, e = run.noise(a.shape), run.noise(a.shape)
        for name, scale, both, one, other in (
                ("apply in x", norm(x) * norm(W), layer.apply(x - 2 * z, W), a, layer.apply(z, W)),
                ("apply in W", norm(x) * norm(W), layer.apply(x, W - 2 * V), a, layer.apply(x, V)),
                ("adjoint in d", norm(d) * norm(W), layer.adjoint(d - 2 * e, W, x.shape), layer.adjoint(d, W, x.shape),
                 layer.adjoint(e, W, x.shape)),
                ("outer in d", norm(d) * norm(x), layer.outer(x, d - 2 * e), layer.outer(x, d), layer.outer(x, e))):
            check(near(both, one - 2 * other, run.dtype, n, scale), f"{name} is not linear, width {width}")


def mixes(check, run):
    """B (n, N) takes n output channels to N; in a layer of groups it keeps to the blocks."""
    layer, x = run.layer, run.x
    n, g = layer.n_out, layer.groups
    for N in dict.fromkeys((g, n, n + 3 * g)):
        B = run.noise((n, N)) * np.kron(np.eye(g), np.ones((n // g, N // g))).astype(run.dtype)
        W, R = run.noise(layer.weight.value.shape), run.noise(layer.draw(np.random.default_rng(run.seed), N).shape)
        a = layer.apply(x, W)
        d = run.noise(a.shape)
        mixed, terms = layer.mix(d, B), size(x, W, a)
        check(mixed.shape == layer.apply(x, R).shape, f"mix gives shape {mixed.shape}, {N} channels wanted")
        check(near(layer.apply(x, layer.widen(W, B)), layer.mix(a, B), run.dtype, terms, norm(B) * norm(x) * norm(W)),
              f"apply(x, B' W) is not B' a, N {N}")
        check(near(layer.outer(x, mixed), layer.widen(layer.outer(x, d), B), run.dtype, terms,
                   norm(B) * norm(x) * norm(d)), f"outer(x, B' d) is not B' outer(x, d), N {N}")
        check(near(layer.adjoint(mixed, R, x.shape), layer.adjoint(d, layer.widen(R, B.T), x.shape), run.dtype, terms,
                   norm(B) * norm(d) * norm(R)),
              f"adjoint(B' d, R) is not adjoint(d, B R), N {N}")


# -- laws of every layer ----------------------------------------------------------------------------------------------

def shaped(check, run):
    """Declared shapes are true, and everything has the net's precision."""
    T, nb = run.cut
    for tape in (None, Tape(run.net, mode="train").begin(rows(run.x)), Tape(run.net, mode="probe").begin(rows(run.x))):
        y = run.build(run.dtype)[0].forward(run.x) if tape is None else run.net.forward(run.x, tape)
        check(y.shape == (T, *run.layer.out_shape, nb), f"output {y.shape}, declared {run.layer.out_shape}")
        check(y.dtype == run.dtype, f"output is {y.dtype}")
    tape, _ = run.forward()
    dx = run.net.backward(run.d, tape)
    check(dx.shape == run.x.shape and dx.dtype == run.dtype, f"backward gives {dx.shape} {dx.dtype}")
    for param in run.net.arena.params:
        check(param.value.dtype == param.grad.dtype == run.dtype, f"{param.path} is {param.value.dtype}")
    if has_tangent(run):
        v = run.net.tangent(run.noise(run.x.shape), tape.walk(up=True))
        check(v.shape == run.d.shape and v.dtype == run.dtype, f"tangent gives {v.shape} {v.dtype}")


def transposes(check, run, net=None):
    net, v = net or run.net, run.noise(run.x.shape)
    tape, y = run.forward(net)
    d = run.noise(y.shape)
    a, dx = net.tangent(v, tape.walk(up=True)), net.backward(d, tape)
    scale = norm(a) * norm(d) + norm(v) * (norm(dx) + 1000 * norm(d) * run.couples)
    check(abs(dot(a, d) - dot(v, dx)) <= room(run.dtype, size(v, d)) * scale,
          "<tangent(v), d> and <v, backward(d)>: " + apart(dot(a, d), dot(v, dx)))


def derivatives(check, run, twice=False):
    """Along a random direction of the input and of each parameter, in float64: (4 D(h) - D(2h)) / 3 of a functional."""
    net, _ = run.build(np.float64, twice)
    x, h = run.spread(run.x.shape, np.float64), 1e-4
    tape, y = run.forward(net, x)
    c, e = run.noise(y.shape, np.float64), run.noise(y.shape, np.float64)
    dx = net.backward(c + e * y, tape)                  # of  sum c y + e y^2 / 2

    def along(array, gradient, name):
        start, u = array.copy(), run.rng.uniform(-1, 1, array.shape)
        values = {}
        for step in (-2, -1, 1, 2):
            array[...] = start + step * h * u
            y = run.forward(net, x)[1]
            values[step] = dot(c, y) + dot(e, y * y) / 2
        array[...] = start
        near_by, far = (values[1] - values[-1]) / (2 * h), (values[2] - values[-2]) / (4 * h)
        found, wanted = (4 * near_by - far) / 3, dot(gradient, u)
        allowed = 1e-7 * (norm(gradient) * norm(u) + norm(y) * (norm(c) + norm(e * y)))
        if abs(found - wanted) > allowed and abs(near_by - far) > 30 * allowed:
            run.report.kinks += 1                       # the quotients disagree: no derivative here to compare with
            return
        check(abs(found - wanted) <= allowed, f"derivative by {name}: differences give {apart(found, wanted)}")

    gradients = run.gradients(net)
    along(x, dx, "the input")
    for param in net.arena.params[1:]:
        along(param.value, gradients[param.path], param.path)


def used_twice(check, run):
    """Gradients of a layer's two visits add, each with what it kept itself."""
    derivatives(check, run, twice=True)
    net, _ = run.build(run.dtype, twice=True)
    if has_tangent(run):
        transposes(check, run, net)
    once, tape = run.build(run.dtype)[0], Tape(run.net, mode="probe").begin(rows(run.x), seed=3)
    if not same(run.net.forward(run.x, tape), run.net.forward(run.x, tape)):
        return                                          # draws another mask at its second visit: no two passes to add
    both, _ = run.forward(net)
    net.backward(run.d, both)
    total = run.gradients(net)
    first, _ = run.forward(once)
    once.backward(run.d, first)
    parts = run.gradients(once)
    second, _ = run.forward(once, run.x[..., ::-1])
    once.backward(2 * run.d, second)
    for name, part in run.gradients(once).items():
        check(near(total[name], parts[name] + part, run.dtype, size(run.x, run.d), scales(run)[2]),
              f"gradient of {name} is not the sum over both visits")


def pure(check, run):
    """A pass repeats to the bit, leaves its input alone, and without a tape leaves nothing behind."""
    x, before = run.x.copy(), state(run.net)
    check(same(run.net.forward(run.x), run.net.forward(run.x)), "two inferences differ")
    check(state(run.net) == before, "inference changed the layer")
    first, second = run.forward(), run.forward()
    check(same(first[1], second[1]), "two passes with the same seed differ")
    check(state(run.net) == before, "a pass in mode probe changed the layer")
    again = first[0].again()
    check(same(first[1], run.net.forward(again.input, again)), "tape.again() gives another output")
    run.net.backward(run.d, first[0])
    check(state(run.net) == before, "a walk changed more than gradients")
    run.forward(mode="train")
    moved = {key for key, value in state(run.net).items() if value != before.get(key)}
    running = {(layer.path, name) for layer in leaves(run.net) for name in layer.buffers()}
    check(moved <= running, f"a training pass changed {sorted(moved - running)}")
    check(same(run.x, x), "the input was written to")


def walks(check, run):
    """A tape may be walked as often as one likes: same bits, gradients assigned anew, nothing kept is touched."""
    tape, y = run.forward()
    d, out = run.d.copy(), y.copy()
    dx = run.net.backward(run.d, tape).copy()
    gradients = run.gradients()
    for name, walk in (("a second walk", tape), ("tape.walk()", tape.walk())):
        check(same(dx, run.net.backward(run.d, walk)) and all_same(gradients, run.gradients()), f"{name} differs")
    check(same(dx, run.net.backward(run.d, tape.walk(exact=True))), "the exact walk of a net without rule differs")
    for param in run.net.arena.params:
        param.grad[...] = 7
    check(same(dx, run.net.backward(run.d, tape.walk(collects=False))), "a walk that collects nothing differs")
    check(bool((run.net.arena.params[-1].grad == 7).all()), "a walk that collects nothing wrote a gradient")
    check(same(d, run.d) and same(out, y), "a walk wrote to the error or to the output")


def samples_apart(check, run):
    """An output depends on its own sample alone; where batch statistics are used, only without a tape."""
    if run.x.shape[0] * run.x.shape[-1] < 2:
        return
    other = run.spread(run.x.shape, run.dtype)
    other[0, ..., 0] = run.x[0, ..., 0]
    passes = [("inference", lambda x: run.net.forward(x))]
    if not run.couples:
        passes.append(("a pass", lambda x: run.forward(x=x)[1]))
    for name, output in passes:
        check(near(output(run.x)[0, ..., 0], output(other)[0, ..., 0], run.dtype, run.x.size, scales(run)[0]),
              f"{name}: other samples change the output of the first")
    if not run.couples:
        tape, _ = run.forward()
        d = run.noise(run.d.shape)
        d[0, ..., 0] = run.d[0, ..., 0]
        dx = run.net.backward(run.d, tape).copy()
        check(near(dx[0, ..., 0], run.net.backward(d, tape)[0, ..., 0], run.dtype, run.d.size, scales(run)[1]),
              "other samples' errors change the error of the first")


def cuts(check, run):
    """The same rows cut otherwise give the same, to rounding: outputs, error at the input, gradients."""
    tape, y = run.forward()
    dx, gradients, n = rows(run.net.backward(run.d, tape)), run.gradients(), size(run.x, run.d)
    outputs, errors, sums = scales(run)
    for nb in (1, run.x.shape[0] * run.x.shape[-1]):
        other, d = columns(rows(run.x), nb), columns(rows(run.d), nb)
        tape, z = run.forward(x=other)
        check(near(rows(y), rows(z), run.dtype, n, outputs), f"outputs differ with {nb} samples to a chunk")
        check(near(rows(run.net.forward(run.x)), rows(run.net.forward(other)), run.dtype, n, outputs),
              f"inference differs with {nb} samples to a chunk")
        check(near(dx, rows(run.net.backward(d, tape)), run.dtype, n, errors),
              f"errors differ with {nb} samples to a chunk")
        for name, gradient in run.gradients().items():
            check(near(gradients[name], gradient, run.dtype, n, sums), f"gradients of {name} differ")


def strides(check, run):
    """Arrays that are not contiguous are read as what they are."""
    tape, y = run.forward()
    dx, gradients, n = run.net.backward(run.d, tape), run.gradients(), size(run.x, run.d)
    outputs, errors, sums = scales(run)
    other, z = run.forward(x=scattered(run.x))
    check(near(y, z, run.dtype, n, outputs), "a strided input gives another output")
    check(near(dx, run.net.backward(scattered(run.d), other), run.dtype, n, errors),
          "a strided error gives another error")
    for name, gradient in run.gradients().items():
        check(near(gradients[name], gradient, run.dtype, n, sums), f"a strided error gives another {name}")
    flat = np.broadcast_to(run.d[..., :1], run.d.shape)             # read-only, one stored number per row
    check(near(run.net.backward(flat.copy(), other).copy(), run.net.backward(flat, other), run.dtype, n, errors),
          "a broadcast error gives another error")


def refuses(check, run):
    """A shape fits, and then works; or is refused at build, with where, got, expected and what to do."""
    for shape in ((7,), (1,), (3, 2, 5), (1, 1, 1), (2, 9, 4)):
        layer = run.case.make()
        try:
            layer.build(shape, run.seed, run.dtype)
        except BuildError as error:
            check(all((error.where, error.got, error.expected, error.do)), f"{shape}: an error without its four parts")
            continue
        y = layer.forward(run.noise((1, *inside(shape), 2)))
        check(y.shape == (1, *layer.out_shape, 2), f"{shape} is not refused, and gives {y.shape} for {layer.out_shape}")
    wrong = np.zeros((2, *(n + 1 for n in run.case.in_shape)), run.dtype)
    try:
        Tape(run.net).begin(wrong)
        check(False, f"a batch of {wrong.shape} was taken for {run.case.in_shape}")
    except BuildError as error:
        check(all((error.where, error.got, error.expected, error.do)), "an error without its four parts")


def built_alike(check, run):
    """A build is a function of seed and path: the same seed gives the same bits, another seed other weights."""
    def values(seed):
        net = Sequential(source=Source(), layer=run.case.make()).build(run.case.in_shape, seed, run.dtype)
        return {p.path: p.value.copy() for p in net.arena.params}
    one = values(run.seed)
    check(all_same(one, values(run.seed)), "two builds with one seed differ")
    if run.weighted and run.layer.init.name != "zero":
        check(not all_same(one, values(run.seed + 1)), "another seed draws the same weights")


# -- whom they bind ---------------------------------------------------------------------------------------------------

def scattered(x):
    """The same numbers as a view with other strides."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def has_tangent(run):
    return all(type(layer).tangent is not Layer.tangent for layer in everything(run.layer))


def always(run):
    return True


def is_weighted(run):
    return run.weighted


CONTRACT = {                                            # law: (whom it binds, its checks)
    "three operators": (is_weighted, operators),
    "linear": (is_weighted, linear),
    "mix and widen": (is_weighted, mixes),
    "shapes and precision": (always, shaped),
    "tangent transposes backward": (has_tangent, transposes),
    "derivatives": (always, derivatives),
    "used twice": (always, used_twice),
    "pure passes": (always, pure),
    "repeated walks": (always, walks),
    "samples apart": (always, samples_apart),
    "any cut": (always, cuts),
    "any strides": (always, strides),
    "wrong shapes refused": (always, refuses),
    "built alike": (always, built_alike),
}

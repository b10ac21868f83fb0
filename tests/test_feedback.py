import numpy as np
import pytest
from hypothesis import given, settings

from nplearn.columns import nothing_like
from nplearn.errors import BuildError
from nplearn.feedback import Broadcast, Cut, Feedback, Matrix, Product, Through, Transport, orthonormal_rows
from nplearn.layers import Conv2d, Dense, Flatten, Port, Residual, Sequential, Tanh, holders, residuals, weighted
from nplearn.losses import SquaredError
from nplearn.rules import Backprop
from nplearn.tape import Tape
from nplearn.testing.strategies import nets, seeds
from nplearn.testing.trial import Trial, dense_net, differ, map_net, ready, residual_net


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def passed(build, seed=0):
    """A trial whose pass has been made; backprop's feedback on every layer."""
    trial = Trial(build, Backprop, seed)
    trial.run()
    return trial


def delta_and_input(trial, layer):
    x = trial.tape.seen(layer)[0]
    return drawn((x.shape[0], *layer.out_shape, x.shape[-1])), x


def four_kinds(layer):
    """Each feedback that can become exact, made for the layer."""
    rng = np.random.default_rng(3)
    lift = drawn((layer.n_out, 3 * layer.n_out), 4)
    return [Transport(), Matrix(layer.draw(rng)), Matrix(layer.draw(rng), learns=True),
            Product(lift.copy(), layer.draw(rng, 3 * layer.n_out)),
            Product(lift.copy(), layer.draw(rng, 3 * layer.n_out), collapsed=True)]


@settings(max_examples=10, deadline=None)
@given(nets(), seeds())
def test_what_has_become_exact_carries_as_the_weight_does(net, seed):
    trial = passed(lambda _: net, seed % 1000)
    for layer in weighted(net):
        d, x = delta_and_input(trial, layer)
        exact = layer.adjoint(d, layer.weight.value, x.shape)
        for feedback in four_kinds(layer):
            assert feedback.become_exact(layer) is True
            carried = feedback.carry(layer, d, x, trial.tape)
            np.testing.assert_allclose(carried, exact, rtol=0, atol=1e-12 * abs(exact).max())
            np.testing.assert_allclose(feedback.effective(layer), layer.weight.value, rtol=0, atol=1e-12)


def test_to_become_exact_moves_no_weight_and_a_later_move_of_the_weight_moves_no_feedback():
    trial = passed(map_net)
    for layer in weighted(trial.net):
        before = layer.weight.value.copy()
        for feedback in four_kinds(layer)[1:]:
            feedback.become_exact(layer)
            assert np.array_equal(layer.weight.value, before)
            B = feedback.effective(layer).copy()
            layer.weight.value += 1
            assert np.array_equal(feedback.effective(layer), B)
            layer.weight.value[...] = before


def test_feedback_that_cannot_become_exact_says_so():
    layer = weighted(map_net())[1]
    assert not Cut().become_exact(layer) and not Feedback().become_exact(layer)
    assert not Broadcast(drawn((3, 24)), lambda tape: tape.error, flat=True).become_exact(layer)
    assert Through().become_exact(layer)


@pytest.mark.parametrize("name", ["conv", "local", "fc"])
def test_what_a_matrix_or_a_path_carries_is_the_adjoint_of_what_is_effective(name):
    trial = passed(map_net)
    layer = {layer.path: layer for layer in weighted(trial.net)}[name]
    d, x = delta_and_input(trial, layer)
    for feedback in four_kinds(layer):
        wanted, carried = layer.adjoint(d, feedback.effective(layer), x.shape), feedback.carry(layer, d, x, trial.tape)
        np.testing.assert_allclose(carried, wanted, rtol=0, atol=1e-13 * abs(wanted).max())


def test_learned_arrays_are_params_and_fixed_ones_are_not():
    layer = weighted(map_net())[1]
    mask = np.ones((3, 4))
    _, fixed, learned, path, _ = four_kinds(layer)
    assert (set(fixed.params()), set(fixed.fixed())) == (set(), {"matrix"})
    assert (set(learned.params()), set(learned.fixed())) == ({"matrix"}, set())
    assert (set(path.params()), set(path.fixed())) == ({"lower"}, {"lift"})
    assert set(Product(drawn((2, 3)), drawn((3, 4)), mask=mask).fixed()) == {"lift", "mask"}
    for feedback in Transport(), Through(), Cut():
        assert feedback.params() == {} == feedback.fixed() and feedback.says


def test_every_kind_says_what_it_is_and_fixed_and_learned_differ():
    _, fixed, learned, path, _ = four_kinds(weighted(map_net())[1])
    assert "fixed" in fixed.says and "learned" in learned.says and "learned" in path.says
    assert "3x24" in Broadcast(drawn((3, 24)), None, flat=True).says


def test_an_abstract_feedback_carries_nothing_it_raises():
    with pytest.raises(BuildError, match=r"fc2: class Feedback without carry; .*write it in Feedback"):
        Feedback().carry(weighted(dense_net())[1], None, None, None)
    assert Feedback().effective(None) is None and Cut().effective(None) is None


def test_a_mask_holds_zeros_after_every_projection():
    mask = np.array([[1.0, 0, 1], [0, 0, 1]])
    feedback = Product(drawn((4, 2)), drawn((2, 3)), mask=mask)
    before = feedback.lower.value.copy()
    feedback.lower.project(feedback.lower.value)
    assert np.array_equal(feedback.lower.value, before * mask)


def test_only_a_direct_path_collects_and_only_a_collapsed_one_gathers():
    trial = passed(map_net)
    layer = weighted(trial.net)[1]
    *_, direct, collapsed = four_kinds(layer)
    d, x = delta_and_input(trial, layer)
    walk = trial.tape.walk()
    layer.weight.grad[...] = layer.outer(x, d)
    for feedback in direct, collapsed:
        feedback.lower.grad[...] = np.nan
        feedback.collect(layer, d, x, walk)
        assert np.isnan(feedback.lower.grad).all() == feedback.collapsed
        kept = feedback.lower.grad.copy()
        feedback.gather(layer)
        assert np.array_equal(feedback.lower.grad, kept, equal_nan=True) != feedback.collapsed
    np.testing.assert_allclose(direct.lower.grad, collapsed.lower.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n, N", [(1, 1), (3, 3), (4, 9)])
def test_rows_made_orthonormal_span_what_they_spanned(n, N):
    B = drawn((n, N))
    Q = orthonormal_rows(B)
    np.testing.assert_allclose(Q @ Q.T, np.eye(n), rtol=0, atol=1e-12)
    np.testing.assert_allclose(B @ Q.T @ Q, B, rtol=0, atol=1e-12)


def test_blocks_of_zeros_stay_zero_when_rows_are_made_orthonormal():
    B = np.zeros((4, 10))
    B[:2, :5], B[2:, 5:] = drawn((2, 5)), drawn((2, 5), 1)
    Q = orthonormal_rows(B)
    assert not Q[:2, 5:].any() and not Q[2:, :5].any()


# -- ports ------------------------------------------------------------------------------------------------------------

def test_nothing_takes_no_memory_and_is_known():
    x = drawn((2, 300, 400))
    nothing = nothing_like(x)
    assert nothing.shape == x.shape and nothing.dtype == x.dtype and not nothing.any()
    assert nothing.strides == (0, 0, 0) and len(nothing.base) == 8
    assert not nothing.any() and not any(nothing.strides)


def test_a_cut_carries_nothing_and_a_broken_port_stops_an_error():
    trial = passed(residual_net)
    port = residuals(trial.net)[0].shortcut
    d = drawn(trial.tape.seen(port)[0].shape)
    assert port.backward(d, trial.tape.walk()) is d
    port.feedback = Cut()
    assert not port.backward(d, trial.tape.walk()).any()
    assert port.backward(d, trial.tape.walk(exact=True)) is d


def chain_with_port(seed):
    chain = Sequential(fc1=Dense(9), act1=Tanh(), port=Port(), fc2=Dense(7), act2=Tanh(), fc3=Dense(4))
    return ready(chain, (6,), seed)


def test_a_port_that_is_cut_silences_all_below_it_and_nothing_above():
    trial = passed(chain_with_port)
    open_port, port = trial.assign(), trial.net.layers[2]
    port.feedback = Cut()
    cut = trial.assign()
    assert not cut["fc1.weight"].any() and not cut["fc1.bias"].any()
    assert not differ(cut, {path: g for path, g in open_port.items() if not path.startswith("fc1")})


def test_a_broadcast_at_a_port_is_the_signal_there_and_what_is_below_gets_it():
    trial = passed(chain_with_port)
    port, tape = trial.net.layers[2], trial.tape
    port.feedback = Broadcast(drawn((4, 9)), lambda tape: tape.error, flat=True)
    g = port.backward(drawn((2, 9, 4)), tape.walk())
    np.testing.assert_allclose(g, np.einsum("kn,tkb->tnb", drawn((4, 9)), tape.error), rtol=0, atol=1e-15)
    gradients = trial.assign()
    delta = g * trial.net.layers[1].slope(tape.seen(trial.net.layers[1])[0])
    np.testing.assert_allclose(gradients["fc1.weight"], np.einsum("tnb,tmb->nm", delta, tape.input), rtol=0, atol=1e-15)


def test_a_residual_block_adds_only_what_came():
    def build(seed):
        return ready(Sequential(a=Conv2d(2, 1), block=Residual(conv=Conv2d(2, 3)), flatten=Flatten(), fc=Dense(3)),
                     (3, 4, 2), seed)
    trial = passed(build)
    block, d = trial.net.layers[1], drawn((2, 3, 2, 4, 4))
    conv = block.branch.layers[0]
    alone = conv.adjoint(d, conv.weight.value, d.shape)
    both = block.backward(d, trial.tape.walk())
    assert np.array_equal(both, d + alone)
    block.shortcut.feedback = Cut()
    assert np.array_equal(block.backward(d, trial.tape.walk()), alone)
    conv.feedback = Cut()
    assert not block.backward(d, trial.tape.walk()).any()
    block.shortcut.feedback = Through()
    assert np.array_equal(block.backward(d, trial.tape.walk()), d)


@pytest.mark.parametrize("flat", [True, False])
def test_a_broadcast_reads_no_delta_and_doubles_with_its_signal(flat):
    trial = passed(map_net)
    layer = weighted(trial.net)[1]
    B = drawn((3, int(np.prod(layer.in_shape)))) if flat else layer.draw(np.random.default_rng(0), 3)
    x = trial.tape.seen(layer)[0]
    one, two = (Broadcast(B, lambda tape, s=s: s * tape.error, flat).carry(layer, None, x, trial.tape) for s in (1, 2))
    assert one.shape == x.shape and one.any() and np.array_equal(2 * one, two)


def test_an_exact_walk_asks_no_feedback():
    class Raises(Feedback):
        def carry(self, layer, d, x, tape):
            raise AssertionError("asked")
    trial = passed(residual_net)
    wanted = trial.backprop()
    for holder in holders(trial.net):
        holder.feedback = Raises()
    assert not differ(trial.backprop(), wanted)
    with pytest.raises(AssertionError, match="asked"):
        trial.assign()


def test_a_walk_that_collects_nothing_leaves_every_gradient():
    trial = passed(map_net)
    layer = weighted(trial.net)[1]
    layer.feedback = four_kinds(layer)[3]
    trial.net.arena.grad.fill(7)
    layer.feedback.lower.grad.fill(7)
    trial.net.backward(trial.tape.error, trial.tape.walk(collects=False))
    assert (trial.net.arena.grad == 7).all() and (layer.feedback.lower.grad == 7).all()


def test_feedback_works_in_float32_without_a_change_of_type():
    net = Sequential(a=Dense(5), b=Dense(4), c=Dense(3)).build((2,))
    tape = Tape(net, SquaredError()).begin(drawn((6, 2)), drawn((6, 3)).astype(np.float32))
    tape.run(net)
    rng = np.random.default_rng(0)
    for make in (lambda layer: Matrix(layer.draw(rng)),
                 lambda layer: Product(drawn((layer.n_out, 9)).astype(np.float32), layer.draw(rng, 9))):
        for layer in weighted(net)[1:]:
            layer.feedback = make(layer)
            layer.feedback.become_exact(layer)
        walk = tape.walk(records=True)
        net.backward(tape.error, walk)
        assert {delta.dtype for (delta,) in walk.deltas.values()} == {np.dtype(np.float32)}

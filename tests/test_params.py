import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nplearn.kernels.workspace import ALIGN, zeros
from nplearn.params import Arena, Param
from nplearn.testing.strategies import dtypes, noise, seeds

SHAPES = st.lists(st.lists(st.integers(1, 9), max_size=4).map(tuple), min_size=1, max_size=6)


@given(SHAPES, dtypes(), seeds())
def test_values_and_gradients_are_aligned_views_of_one_buffer_that_do_not_meet(shapes, dtype, seed):
    values = [noise(seed + i, shape, dtype) for i, shape in enumerate(shapes)]
    params = [Param(value.copy()) for value in values]
    for param, value in zip(params, values, strict=True):
        param.grad[...] = 2 * value
    arena = Arena(params)
    for param, value in zip(params, values, strict=True):
        assert np.array_equal(param.value, value) and np.array_equal(param.grad, 2 * value)
        assert param.value.dtype == param.grad.dtype == dtype
        assert np.shares_memory(param.value, arena.value) and np.shares_memory(param.grad, arena.grad)
        assert param.value.ctypes.data % ALIGN == param.grad.ctypes.data % ALIGN == 0
    arena.value[...] = 0
    for i, param in enumerate(params, start=1):
        param.value[...] = i
    assert all((param.value == i).all() for i, param in enumerate(params, start=1))
    assert np.count_nonzero(arena.value) == sum(param.value.size for param in params)    # the padding stays zero
    assert arena.nbytes == arena.value.nbytes


@given(SHAPES, seeds())
def test_where_marks_the_entries_of_the_chosen_params_and_no_padding(shapes, seed):
    params = [Param(noise(seed, shape), "bias" if i % 2 else "weight") for i, shape in enumerate(shapes)]
    arena = Arena(params)
    mask = arena.where(lambda param: param.kind == "weight")
    assert set(np.unique(mask)) <= {0.0, 1.0}
    for param, s in zip(params, arena.slices, strict=True):
        assert (mask[s] == (param.kind == "weight")).all()
    assert mask.sum() == sum(p.value.size for p in params if p.kind == "weight")


def test_project_restores_constraints_in_place():
    free, kept = Param(noise(0, (3, 2))), Param(noise(1, (4,)))
    kept.project = lambda value: np.maximum(value, 0, out=value)
    arena, before = Arena([free, kept]), free.value.copy()
    assert (kept.value < 0).any()
    arena.project()
    assert (kept.value >= 0).all() and np.array_equal(free.value, before)
    assert np.array_equal(arena.value[arena.slices[1]], kept.value)


def test_zeros_start_on_a_boundary_and_are_zero():
    for n in range(1, 40):
        for dtype in (np.float32, np.float64):
            array = zeros(np, (n,), dtype)
            assert array.ctypes.data % ALIGN == 0 and array.shape == (n,) and array.dtype == dtype and not array.any()


def test_a_param_says_what_it_is():
    param = Param(np.zeros((3, 2)), "bias")
    assert repr(param) == "Param(?, 3x2, bias)"
    param.path = "fc.bias"
    assert repr(param) == "Param(fc.bias, 3x2, bias)"


def test_an_arena_is_walked_in_one_piece_unless_gradients_are_anothers():
    arena, other = Arena([Param(np.full(n, float(n))) for n in (3, 20, 5, 8)]), Param(np.zeros(5))
    assert [(piece.start, piece.stop) for _, _, piece in arena.pieces()] == [(0, arena.value.size)]
    arena.params[2].grad = other.grad
    other.grad[...] = 7
    pieces = arena.pieces()
    assert [n for _, _, piece in pieces for n in range(piece.start, piece.stop)] == list(range(arena.value.size))
    for value, grad, piece in pieces:
        assert np.shares_memory(value, arena.value[piece]) and value.shape == grad.shape
        assert np.shares_memory(grad, other.grad) == (piece == arena.slices[2])
    arena.params[0].grad = arena.params[0].grad.copy()  # at the very start too
    assert arena.pieces()[0][2] == arena.slices[0]

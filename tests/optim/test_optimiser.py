"""What every optimiser owes its arena. Oracles: identities (bitwise) between two ways to reach the same state."""
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplearn.errors import CheckpointError, SettingError
from nplearn.optim import SGD, Adam, AdamW, BatchManhattan, Cosine, MultiStep, RMSprop, Schedule, base
from nplearn.params import Arena, Param

KINDS = {
    "sgd": lambda arena, **k: SGD(arena, **k),
    "sgd momentum": lambda arena, **k: SGD(arena, momentum=0.9, **k),
    "sgd nesterov": lambda arena, **k: SGD(arena, momentum=0.9, nesterov=True, **k),
    "sgd decoupled": lambda arena, **k: SGD(arena, momentum=0.9, decoupled=True, **k),
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "rmsprop centred": lambda arena, **k: RMSprop(arena, momentum=0.9, centred=True, **k),
    "rmsprop inside": lambda arena, **k: RMSprop(arena, eps_inside=True, **k),
    "manhattan": BatchManhattan,
    "manhattan keep": lambda arena, **k: BatchManhattan(arena, momentum=0.9, keep_sign=True, exempt="*.bias", **k),
}
every = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
coupled = pytest.mark.parametrize("kind", ["sgd", "sgd momentum", "sgd nesterov", "adam", "rmsprop", "rmsprop centred"])


def small(seed=0, dtype=np.float64):
    """Weight, bias and norm of odd sizes, so that there is padding between them."""
    rng = np.random.default_rng(seed)
    shapes = ((3, 5), "weight"), ((3,), "bias"), ((7,), "norm"), ((2, 3, 3), "weight")
    arena = Arena([Param(rng.standard_normal(shape).astype(dtype), kind) for shape, kind in shapes])
    for i, p in enumerate(arena.params):
        p.path = f"layer{i}.{p.kind}"
    return arena


def fill(arena, rng):
    for p in arena.params:
        p.grad[...] = rng.standard_normal(p.grad.shape)


def train(optimiser, steps=5, seed=1):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        fill(optimiser.arena, rng)
        optimiser.step()
    return optimiser


@every
def test_gradient_is_left_as_it_was_to_the_bit(make):
    optimiser, rng = make(small(), lr=0.1, decay=0.01), np.random.default_rng(2)
    for _ in range(3):
        fill(optimiser.arena, rng)
        before = optimiser.arena.grad.tobytes()
        optimiser.step()
        assert optimiser.arena.grad.tobytes() == before


@every
@pytest.mark.parametrize("spare", [False, True])
def test_padding_stays_zero(make, spare):
    optimiser = train(make(small(), lr=0.1, decay=0.01, decay_bias=not spare))
    padding = np.ones(optimiser.arena.value.size, bool)
    for s in optimiser.arena.slices:
        padding[s] = False
    assert padding.sum() > 8
    for flat in (optimiser.arena.value, optimiser.arena.grad, *optimiser.slots.values()):
        assert not flat[padding].any()


@every
def test_every_value_moves(make):
    before = small().value
    optimiser = train(make(small(), lr=0.1, decay=0.01), steps=1)
    for s in optimiser.arena.slices:
        assert (optimiser.arena.value[s] != before[s]).all()


@every
def test_nothing_large_is_allocated_after_the_first_step(make):
    weight, bias = Param(np.ones((500, 600), np.float32)), Param(np.ones(600, np.float32), "bias")
    weight.path, bias.path = "layer.weight", "layer.bias"
    optimiser = train(make(Arena([weight, bias]), lr=0.1, decay=0.01, decay_bias=False), steps=1)
    tracemalloc.start()
    try:
        optimiser.step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_384                                # the arena has 1.2 MB, a block 256 KiB


@every
@given(n=st.integers(1, 300), block=st.integers(1, 100))
def test_the_cut_into_blocks_changes_no_bit(make, n, block):
    def run(size):
        weight, bias = Param(np.linspace(-1, 1, n)), Param(np.linspace(0, 1, 5), "bias")
        weight.path, bias.path = "layer.weight", "layer.bias"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base, "BLOCK", size)
            return train(make(Arena([weight, bias]), lr=0.1, decay=0.01, decay_bias=False), steps=3).arena.value
    assert np.array_equal(run(block), run(10**6))


@every
def test_an_arena_of_more_than_two_blocks_and_a_bit(make):
    n = 2 * base.BLOCK + 17
    def run(size):
        arena = Arena([Param(np.linspace(-1, 1, n, dtype=np.float32), "bias")])
        arena.params[0].path = "layer.bias"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base, "BLOCK", size)
            return train(make(arena, lr=0.1, decay=0.01), steps=2).arena.value
    start = np.linspace(-1, 1, n, dtype=np.float32)
    got = run(base.BLOCK)
    assert np.array_equal(got, run(10 * n)) and (got[:n] != start).mean() > 0.99


@every
def test_an_empty_arena_is_no_trouble(make):
    param = Param(np.zeros((0, 3)))
    param.path = "layer.bias"
    train(make(Arena([param]), lr=0.1, decay=0.01))


@every
def test_float32_stays_float32_and_is_close_to_float64(make):
    single = train(make(small(dtype=np.float32), lr=MultiStep(0.01, {3: 0.5}, "steps"), decay=0.01))
    double = train(make(small(), lr=MultiStep(0.01, {3: 0.5}, "steps"), decay=0.01))
    held = (single.arena.value, single.arena.grad, single.scratch(single.blocks[0][0]), *single.slots.values())
    assert {x.dtype for x in held} == {np.dtype(np.float32)}
    assert all(p.value.base is not None and p.value.dtype == np.float32 for p in single.arena.params)
    for p, q in zip(single.arena.params, double.arena.params, strict=True):
        np.testing.assert_allclose(p.value, q.value, rtol=0, atol=3e-6)      # some 20 roundings of values of order 1


@every
def test_params_stay_views_of_the_arena(make):
    optimiser = train(make(small(), lr=0.1, decay=0.01))
    for p, s in zip(optimiser.arena.params, optimiser.arena.slices, strict=True):
        assert np.shares_memory(p.value, optimiser.arena.value)
        assert np.array_equal(p.value.ravel(), optimiser.arena.value[s])


# ---- constraints

@every
def test_constraints_hold_after_every_step(make):
    arena = small()
    arena.params[0].project = lambda value: np.divide(value, np.linalg.norm(value), out=value)
    optimiser, rng = make(arena, lr=0.1, decay=0.01), np.random.default_rng(3)
    for _ in range(4):
        fill(arena, rng)
        optimiser.step()
        assert np.linalg.norm(arena.params[0].value) == pytest.approx(1, rel=1e-14)
        assert np.linalg.norm(arena.params[3].value) > 1.5            # no constraint there


# ---- decay

@every
@pytest.mark.parametrize("spared", [(), ("bias",), ("norm",), ("bias", "norm")])
def test_decay_spares_the_kinds_it_is_told_to(make, spared):
    """Entry by entry: a spared Param moves as without decay, any other as with decay everywhere, to the bit."""
    how = {f"decay_{kind}": False for kind in spared}
    mixed, with_decay, without = (train(make(small(), lr=0.1, **k)).arena.params
                                  for k in ({"decay": 0.1, **how}, {"decay": 0.1}, {"decay": 0}))
    for p, yes, no in zip(mixed, with_decay, without, strict=True):
        assert not np.array_equal(yes.value, no.value)
        assert np.array_equal(p.value, (no if p.kind in spared else yes).value)


@every
def test_a_mask_is_made_only_if_decay_spares_something(make):
    def mask(**k):
        return make(small(), lr=0.1, **k).mask
    weight = Param(np.ones(3))
    weight.path = "layer.bias"
    assert mask(decay=0.1) is None and mask(decay=0, decay_bias=False) is None
    assert make(Arena([weight]), lr=0.1, decay=0.1, decay_bias=False, decay_norm=False).mask is None
    assert mask(decay=0.1, decay_norm=False).sum() == 15 + 3 + 18
    assert mask(decay=MultiStep(0, {2: 1}), decay_bias=False).sum() == 15 + 7 + 18


@coupled
def test_coupled_decay_is_decay_times_weight_added_to_the_gradient(kind):
    decayed, plain = KINDS[kind](small(), lr=0.1, decay=0.25), KINDS[kind](small(), lr=0.1)
    rng = np.random.default_rng(4)
    for _ in range(4):
        fill(decayed.arena, rng)
        plain.arena.grad[...] = 0.25 * plain.arena.value + decayed.arena.grad
        decayed.step()
        plain.step()
    assert np.array_equal(decayed.arena.value, plain.arena.value)


# ---- clock and settings

class Recorder(Schedule):
    """0.1 always, and a list of when it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, step, epoch):
        self.asked.append((step, epoch))
        return 0.1

    def describe(self):
        return {"kind": "Recorder"}


@every
def test_a_schedule_is_asked_once_a_step_at_the_updates_done_and_the_epoch_set(make):
    lr = Recorder()
    optimiser = make(small(), lr=lr)
    train(optimiser, 2)
    optimiser.epoch = 5
    train(optimiser, 1)
    assert lr.asked == [(0, 0), (1, 0), (2, 5)]
    assert (optimiser.steps, optimiser.epoch) == (3, 5)


def test_now_tells_the_values_of_the_last_step():
    optimiser = SGD(small(), lr=MultiStep(1.0, {1: 0.5, 2: 0.5}, "steps"), momentum=0.5, decay=MultiStep(0.4, {1: 0.5}))
    assert optimiser.now == {"lr": 1.0, "decay": 0.4, "momentum": 0.5}        # before the first: what that would have
    train(optimiser, 2)
    optimiser.epoch = 1
    assert optimiser.now == {"lr": 0.5, "decay": 0.4, "momentum": 0.5}
    train(optimiser, 1)
    assert optimiser.now == {"lr": 0.25, "decay": 0.2, "momentum": 0.5}


@every
def test_settings_survive_json_and_name_every_argument(make):
    optimiser = make(small(), lr=Cosine(0.1, 20), decay=MultiStep(0.03, {1: 0.003}))
    told = optimiser.settings()
    assert json.loads(json.dumps(told)) == told
    assert told["kind"] == type(optimiser).__name__ and told["lr"]["kind"] == "Cosine"
    arguments = set(type(optimiser).__init__.__code__.co_varnames[2:type(optimiser).__init__.__code__.co_argcount])
    assert set(told) == arguments | {"kind"}


@pytest.mark.parametrize("make, numbers", [
    (lambda a: SGD(a, 0.1, 0.9, True, 0.01, False), {"kind": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True,
                                                     "decay": 0.01, "decoupled": False}),
    (lambda a: AdamW(a, 0.1, 0.8, 0.9, 1e-6, 0.01), {"kind": "AdamW", "lr": 0.1, "beta1": 0.8, "beta2": 0.9,
                                                     "eps": 1e-6, "decay": 0.01})])
def test_settings_tell_the_numbers(make, numbers):
    assert make(small()).settings() == {**numbers, "decay_bias": True, "decay_norm": True}


@every
@pytest.mark.parametrize("bad", [{"lr": -0.1}, {"lr": "0.1"}, {"lr": None}, {"lr": 0.1, "decay": -1}, {"lr": np.nan}])
def test_impossible_settings_are_refused_by_name(make, bad):
    with pytest.raises(SettingError, match=" lr" if "decay" not in bad else " decay"):
        make(small(), **bad)


@every
def test_nbytes_counts_the_slots(make):
    optimiser = make(small(dtype=np.float32), lr=0.1, decay=0.1, decay_bias=False)
    arrays = [x for name, x in optimiser.state().items() if x.ndim]
    assert optimiser.nbytes == sum(x.nbytes for x in arrays) == len(arrays) * optimiser.arena.nbytes


# ---- checkpoints

def scheduled(make, seed=0):
    optimiser = make(small(seed), lr=MultiStep(0.1, {7: 0.5}, "steps"), decay=MultiStep(0.1, {2: 0.5}))
    optimiser.epoch = 2
    return optimiser


@every
def test_a_resumed_run_is_the_run_that_was_never_stopped_to_the_bit(make):
    whole = train(scheduled(make), 4)
    saved, weights = whole.state(), whole.arena.value.copy()
    train(whole, 6, seed=9)                             # state() gave copies: going on does not change what was saved
    resumed = scheduled(make, seed=8)
    resumed.epoch = 0
    resumed.arena.value[...] = weights
    resumed.load({name: np.array(x) for name, x in saved.items()})
    assert resumed.now == {name: s(3, 2) for name, s in resumed.schedules.items()}
    train(resumed, 6, seed=9)
    assert resumed.arena.value.tobytes() == whole.arena.value.tobytes()
    mine, other = resumed.state(), whole.state()
    assert mine.keys() == other.keys() and all(np.array_equal(mine[name], other[name]) for name in mine)


def test_a_state_from_before_the_first_step_leaves_the_values_to_the_clock():
    optimiser = SGD(small(), MultiStep(1.0, {1: 0.5}))
    optimiser.load(SGD(small(), MultiStep(1.0, {1: 0.5})).state())
    optimiser.epoch = 1
    assert optimiser.now["lr"] == 0.5


@every
def test_state_holds_arrays_without_objects_and_the_clock(make):
    state = train(scheduled(make), 3).state()
    assert all(type(x) is np.ndarray and x.dtype != object for x in state.values())
    assert int(state["steps"]) == 3 and int(state["epoch"]) == 2 and state["steps"].shape == ()


@every
def test_load_writes_into_the_slots_that_are_there(make):
    optimiser = make(small(), lr=0.1)
    before = dict(optimiser.slots)
    optimiser.load(train(make(small(), lr=0.1)).state())
    assert all(optimiser.slots[name] is before[name] for name in before)


@pytest.mark.parametrize("damage, word", [
    (lambda s: s.pop("mean"), "mean is missing"), (lambda s: s.pop("steps"), "steps is missing"),
    (lambda s: s.update(extra=np.zeros(3)), "extra is unknown"),
    (lambda s: s.update(square=s["square"][:-1]), "square is float64 "),
    (lambda s: s.update(square=s["square"].astype(np.float32)), "square is float32 "),
    (lambda s: s.update(epoch=np.zeros(2, int)), "epoch is int64 2")])
def test_a_state_that_does_not_fit_changes_nothing(damage, word):
    optimiser = train(Adam(small()), 2)
    before, state = optimiser.state(), train(Adam(small()), 4, seed=7).state()
    damage(state)
    with pytest.raises(CheckpointError, match=word):
        optimiser.load(state)
    after = optimiser.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_every_misfit_is_named_at_once():
    with pytest.raises(CheckpointError, match="mean is missing; .*momentum is unknown"):
        Adam(small()).load(SGD(small(), 0.1, 0.9).state())


# ---- on a device

@pytest.mark.gpu
@every
def test_a_gpu_takes_the_same_steps(make):
    cupy = pytest.importorskip("cupy")
    arena = Arena([Param(cupy.asarray(p.value), p.kind) for p in small().params])
    for p, q in zip(arena.params, small().params, strict=True):
        p.path = q.path
    host, device = (make(a, lr=0.1, decay=0.01, decay_bias=False) for a in (small(), arena))
    rng = np.random.default_rng(1)
    for _ in range(5):
        fill(host.arena, rng)
        device.arena.grad[...] = cupy.asarray(host.arena.grad)
        host.step()
        device.step()
    np.testing.assert_allclose(device.arena.value.get(), host.arena.value, rtol=0, atol=1e-12)
    assert all(type(x) is np.ndarray for x in device.state().values())
    device.load(device.state())

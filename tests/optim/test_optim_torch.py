"""Oracle: PyTorch's optimisers, float64, 50 steps of random gradients with a switch of the learning rate."""
import numpy as np
import pytest

from nplearn.optim import SGD, Adam, AdamW, MultiStep, RMSprop
from nplearn.params import Arena, Param

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

SHAPES = (4, 7), (7,), (3, 2, 2, 5)


def follow(ours, theirs):
    """Both from the same weights, along the same gradients; each entry to 1e-12."""
    rng = np.random.default_rng(11)
    arena = Arena([Param(rng.standard_normal(shape)) for shape in SHAPES])
    tensors = [torch.nn.Parameter(torch.tensor(p.value.copy())) for p in arena.params]
    ours, theirs = ours(arena, lr=MultiStep(0.05, {25: 0.1}, "steps")), theirs(tensors, lr=0.05)
    for t in range(50):
        theirs.param_groups[0]["lr"] = 0.05 if t < 25 else 0.05 * 0.1
        for p, q in zip(arena.params, tensors, strict=True):
            p.grad[...] = rng.standard_normal(p.grad.shape)
            q.grad = torch.tensor(p.grad.copy())
        ours.step()
        theirs.step()
    for p, q in zip(arena.params, tensors, strict=True):
        np.testing.assert_allclose(p.value, q.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mu, nesterov", [(0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("decay", [0, 0.1])
def test_sgd(mu, nesterov, decay):
    follow(lambda a, lr: SGD(a, lr, mu, nesterov, decay),
           lambda p, lr: torch.optim.SGD(p, lr, mu, nesterov=nesterov, weight_decay=decay))


@pytest.mark.parametrize("decay", [0, 0.1])
def test_adam(decay):
    follow(lambda a, lr: Adam(a, lr, 0.8, 0.99, 1e-6, decay),
           lambda p, lr: torch.optim.Adam(p, lr, (0.8, 0.99), 1e-6, decay))


@pytest.mark.parametrize("decay", [0, 0.1])
def test_adamw(decay):
    follow(lambda a, lr: AdamW(a, lr, 0.8, 0.99, 1e-6, decay),
           lambda p, lr: torch.optim.AdamW(p, lr, (0.8, 0.99), 1e-6, decay))


@pytest.mark.parametrize("mu, centred", [(0, False), (0.9, False), (0, True), (0.9, True)])
@pytest.mark.parametrize("decay", [0, 0.1])
def test_rmsprop(mu, centred, decay):
    follow(lambda a, lr: RMSprop(a, lr, 0.95, 1e-6, mu, centred, decay=decay),
           lambda p, lr: torch.optim.RMSprop(p, lr, 0.95, 1e-6, decay, mu, centred))


@pytest.mark.parametrize("ours, theirs", [(Adam, "Adam"), (AdamW, "AdamW"), (RMSprop, "RMSprop")])
def test_defaults_are_those_of_torch(ours, theirs):
    follow(lambda a, lr: ours(a, lr), lambda p, lr: getattr(torch.optim, theirs)(p, lr))
    told, default = ours(Arena([Param(np.ones(1))])).settings(), getattr(torch.optim, theirs)([torch.ones(1)]).defaults
    assert (told["lr"], told["decay"], told["eps"]) == (default["lr"], default["weight_decay"], default["eps"])

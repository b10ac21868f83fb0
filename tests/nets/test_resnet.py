"""CIFAR residual nets: published sizes, every rule's step, and PyTorch's gradients on a small one."""
import numpy as np
import pytest

from nplearn.columns import rows
from nplearn.errors import SettingError
from nplearn.layers import residuals, weighted
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.nets import cifar_resnet, make
from nplearn.rules import EXACT_TOP, registry
from nplearn.tape import Tape
from tests.homes import OWN, name_of, refused

VARIANTS = ["dfa:residual=pure", "dfa:residual=block", "dfa:form=biotorch"]


@pytest.mark.parametrize(("depth", "parameters", "blocks"), [(20, 269_722, 9), (56, 853_018, 27)])
def test_sizes_are_the_published_ones(depth, parameters, blocks):
    net = cifar_resnet(depth).build((32, 32, 3))
    assert sum(p.value.size for p in net.arena.params) == parameters and len(residuals(net)) == blocks
    assert net.chunk(128) == 16                         # 1.5 caches' worth of columns, as measured best


def test_other_depths_are_refused():
    with pytest.raises(SettingError, match="depth 18"):
        cifar_resnet(18)


def begun(net, n=6, size=9):
    rng = np.random.default_rng(1)
    tape = Tape(net, SoftmaxCrossEntropy()).begin(rng.normal(size=(n, size, size + 1, 3)), rng.integers(10, size=n))
    tape.run()
    return tape


@pytest.mark.parametrize("rule", [rule for rule in registry.names(controls=True) + VARIANTS
                                  if name_of(rule) not in OWN and not refused(rule, "residual")])
def test_every_rule_that_takes_it_takes_a_step_and_its_last_layer_is_exact(rule):
    net = make("resnet20", (9, 10, 3), 10).build((9, 10, 3), seed=2, dtype=np.float64)
    tape, made = begun(net), registry.make(rule).attach(net, 0)
    assert EXACT_TOP in made.claims or rule == "predsim"        # a hundredth of the loss's own
    net.arena.grad.fill(np.nan)
    made.assign(net, tape)
    top = weighted(net)[-1].weight.grad.copy()
    assert all(np.isfinite(p.grad).all() for p in net.arena.params)
    exact = tape.walk(exact=True)
    net.backward(exact.error, exact)
    assert np.array_equal(top, weighted(net)[-1].weight.grad) or EXACT_TOP not in made.claims


@pytest.mark.torch
def test_a_resnet_equals_pytorch_in_float64():
    torch = pytest.importorskip("torch")
    net = cifar_resnet(8).build((9, 10, 3), seed=2, dtype=np.float64)
    tape = begun(net)
    net.backward(tape.error, tape)
    F, values, leaves = torch.nn.functional, {}, {}
    def theirs(array, kind):                            # the order of axes that PyTorch has
        return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array.reshape(-1) if kind == "bias" else array
    for p in net.arena.params:
        leaves[p.path] = torch.tensor(np.array(theirs(p.value, p.kind)), requires_grad=True)
        values[p.path] = p

    def norm(x, path):
        return F.batch_norm(x, None, None, leaves[f"{path}.scale"], leaves[f"{path}.shift"], training=True)
    x = torch.tensor(rows(tape.input).transpose(0, 3, 1, 2).copy())
    x = F.relu(norm(F.conv2d(x, leaves["conv1.weight"], padding=1), "norm1"))
    for block in residuals(net):
        head, stride = f"{block.path}.branch", block.branch.layers[0].stride[0]
        y = F.relu(norm(F.conv2d(x, leaves[f"{head}.conv1.weight"], stride=stride, padding=1), f"{head}.norm1"))
        y = norm(F.conv2d(y, leaves[f"{head}.conv2.weight"], padding=1), f"{head}.norm2")
        if stride == 2:
            extra = (y.shape[1] - x.shape[1]) // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, extra, extra))
        x = F.relu(x + y)
    out = x.mean((2, 3)) @ leaves["fc.weight"].T + leaves["fc.bias"]
    loss = F.cross_entropy(out, torch.tensor(tape.labels.reshape(-1)))
    loss.backward()
    assert np.allclose(rows(tape.output), out.detach().numpy(), rtol=1e-10, atol=1e-12)
    for path, p in values.items():
        wanted, mine = leaves[path].grad.numpy(), theirs(p.grad, p.kind)
        assert np.abs(mine - wanted).max() <= 1e-10 * max(np.abs(wanted).max(), 1e-3), path

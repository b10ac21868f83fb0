"""One whole step of every rule on every kind of net, on the host and on a device, from the same bytes.

Output, values, gradients, weights, running statistics, the optimiser's slots, and the feedback with its gradients agree
to `FACTORS` times the precision, relative to the largest entry of an array or a hundredth of the largest of its kind
(the gradient of a bias under BatchNorm is rounding alone, and so the largest factor). The host cuts its batch into
chunks where the net has convolutions, the device never does. Besides, what may cross between host and device in a step
is counted.
"""
import numpy as np
import pytest

from nplearn.backend import to_host
from nplearn.columns import outside, rows
from nplearn.layers import BatchNorm, Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sequential, Tanh
from nplearn.rules import registry
from nplearn.testing.trial import Trial, differ
from tests.fake_device import FakeCupy, crossings
from tests.gpu.conftest import device
from tests.homes import KINDS as HOMES
from tests.homes import loss_of, pairs

FACTORS = {"pass": 100, "gradients": 2000, "state": 200, "slots": 200}
ON_POOLED = "backprop", "fa", "dfa", "usf", "brsf", "frsf", "kp", "pfa", "pfa-o", "frozen", "shuffled"
READS = {"gait": 3}                                     # numbers read back: the loss, and whether each inverse is one
SEVERAL = {"l-drl": 5, "drl": 5}                        # walks of an inverse in one step, whose gradients nearly cancel
DRAWS = {"brsf", "shuffled", "wm", "np", "forward-gradient", "ptf", "ff", "tp", "dtp", "sdtp", "ao-sdtp", "l-drl",
         "drl", "ddtp"}                            # their draws for a step are made on the host, and moved


def pooled(seed):
    return Sequential(conv=Conv2d(4, 3, groups=2), norm=BatchNorm(), act=ReLU(), pool=MaxPool2d(3, 2, padding=1),
                      conv2=Conv2d(6, (2, 3), stride=2), act2=Tanh(), flatten=Flatten(), fc=Dense(5)
                      ).build((6, 7, 2), seed)


KINDS = {**HOMES, "pooled": pooled}
PAIRS = [*pairs(registry.names(controls=True)), *((rule, "pooled") for rule in ON_POOLED)]


def a_step(kind, rule, dtype, where):
    """({what: {name: array}} after one step, fetched to the host; what crossed over in it; the Trial itself)."""
    def build(seed):
        net = KINDS[kind](seed)
        chunked = net.column_bytes > 0
        net.build(outside(net.in_shape), seed, dtype, where)
        net.column_bytes = 2 ** 21 if chunked else 0    # as in the rule contract: a batch of 8 makes two chunks
        return net
    trial = Trial(build, lambda: registry.make(rule), seed=3, loss=loss_of(rule))
    crossings.clear()
    trial.step(0)
    crossed = dict(crossings)
    slots = {f"{which} {name}": slot for which, optimiser in {"net": trial.optimiser, **trial.rule.optimisers()}.items()
             for name, slot in optimiser.slots.items()}
    found = {"pass": {"output": rows(trial.tape.output), "values": rows(trial.tape.values[:, None])},
             "gradients": {**trial.gradients(), **{f"feedback {i}": a.grad for i, a in enumerate(trial.rule.states())}},
             "state": trial.state(), "slots": slots}
    return {what: {name: to_host(a) for name, a in arrays.items()} for what, arrays in found.items()}, crossed, trial


def compare(rule, kind, dtype, module):
    wanted, _, _ = a_step(kind, rule, dtype, "cpu")
    found, crossed, trial = a_step(kind, rule, dtype, "gpu")
    assert isinstance(trial.net.arena.value, module.ndarray) and trial.tape.input.shape[0] == 1
    for what, arrays in wanted.items():
        factor = FACTORS[what] * SEVERAL.get(rule, 1)
        assert found[what].keys() == arrays.keys()
        assert all(found[what][name].dtype == a.dtype for name, a in arrays.items())
        assert not differ(found[what], arrays, factor * np.finfo(dtype).eps), what
    assert any(a.any() for a in wanted["gradients"].values())
    return crossed


ON = [("plain", np.float64), ("kernels", np.float32), *(pytest.param("cupy", dtype, marks=pytest.mark.gpu)
                                                        for dtype in (np.float32, np.float64))]


@pytest.mark.parametrize(("rule", "kind"), PAIRS)
@pytest.mark.parametrize(("on", "dtype"), ON)
def test_a_step_ends_where_the_hosts_does(on, dtype, rule, kind, monkeypatch):
    module = device(on, monkeypatch)
    crossed = compare(rule, kind, dtype, module)
    if isinstance(module, FakeCupy):
        assert crossed.keys() <= {"put", "float"} and crossed["float"] == READS.get(rule, 1), "what a step reads back"
        assert crossed["put"] == 2 or rule in DRAWS or rule not in registry.RULES, "the batch, and nothing else"


@pytest.mark.parametrize("kind", [kind for rule, kind in PAIRS if rule == "backprop"])
@pytest.mark.parametrize(("on", "dtype"), [("plain", np.float32), ("cublas", np.float32), ("kernels", np.float64)])
def test_stand_ins_agree_in_the_other_precision_too(on, dtype, kind, monkeypatch):
    compare("backprop", kind, dtype, device(on, monkeypatch))

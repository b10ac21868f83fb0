"""What weight mirrors and alignment losses cost beyond feedback alignment: closed forms on a small dense net."""
import numpy as np
import pytest

from nplearn.layers import Conv2d, Dense, Flatten, Sequential, Tanh
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import cost
from nplearn.nets import mlp
from nplearn.rules import registry

N, M = 8, 16                                            # samples of the batch, and of a mirror batch
SIZES = {"fc2": 20 * 12, "fc3": 12 * 10}                # |W| of the layers that send, of 30-20-12-10


def of(rule, net=None):
    net = net or mlp(10, hidden=(20, 12), activation=Tanh).build(30, 1)
    rng = np.random.default_rng(0)
    shape = (net.in_shape[0],) if len(net.in_shape) == 1 else (6, 5, 2)
    batch = rng.standard_normal((N, *shape)).astype(np.float32), rng.integers(10, size=N)
    return cost(net, registry.make(rule).attach(net, 1), SoftmaxCrossEntropy(), *batch)


def adds(found, **which):
    return sum(counts.multiply_adds for part, counts in found.parts.items()
               if which.items() <= dict(zip(("phase", "layer", "operation"), part, strict=True)).items())


@pytest.mark.parametrize("options, products", [("", {"apply": 1, "outer": 1}),
                                               ("growth=none,centre=false,unit=sigmoid", {"apply": 1, "outer": 1}),
                                               ("growth=renorm", {"apply": 1, "outer": 1, "adjoint": 1})])
def test_a_mirror_batch_is_one_apply_and_one_outer_a_layer_and_renorm_an_adjoint_more(options, products):
    found, plain = of(f"wm:samples={M},{options}"), of("fa")
    for layer, size in SIZES.items():
        offline = {op: adds(found, phase="offline", layer=layer, operation=op) for op in ("apply", "outer", "adjoint")}
        assert offline == {op: products.get(op, 0) * M * size for op in offline}
    wanted = sum(products.values()) * M * sum(SIZES.values())
    assert adds(found, phase="offline") == wanted and found.total.multiply_adds == plain.total.multiply_adds + wanted


def test_a_mirror_draws_a_number_for_every_input_of_every_sample():
    assert of(f"wm:samples={M}").by("phase")["offline"].draws == M * (20 + 12)
    assert of(f"wm:samples={M},growth=renorm").by("phase")["offline"].draws == M * (20 + 12 + 12 + 10)


def test_alternating_one_to_one_adds_two_thirds_to_the_layers_that_send():
    found, plain = of(f"wm:samples={N}"), of("backprop")
    sending = sum(adds(plain, layer=layer) for layer in SIZES)
    assert sending == 3 * N * sum(SIZES.values()) and adds(found, phase="offline") == pytest.approx(2 / 3 * sending)


@pytest.mark.parametrize("name, products", [("sa", 0), ("aa", 4), ("ia", 4)])
def test_an_alignment_loss_costs_the_products_of_its_terms(name, products):
    """aa: W x and B x, and an outer with each; ia: W x, the way back through B, and an outer with each."""
    found, plain = of(name), of("fa")
    for layer, size in SIZES.items():
        more = adds(found, phase="credit", layer=layer) - adds(plain, phase="credit", layer=layer)
        assert more == products * N * size
    assert found.total.multiply_adds - plain.total.multiply_adds == products * N * sum(SIZES.values())


def test_a_convolution_counts_its_positions():
    net = Sequential(first=Conv2d(3, 1), conv=Conv2d(4, 3), flatten=Flatten(), fc=Dense(10)).build((6, 5, 2), 1)
    found = of(f"wm:samples={M}", net)
    assert adds(found, phase="offline", layer="conv") == 2 * M * (4 * 9 * 3) * 30

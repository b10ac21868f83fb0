"""How far a rule is from backprop, layer by layer, on a fixed batch: measuring is a second walk.

One pass is walked twice, under the rule and exactly, with the same masks and batch statistics. For each weighted layer

    weight angle, norm ratio    effective feedback against W (for a product, the path B R); |B| / |W|
    delta angle                 the rule's delta at the pre-activation against backprop's, flattened batch; and the mean
                                over samples of each sample's angle
    gradient angle              the rule's weight gradient against backprop's; with both norms, and their ratio
    sign agreement              share of entries with sign(B) = sign(W), where W is not 0
    unrest                      where activities settle: the most that one of the layer's moves in one more sweep

A number is flagged where its reference drowns in rounding: a gradient below 16 eps |x| |d|, a delta below the smallest
normal number. Nothing moves: gradients are put back, running statistics and random draws are those of the pass alone.
Definitions follow BioTorch (arXiv 2108.13446) and Li and Benna 2024 (arXiv 2405.20594).
"""
import math

import numpy as np

from nplearn.backend import to_host
from nplearn.columns import columns, rows
from nplearn.layers import weighted
from nplearn.metrics.angles import angle, mean_sample_angle, norm, ratio, sign_agreement
from nplearn.tape import Tape


class Probe:
    """`Probe(net, rule, loss, inputs, labels)` for a batch of rows; `measure()` as often as wanted."""

    def __init__(self, net, rule, loss, inputs, labels, seed=0):
        self.net, self.rule = net, rule
        self.tape = Tape(net, loss, mode="probe")
        self.batch = inputs, labels, ("probe", seed)

    def measure(self):
        """A list of dicts of floats, one per weighted layer in forward order (see the module's table)."""
        tape = self.tape.begin(*self.batch)
        tape.run(self.rule)
        return compare(self.net, self.rule, tape)


def compare(net, rule, tape):
    """The same for a pass that has been run, on any tape."""
    arenas = [net.arena, *rule.states()]
    kept = [arena.grad.copy() for arena in arenas]
    mine = tape.walk(records=True)
    rule.assign(net, mine)
    unrest = {layer: {"unrest": most} for layer, most in rule.unrest(mine).items()}
    gradients = {layer: layer.weight.grad.copy() for layer in weighted(net)}
    true = tape.walk(exact=True, records=True)
    net.backward(true.error, true)
    report = [_layer(layer, tape, mine, true, gradients[layer]) | unrest.get(layer, {}) for layer in weighted(net)]
    for arena, grad in zip(arenas, kept, strict=True):
        arena.grad[...] = grad
    return report


def _layer(layer, tape, mine, true, gradient):
    W, exact = layer.weight.value, layer.weight.grad
    B = layer.feedback.effective(layer) if layer.sends or layer.feedback is not layer.exact else None
    found = {"layer": layer.path, "sends": layer.sends, "feedback": layer.feedback.says,
             "weight_norm": norm(W), "feedback_norm": math.nan, "weight_angle": math.nan, "norm_ratio": math.nan,
             "sign_agreement": math.nan, "gradient_angle": angle(gradient, exact), "gradient_norm": norm(gradient),
             "gradient_norm_backprop": norm(exact), "gradient_norm_ratio": ratio(gradient, exact)}
    if B is not None:
        found |= {"feedback_norm": norm(B), "weight_angle": angle(B, W), "norm_ratio": ratio(B, W),
                  "sign_agreement": sign_agreement(B, W)}
    d, e = (_joined(walk.deltas.get(layer, [np.zeros((1, 1, 1))])) for walk in (mine, true))
    eps, tiny = np.finfo(W.dtype).eps, np.finfo(W.dtype).tiny
    found["delta_norm"], found["delta_norm_backprop"] = norm(d), norm(e)
    found |= {"delta_angle": math.nan, "delta_angle_samples": math.nan, "samples_left_out": 0}
    if d.shape == e.shape:
        found["delta_angle"] = angle(d, e)
        found["delta_angle_samples"], found["samples_left_out"] = mean_sample_angle(d, e)
    inputs = math.sqrt(sum(norm(x) ** 2 for x in tape.seen(layer)))
    low = {"gradient": norm(exact) <= 16 * eps * inputs * norm(e), "delta": norm(e) <= tiny * math.sqrt(e.size)}
    found["below_floor"] = [name for name in low if low[name]]
    return found


def _joined(deltas):
    """The deltas of all visits as columns (1, entries of a sample, N): maps of two visits may differ in size."""
    return columns(np.concatenate([rows(to_host(x)).reshape(x.shape[0] * x.shape[-1], -1) for x in deltas], axis=1))

"""How often a net is right."""
import numpy as np

from nplearn.backend import to_host
from nplearn.columns import columns, rows


def accuracy(outputs, labels):
    """Share of rows (N, K) whose largest entry is at the label (N,)."""
    return float((outputs.argmax(axis=1) == labels).mean())


def top_k(outputs, labels, k=5):
    """Share of rows (N, K) whose label is among the k largest entries; ties count against the net."""
    own = outputs[np.arange(len(labels)), labels][:, None]
    return float(((outputs >= own).sum(axis=1) <= k).mean())


def confusion(outputs, labels):
    """(K, K) counts: row the label, column what the net said."""
    n = outputs.shape[1]
    return np.bincount(labels * n + outputs.argmax(axis=1), minlength=n * n).reshape(n, n)


def evaluate(net, loss, loader, k=5, rule=None):
    """Loss and accuracy over a loader, in inference (running statistics, no dropout, nothing kept).

    rule  one attached to the net, whose own way to read it counts (`rule.forward`); a forward pass unless given

    Returns a dict: n, loss (mean per sample) and, where labels are classes, accuracy, top_k, confusion (K, K).
    """
    outputs, labels, total = [], [], 0.0
    for inputs, truth in loader.epoch(0):
        loss.check(truth, len(inputs), net.out_shape)
        output = (rule or net).forward(net.columns(inputs))
        values, _ = loss(output, net.device.put(columns(truth, net.chunk(len(inputs)))))
        total += float(values.sum(dtype="float64"))
        outputs.append(rows(to_host(output)))
        labels.append(truth)
    outputs, labels = np.concatenate(outputs), np.concatenate(labels)
    found = {"n": len(labels), "loss": total / len(labels)}
    if labels.dtype.kind in "iu":
        found |= {"accuracy": accuracy(outputs, labels), "top_k": top_k(outputs, labels, min(k, outputs.shape[1])),
                  "confusion": confusion(outputs, labels)}
    return found

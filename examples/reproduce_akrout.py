"""Reproduce the MNIST runs of Akrout et al. 2019 (arXiv 1904.05391): weight mirrors and Kolen-Pollack in 784-500-10.

    python examples/reproduce_akrout.py                     four rules, one seed, 20 epochs (fetches MNIST if absent)
    python examples/reproduce_akrout.py --rules wm --epochs 400

Logistic units, sigmoid cross-entropy, pixels in [0, 1], batches of 128 in the order of the file (the last short one is
dropped), plain SGD without decay, learning rate 0.2 (backprop, FA), 0.05 (weight mirror), 0.3 (Kolen-Pollack); W, B and
biases start as N(0, 1 / (n_in + n_out)). The mirror is the published one: 468 batches first, then one behind every
update, not centred and without growth control. "wm-centred" is ours: centred, with decay.

Published: the logs of the authors' code, one seed. There biases learn 128 times slower (a second division by the batch
size), and delta angles are of one image; ours are of 512 training images, at the hidden layer's pre-activation. Without
decay W - B stays as it was drawn under Kolen-Pollack, and the angle falls only because W grows. A run writes table.md
and results.json to --out, and goes on where it was stopped.
"""
import argparse
import json
import os

import numpy as np

from nplearn.backend import stream
from nplearn.cli import guarded
from nplearn.data import DataSet, Loader, load
from nplearn.layers import AKROUT, Sigmoid, weighted
from nplearn.losses import SigmoidCrossEntropy
from nplearn.metrics import Probe
from nplearn.nets import mlp
from nplearn.optim import SGD
from nplearn.rules.registry import make
from nplearn.runs import pick
from nplearn.train import Trainer

AS_PUBLISHED = "unit=sigmoid,centre=false,growth=none,tap_normalise=false"
RULES = {"backprop": ("backprop", 0.2), "fa": ("fa", 0.2), "wm": (f"wm:{AS_PUBLISHED}", 0.05), "kp": ("kp", 0.3),
         "wm-centred": ("wm:unit=sigmoid", 0.05)}
EPOCHS = (1, 2, 5, 10, 50, 100, 400)
PUBLISHED = {                                           # after these epochs: accuracy, angle of B to W, of deltas
    "backprop": ((88.0, 89.7, 91.8, 94.1, 97.7, 98.3, 98.5), (0,) * 7, (0,) * 7),
    "fa": ((85.5, 88.0, 89.9, 90.9, 94.6, 96.3, 97.8), (40.0, 34.9, 30.5, 29.3, 38.3, 41.4, 40.0),
           (42, 33, 27, 26, 37, 40, 35)),
    "wm": ((78.5, 84.2, 88.5, 90.5, 96.5, 98.0, 98.5), (61.3, 53.2, 38.0, 27.5, 13.1, 9.3, 3.8),
           (63, 47, 26, 17, 13, 9, 3)),
    "kp": ((88.9, 90.7, 93.5, 95.4, 98.0, 98.3, 98.5), (19.7, 17.1, 13.9, 11.2, 6.2, 4.9, 3.6),
           (19, 16, 15, 12, 6, 4, 3))}


def in_unit_range(data):
    """The same images with pixels from 0 to 1."""
    return DataSet(data.name, data.source, data.inputs, data.labels, data.classes, (0,), (1,))


def train(name, seed, data, epochs, folder, resume=True):
    """One run; returns its history."""
    text, lr = RULES[name]
    net = mlp(10, (500,), Sigmoid, AKROUT).build((28, 28, 1), seed=seed)
    for layer in weighted(net):
        fans = layer.fans(layer.n_out)
        layer.bias.value[...] = AKROUT.draw(stream(seed, "bias", layer.path), layer.bias.value.shape, *fans)
    rule, loss, (training, test) = make(text).attach(net, seed), SigmoidCrossEntropy(), data
    probe = Probe(net, rule, loss, training.normalised(training.inputs[:512]), training.labels[:512])
    trainer = Trainer(net, rule, SGD(net.arena, lr=lr), loss, Loader(training, 128, shuffle=False, drop_last=True),
                      Loader(test, 500, shuffle=False), seed=seed, probe=probe, folder=folder, bar=True,
                      label=f"{name} seed {seed}")
    return trainer.fit(epochs, resume=resume)


def found(history, epoch):
    """(accuracy, angle of B to W in the output layer, angle of the hidden layer's deltas) after an epoch."""
    hidden, output = history[epoch]["layers"]
    return 100 * history[epoch]["test_accuracy"], output["weight_angle"], hidden["delta_angle"]


def table(histories):
    """Lines: for every rule and measure, ours (means over seeds) beside the published."""
    last = max(record["epoch"] for runs in histories.values() for record in runs[0])
    epochs = [epoch for epoch in EPOCHS if epoch <= last]
    if last not in epochs:
        epochs.append(last)
    lines = [f"| rule | measure | {' | '.join(f'epoch {epoch}, ours / published' for epoch in epochs)} |",
             f"|---|---|{'---|' * len(epochs)}"]
    for name, runs in histories.items():
        for i, measure in enumerate(("accuracy, %", "angle of B to W", "angle of deltas")):
            cells = []
            for epoch in epochs:
                ours = np.mean([found(history, epoch)[i] for history in runs])
                theirs = PUBLISHED[name][i][EPOCHS.index(epoch)] if name in PUBLISHED and epoch in EPOCHS else "-"
                cells.append(f"{ours:.1f} / {theirs}")
            lines.append(f"| {name} | {measure} | {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default=",".join(PUBLISHED), help="some of " + ",".join(RULES))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to N-1")
    parser.add_argument("--data", default="mnist", help="mnist, or mnist5k for a look without fetching anything")
    parser.add_argument("--data-dir", default=None, help="where the folder or archive of the data lies")
    parser.add_argument("--out", default="runs/akrout")
    options = parser.parse_args()
    data = tuple(map(in_unit_range, load(options.data, options.data_dir)))
    print(f"{options.data} from {data[0].source}: {len(data[0])} training and {len(data[1])} test records")
    names, histories = options.rules.split(","), {}
    for name in names:
        pick("rule", name, RULES)
    for name in names:
        histories[name] = [train(name, seed, data, options.epochs, os.path.join(options.out, f"{name}-{seed}"))
                           for seed in range(options.seeds)]
    lines = table(histories)
    with open(os.path.join(options.out, "table.md"), "w") as file:
        file.write("\n".join(lines) + "\n")
    with open(os.path.join(options.out, "results.json"), "w") as file:
        json.dump(histories, file)
    print("\n".join(lines))
    print(f"done: {options.epochs} epochs, {options.seeds} seed(s); table and histories in {options.out}")


if __name__ == "__main__":
    guarded(main)

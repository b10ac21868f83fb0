"""Reproduce the MNIST experiment of Li and Benna 2024 (arXiv 2405.20594): accuracy and angles of six rules.

    python examples/reproduce_pfa_mnist.py                      six rules, one seed, 40 epochs (fetches MNIST if absent)
    python examples/reproduce_pfa_mnist.py --rules pfa-o --epochs 2

784-512-512-10, relu, biases, softmax cross-entropy, batch 64 with the last short batch dropped, SGD with momentum 0.9
and coupled decay on every parameter, learning rate 0.01, halved at epochs 20 and 30; xavier-uniform start; PFA expands
by 10. Decay is 1e-4; for PFA and PFA-o 0.03 in the first epoch and 9e-5 after it. Published: means over five seeds
(angles: seed 0), accuracy on the test set after the last epoch. A run writes table.md, results.json and, where
matplotlib is installed, curves.png to --out, and goes on where it was stopped.
"""
import argparse
import importlib.util
import json
import math
import os

import numpy as np

from nplearn import plots
from nplearn.cli import guarded
from nplearn.data import Loader, load
from nplearn.losses import SoftmaxCrossEntropy
from nplearn.metrics import Probe, angle
from nplearn.nets import mlp
from nplearn.optim import SGD, MultiStep
from nplearn.rules.registry import make
from nplearn.runs import pick
from nplearn.train import Trainer

RULES = {"backprop": "backprop", "fa": "fa", "dfa": "dfa:form=biotorch", "usf": "usf", "pfa": "pfa", "pfa-o": "pfa-o"}

PUBLISHED = {                                           # accuracy after epochs 1, 5, 40; final angles, fc1 to fc3
    "backprop": ({1: 96.75, 5: 97.98, 40: 98.38}, None),
    "fa": ({1: 92.72, 5: 95.99, 40: 98.23}, (89.9, 84.8, 61.2)),
    "dfa": ({1: 91.72, 5: 95.58, 40: 98.15}, None),
    "usf": ({1: 95.93, 5: 97.86, 40: 98.25}, (31.6, 30.8, 28.1)),
    "pfa": ({1: 93.22, 5: 97.77, 40: 98.39}, (19.0, 19.5, 23.3)),
    "pfa-o": ({1: 93.43, 5: 97.86, 40: 98.42}, (9.8, 11.6, 2.3)),
}


def train(name, seed, data, epochs, folder, resume=True):
    """One run; returns its history."""
    net = mlp(10, (512, 512)).build((28, 28, 1), seed=seed)
    rule = make(RULES[name]).attach(net, seed)
    decay = MultiStep(0.03, {1: 0.003}) if name.startswith("pfa") else 1e-4
    optimiser = SGD(net.arena, lr=MultiStep(0.01, {20: 0.5, 30: 0.5}), momentum=0.9, decay=decay)
    loss, (training, test) = SoftmaxCrossEntropy(), data
    probe = Probe(net, rule, loss, training.normalised(training.inputs[:512]), training.labels[:512])
    trainer = Trainer(net, rule, optimiser, loss, Loader(training, 64, seed=seed, drop_last=True),
                      Loader(test, 500, shuffle=False), seed=seed, probe=probe, folder=folder, bar=True,
                      label=f"{name} seed {seed}")
    history = trainer.fit(epochs, resume=resume)
    if name == "usf":                                   # the paper measures the lowest layer too
        W = net.layers[1].weight.value
        history[-1]["layers"][0]["weight_angle"] = angle(np.sign(W), W)
    return history


def row(name, histories):
    """One line of the table: ours (mean over seeds) beside the published."""
    published, published_angles = PUBLISHED[name]
    last = histories[0][-1]["epoch"]

    def mean(values):
        return sum(values) / len(values)

    def accuracy(epoch):
        if epoch > last:
            return "-"
        ours = 100 * mean([history[epoch]["test_accuracy"] for history in histories])
        return f"{ours:.2f} / {published[epoch]:.2f}" if epoch in published else f"{ours:.2f} / -"
    angles = [[layer["weight_angle"] for layer in history[-1]["layers"]] for history in histories]
    found = [mean([a if a is not None else math.nan for a in column]) for column in zip(*angles, strict=True)]
    shown = "-" if name in ("backprop", "dfa") else ", ".join("-" if a != a else f"{a:.1f}" for a in found)
    theirs = ", ".join(map(str, published_angles)) if published_angles else "-"
    return f"| {name} | {accuracy(1)} | {accuracy(5)} | {accuracy(last if last > 5 else 40)} | {shown} | {theirs} |"


def draw(histories, path):
    """Accuracy and angle of the middle layer's feedback, by epoch."""
    epochs = [record["epoch"] for record in next(iter(histories.values()))[0]]
    measures = {"test accuracy, %": lambda r: 100 * r["test_accuracy"],
                "weight or path angle of fc2, degrees": lambda r: r["layers"][1]["weight_angle"]}
    plots.curves([{"x": epochs, "xlabel": "epoch", "ylabel": label,
                   "series": {name: [[measure(record) for record in history] for history in found]
                              for name, found in histories.items()},
                   **({"ylim": (90, 99)} if "accuracy" in label else {})}
                  for label, measure in measures.items()], path, title="MNIST, 784-512-512-10")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default=",".join(RULES), help="some of " + ",".join(RULES))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to N-1")
    parser.add_argument("--data-dir", default=None, help="where the folder or archive mnist lies")
    parser.add_argument("--out", default="runs/pfa_mnist")
    options = parser.parse_args()
    data = load("mnist", options.data_dir)
    print(f"mnist from {data[0].source}: {len(data[0])} training and {len(data[1])} test records")
    names, histories = options.rules.split(","), {}
    for name in names:
        pick("rule", name, RULES)
    for name in names:
        histories[name] = [train(name, seed, data, options.epochs, os.path.join(options.out, f"{name}-{seed}"))
                           for seed in range(options.seeds)]
    lines = ["| rule | accuracy after 1 epoch, ours / published | 5 epochs | last epoch "
             "| angle fc1, fc2, fc3 | published |",
             "|---|---|---|---|---|---|", *(row(name, histories[name]) for name in names)]
    with open(os.path.join(options.out, "table.md"), "w") as file:
        file.write("\n".join(lines) + "\n")
    with open(os.path.join(options.out, "results.json"), "w") as file:
        json.dump(histories, file)
    if importlib.util.find_spec("matplotlib"):
        draw(histories, os.path.join(options.out, "curves.png"))
    print("\n".join(lines))
    print(f"done: {options.epochs} epochs, {options.seeds} seed(s); table and histories in {options.out}")


if __name__ == "__main__":
    guarded(main)

"""A training loop with every step visible: forward, loss, walk down, optimiser. No Trainer.

    python examples/01_backprop_by_hand.py
"""
from nplearn import SoftmaxCrossEntropy, Tape
from nplearn.data import Loader, load
from nplearn.layers import Dense, Flatten, ReLU, Sequential
from nplearn.metrics import accuracy
from nplearn.optim import SGD
from nplearn.rules import Backprop

train, test = load("mnist5k")                           # 4,000 and 1,000 real digits, as rows (N, 28, 28, 1)

net = Sequential(Flatten(), fc1=Dense(128), relu1=ReLU(), fc2=Dense(10)).build((28, 28, 1), seed=0)
loss = SoftmaxCrossEntropy()
optimiser = SGD(net.arena, lr=0.05, momentum=0.9, decay=1e-4)

rule = Backprop()
rule.attach(net, seed=0)                                # gives every layer its feedback
rule.follow(optimiser)                                  # what the feedback learns, if anything, gets a twin of it
tape = Tape(net, loss)

step = 0
for epoch in range(5):
    for inputs, labels in Loader(train, batch=64, seed=0).epoch(epoch):
        tape.begin(inputs, labels, seed=(0, step))      # rows become columns: (1, 28, 1, 28, 64)
        tape.output = net.forward(tape.input, tape)     # each layer keeps on the tape what its way back needs
        tape.values, tape.error = loss(tape.output, tape.labels)
        rule.assign(net, tape)                          # the walk down: every gradient is filled
        optimiser.step()                                # the weights move
        rule.learn(net, tape)                           # the feedback moves (backprop's does not)
        step += 1
    right = accuracy(net.predict(test.normalised(test.inputs)), test.labels)
    print(f"epoch {epoch + 1}: loss {tape.values.mean():.3f}, test accuracy {100 * right:.1f} %")

print("A correct run ends above 93 %.")

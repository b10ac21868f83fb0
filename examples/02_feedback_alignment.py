"""Feedback alignment: the error goes down through fixed random matrices, and the weights turn towards them.

    python examples/02_feedback_alignment.py

Watch the angles fall: between W and the random B of a layer, and between the update that feedback alignment makes and
the one that backprop would have made from the same pass. Nothing pushes W towards B but the task itself.
"""
from nplearn import SoftmaxCrossEntropy, Tape
from nplearn.data import Loader, load
from nplearn.layers import Tanh
from nplearn.metrics import Probe, accuracy
from nplearn.nets import mlp
from nplearn.optim import SGD
from nplearn.rules import FeedbackAlignment

train, test = load("mnist5k")
net = mlp(classes=10, hidden=(128, 64), activation=Tanh).build((28, 28, 1), seed=0)
loss = SoftmaxCrossEntropy()
optimiser = SGD(net.arena, lr=0.02, momentum=0.9)
rule = FeedbackAlignment().attach(net, seed=0)
probe = Probe(net, rule, loss, train.normalised(train.inputs[:256]), train.labels[:256])
tape = Tape(net, loss)

print("epoch  accuracy  angle of W to B       angle of update to backprop's")
print("                   fc2      fc3           fc1      fc2      fc3")
step = 0
for epoch in range(9):
    fc1, fc2, fc3 = probe.measure()
    right = accuracy(net.predict(test.normalised(test.inputs)), test.labels)
    print(f"{epoch:5}  {100 * right:6.1f} %  {fc2['weight_angle']:6.1f}   {fc3['weight_angle']:6.1f}        "
          f"{fc1['gradient_angle']:6.1f}   {fc2['gradient_angle']:6.1f}   {fc3['gradient_angle']:6.1f}")
    for inputs, labels in Loader(train, batch=64, seed=0).epoch(epoch):
        tape.begin(inputs, labels, seed=(0, step))
        tape.run(net)
        rule.assign(net, tape)
        optimiser.step()
        step += 1

print("A correct run starts near 90 degrees, ends below 60 for the hidden updates, and reaches 90 %; fc3 is exact: 0.")

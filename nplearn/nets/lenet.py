"""LeNet, in the two forms of BioTorch's benchmark (Sanfiz and Akrout 2021, arXiv 2108.13446).

    grey    conv 5x5 6, pool 2, relu, conv 5x5 16, pool 2, relu, conv 5x5 120, relu, fc 84, relu, fc 10
            for 32x32 inputs, smaller ones padded with zeros to that: 28x28 by 2. 61,706 parameters.
    colour  conv 3x3 32, pool 2, relu, conv 3x3 64, pool 2, relu, conv 3x3 128, relu, global mean, fc 256, relu, fc 10
            128,842 parameters.

BioTorch has each relu before its pool. The other way round all numbers are the same, both ways through, at a quarter of
the work.
"""
from nplearn.layers import XAVIER, Conv2d, Dense, Flatten, GlobalAvgPool, MaxPool2d, ReLU, Sequential


def lenet(classes=10, channels=1, size=28, init=XAVIER):
    """The grey form for one channel, the colour form for more; `size` is the input's height and width."""
    def conv(n, kernel, padding=0):
        return Conv2d(n, kernel, padding=padding, init=init)
    if channels == 1:
        return Sequential(
            conv1=conv(6, 5, padding=max(0, (32 - size) // 2)), pool1=MaxPool2d(2), relu1=ReLU(),
            conv2=conv(16, 5), pool2=MaxPool2d(2), relu2=ReLU(),
            conv3=conv(120, 5), relu3=ReLU(), flatten=Flatten(),
            fc1=Dense(84, init=init), relu4=ReLU(), fc2=Dense(classes, init=init))
    return Sequential(
        conv1=conv(32, 3), pool1=MaxPool2d(2), relu1=ReLU(),
        conv2=conv(64, 3), pool2=MaxPool2d(2), relu2=ReLU(),
        conv3=conv(128, 3), relu3=ReLU(), mean=GlobalAvgPool(),
        fc1=Dense(256, init=init), relu4=ReLU(), fc2=Dense(classes, init=init))

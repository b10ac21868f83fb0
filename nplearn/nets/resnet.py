"""Residual nets for CIFAR: ResNet-20, 32, 56 of He et al. 2016 (arXiv 1512.03385), shortcuts of option A.

    conv 3x3 16, BN, relu; three stages of n blocks with 16, 32, 64 channels, stride 2 at the second and third;
    block: conv 3x3, BN, relu, conv 3x3, BN, plus the shortcut, relu; global mean; fc
    depth = 6 n + 2. ResNet-20 has 269,722 parameters, ResNet-56 853,018.
"""
from nplearn.errors import SettingError
from nplearn.layers import XAVIER, BatchNorm, Conv2d, Dense, GlobalAvgPool, Port, ReLU, Residual, Sequential, Subsample


def cifar_resnet(depth=20, classes=10, init=XAVIER):
    """stem, stage1.block1, ..., mean, fc for 32x32 colour images (other sizes work too)."""
    if depth < 8 or (depth - 2) % 6:
        raise SettingError("resnet", f"depth {depth}", "6 n + 2, such as 20, 32 or 56", "choose one of these")

    def conv(n, stride=1):                              # padding 1 on both sides, as in PyTorch, also at stride 2
        return Conv2d(n, 3, stride, padding=1, bias=False, init=init)
    layers, channels = {"conv1": conv(16), "norm1": BatchNorm(), "relu1": ReLU()}, 16
    for stage, n in enumerate((16, 32, 64), start=1):
        for block in range(1, (depth - 2) // 6 + 1):
            stride = 2 if n != channels else 1
            shortcut = Sequential(port=Port(), subsample=Subsample(n, stride)) if stride == 2 else None
            name = f"stage{stage}_block{block}"
            layers[name] = Residual(conv1=conv(n, stride), norm1=BatchNorm(), relu=ReLU(), conv2=conv(n),
                                    norm2=BatchNorm(), shortcut=shortcut)
            layers[f"{name}_relu"], channels = ReLU(), n
    return Sequential(**layers, mean=GlobalAvgPool(), fc=Dense(classes, init=init))

"""The rivals: PyTorch's backprop on the same nets, BioTorch's own rules, and a step from the user's own file.

BioTorch (Sanfiz and Akrout 2021, arXiv 2108.13446) asks for torchvision and more when it is installed; the one module
used here imports nothing but torch:  pip install --no-deps biotorch
"""
import contextlib
import importlib.util
import io
import os
import sys
import warnings

from benchmark_nets import BIOTORCH_NET, DEVICE, LEARNING_RATE, MOMENTUM, NETS


def torch_step(name, layout, threads):
    """PyTorch's step of a net of the benchmark; layout "default" or "channels_last"."""
    import torch
    prepare(threads)
    place = "cuda" if DEVICE == "gpu" else DEVICE
    net, model = NETS[name], torch_model(name).to(place)
    last = layout == "channels_last"
    shape = (net.shape[2], *net.shape[:2]) if net.maps else net.shape
    inputs = [torch.randn(net.batch, *shape, device=place) for _ in range(1 if net.piece else 4)]
    if last:
        model = model.to(memory_format=torch.channels_last)
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    for x in inputs:
        x.requires_grad_(net.piece)
    labels = [torch.randint(10, (net.batch,), device=place) for _ in inputs]
    error = torch.randn_like(model(inputs[0])) if net.bare else None
    if last and net.bare:
        error = error.contiguous(memory_format=torch.channels_last)
    optimiser, loss, count = sgd(model), torch.nn.CrossEntropyLoss(), [0]

    def step():
        count[0] += 1
        x, y = inputs[count[0] % len(inputs)], labels[count[0] % len(inputs)]
        x.grad = None
        optimiser.zero_grad()
        output = model(x)
        if net.bare:
            output.backward(error)
        else:
            loss(output, y).backward()
        optimiser.step()
        if place == "cuda":
            torch.cuda.synchronize()
    return step


def biotorch_step(mode, threads):
    """A step under one of BioTorch's own rules, on its net of the benchmark."""
    import torch
    prepare(threads)
    warnings.simplefilter("ignore", FutureWarning)      # of the hooks that its dfa stands on
    from biotorch.module.biomodule import BioModule
    net = NETS[BIOTORCH_NET]
    with contextlib.redirect_stdout(io.StringIO()):     # it reports each layer that it converts
        model = BioModule(torch_model(BIOTORCH_NET), mode=mode, copy_weights=False, output_dim=10)
    inputs = [torch.randn(net.batch, net.shape[2], *net.shape[:2]) for _ in range(4)]
    labels = [torch.randint(10, (net.batch,)) for _ in range(4)]
    optimiser, loss, count = sgd(model), torch.nn.CrossEntropyLoss(), [0]

    def step():
        count[0] += 1
        x, y = inputs[count[0] % 4], labels[count[0] % 4]
        optimiser.zero_grad()
        output = model(x, y, loss) if mode == "dfa" else model(x)
        loss(output, y).backward()
        optimiser.step()
    return step


def users_step(path, name):
    """What make(name) of the user's file returns: a function that makes one step."""
    folder, file = os.path.split(os.path.abspath(path))
    sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(os.path.splitext(file)[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make(name)


def prepare(threads):
    import torch
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)


def sgd(model):
    import torch
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, momentum=MOMENTUM)


def torch_model(name):
    """A net of the benchmark in PyTorch."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, c, n, stride=1):
            super().__init__()
            self.c1, self.n1 = nn.Conv2d(c, n, 3, stride, 1, bias=False), nn.BatchNorm2d(n)
            self.c2, self.n2 = nn.Conv2d(n, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n)
            self.stride, self.extra = stride, (n - c) // 2

        def forward(self, x):
            y = self.n2(self.c2(torch.relu(self.n1(self.c1(x)))))
            if self.stride > 1:
                x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
            return torch.relu(x + y)

    class Wide(nn.Module):                              # a block of ResNet-18
        def __init__(self, c, n, stride):
            super().__init__()
            self.body = Block(n, n)
            self.body.c1 = nn.Conv2d(c, n, 3, stride, 1, bias=False)
            self.across = nn.Sequential() if c == n else nn.Sequential(nn.Conv2d(c, n, 1, stride, bias=False),
                                                                       nn.BatchNorm2d(n))

        def forward(self, x):
            b = self.body
            return torch.relu(self.across(x) + b.n2(b.c2(torch.relu(b.n1(b.c1(x))))))

    class Local(nn.Module):                             # unfold and einsum, the usual way without weight sharing
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(64, 128, 64 * 25) * 0.02)
            self.bias = nn.Parameter(torch.zeros(64, 128))

        def forward(self, x):
            patches = nn.functional.unfold(nn.functional.pad(x, (1, 2, 1, 2)), 5, stride=2)
            y = torch.einsum("bkp,pok->bop", patches, self.weight) + self.bias.T
            return y.reshape(len(x), 128, 8, 8)

    def dense(*widths):
        parts = []
        for a, b in zip(widths, widths[1:], strict=False):
            parts += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*parts[:-1])

    def head(n):
        return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n, 10)

    def resnet():
        blocks, c = [], 16
        for n in (16, 32, 64):
            for _ in range(3):
                blocks, c = [*blocks, Block(c, n, 1 + (n != c))], n
        return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks, *head(64))

    def resnet18():
        widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
        blocks = [Wide(c, n, 1 + (n != c)) for c, n in zip(widths, widths[1:], strict=False)]
        return nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                             nn.MaxPool2d(3, 2, 1), *blocks, *head(512))

    def lenet():
        return nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                             nn.MaxPool2d(2), nn.Flatten(), *dense(400, 120, 84, 10))

    def small():
        return dense(784, 100, 10)
    return {
        "mlp": lambda: dense(784, 1000, 1000, 10), "pfa": lambda: dense(784, 512, 512, 10),
        "small1": small, "small8": small, "small32": small,
        "lenet": lenet, "resnet20": resnet, "resnet20x1024": resnet, "resnet18": resnet18,
        "block": lambda: nn.Sequential(Block(64, 64), Block(64, 64), *head(64)),
        "local": Local, "conv64": lambda: nn.Conv2d(64, 64, 3, padding=1),
    }[name]()

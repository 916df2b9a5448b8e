"""The convolutional network of System 5, up to the features in front of its last layer or to a single output.

Source: Paddle, "zero-basis deep learning", sections 2.4 and 2.5; its data's preparation is FreshSmall/Ai-chapter1,
lesson2/data_process.py.

| layer    | kernel            | output       | parameters |
|----------|-------------------|--------------|------------|
| conv1    | 5x5, padded, ReLU | 20 x 28 x 28 |        520 |
| pool1    | 2x2 max           | 20 x 14 x 14 |            |
| conv2    | 5x5, padded, ReLU | 20 x 14 x 14 |     10,020 |
| pool2    | 2x2 max           | 20 x 7 x 7   |            |
| output   | dense             | 10 or 1      | 9,810 or 981 |

10,540 parameters in front of the output; 20,350 with a head's ten classes, 11,521 with the single output that squared
error is taken of.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DigitRecogniser(nn.Module):
    """Maps images ``(N, 1, 28, 28)`` with values in [-1, 1] to features ``(N, 980)``, or to one number each.

    Args:
        single_output: whether a dense layer makes one number of the features, ``(N, 1)``, to compare with the digit.
    """

    def __init__(self, single_output: bool = False) -> None:
        super().__init__()
        self.out_features = 1 if single_output else 980
        self.conv1 = nn.Conv2d(1, 20, 5, padding=2)
        self.conv2 = nn.Conv2d(20, 20, 5, padding=2)
        for layer in (self.conv1, self.conv2):  # the defaults of paddle.nn.Conv2D
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.in_channels * 5 * 5)))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self.output = nn.Linear(980, 1) if single_output else None
        if self.output is not None:
            nn.init.xavier_uniform_(self.output.weight)  # the default of paddle.nn.Linear
            nn.init.zeros_(self.output.bias)
        # Pixel by pixel in memory, as convolutions want it on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's annotations

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 980)``, or single outputs ``(N, 1)``, of images ``(N, 1, 28, 28)``."""
        # ReLU is monotonic, so it commutes with a maximum: after pooling it has a quarter of the work, bit for bit.
        x = F.max_pool2d(self.conv1(images), 2).relu()  # (N, 20, 14, 14)
        x = F.max_pool2d(self.conv2(x), 2).relu()  # (N, 20, 7, 7)
        x = x.flatten(1)
        return x if self.output is None else self.output(x)

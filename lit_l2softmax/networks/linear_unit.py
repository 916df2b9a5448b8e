"""The smallest network of System 3: a weighted sum.

Source: Cao Jian, PKU, "neural network optimisation", opt4_1 to opt4_5. Two weights predict the sale of yoghurt from two
inputs; one weight, on the input 1, is the w of (w + 1)^2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LinearUnit(nn.Module):
    """Maps inputs ``(N, D)`` to ``(N,)``, each its product with D weights; there is no bias.

    Args:
        initial: the D weights at first.

    Raises:
        ValueError: where there is none.
    """

    out_features = 1

    def __init__(self, initial: Sequence[float]) -> None:
        super().__init__()
        if not len(initial):
            raise ValueError("initial must hold a weight or more")
        self.weight = nn.Parameter(torch.tensor(initial, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs ``(N,)`` of inputs ``(N, D)``."""
        return inputs @ self.weight

"""Losses of a regression that PyTorch does not have."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Reduction = Literal["sum", "mean", "none"]


class AsymmetricLoss(nn.Module):
    """``cost * (output - target)`` where the output is too large, ``profit * (target - output)`` where it is not.

    What a unit too many costs, against what a unit missing loses. It is the quantile (pinball) loss of the quantile
    profit / (cost + profit), times cost + profit. Where an output hits its target exactly the gradient is -profit, as
    in the source.

    Args:
        cost: slope above the target.
        profit: slope below it.
        reduction: ``"sum"``, the source's, ``"mean"`` or ``"none"``.

    Raises:
        ValueError: on a slope that is not positive and finite, or another reduction.

    Source: Cao Jian, PKU, "neural network optimisation", opt4_2 and opt4_3, whose programs have it right; a copy of the
    text writes ``cost * (target - output)`` above the target, which would be negative.
    """

    def __init__(self, cost: float, profit: float, reduction: Reduction = "sum") -> None:
        super().__init__()
        for name, slope in (("cost", cost), ("profit", profit)):
            if not 0 < slope < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {slope}")
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be 'sum', 'mean' or 'none', got {reduction!r}")
        self.cost, self.profit, self.reduction = cost, profit, reduction

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of outputs and targets of one shape; 0-d, or of that shape where it is not reduced.

        Raises:
            ValueError: on two shapes, which would be broadcast in silence.
        """
        if output.shape != target.shape:
            raise ValueError(f"outputs are {tuple(output.shape)}, targets {tuple(target.shape)}")
        excess = output - target
        losses = torch.where(excess > 0, self.cost * excess, -self.profit * excess)
        if self.reduction == "none":
            return losses
        return losses.sum() if self.reduction == "sum" else losses.mean()

    def extra_repr(self) -> str:
        """What ``print`` shows between the parentheses."""
        return f"cost={self.cost:g}, profit={self.profit:g}, reduction={self.reduction!r}"

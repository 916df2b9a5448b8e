"""What the schedules are given: the operator's arguments as one object."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .._runtime import accumulate_dtype
from .._softmax import CrossEntropyOptions


@dataclass(frozen=True, slots=True)
class Problem:
    """The arguments of ``linear_l2_softmax_cross_entropy``, already checked; N rows, D features, C classes."""

    input: Tensor
    linear_weight: Tensor
    target: Tensor
    linear_bias: Tensor | None
    weight: Tensor | None
    alpha: float | Tensor
    normalize_weight: bool
    angular_margin: float
    cosine_margin: float
    options: CrossEntropyOptions
    sharded: bool = False  # whether a target that is no class here is a class of another process

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, D, C."""
        return *self.input.shape, self.linear_weight.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """In which everything is accumulated and the loss returned."""
        return accumulate_dtype(self.input, self.linear_weight)

    @property
    def has_margin(self) -> bool:
        """Whether the target's cosine is changed."""
        return bool(self.angular_margin or self.cosine_margin)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a forward pass leaves to the backward pass.

    Attributes:
        total: what a mean was divided by, 0-d; ``(0,)`` where nothing was.
        rows: ``(3, N)``: each row's norm, the log-sum-exp of all its logits but the target's, the target's cosine
            before any margin.
        class_norms: ``(C,)`` with normalised weights, else ``(0,)``.
    """

    total: Tensor
    rows: Tensor
    class_norms: Tensor


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose gradients are asked for."""

    input: bool
    linear_weight: bool
    linear_bias: bool
    alpha: bool


@dataclass(frozen=True, slots=True)
class Gradients:
    """The gradients; an empty tensor of its own for one that is not wanted."""

    input: Tensor
    linear_weight: Tensor
    linear_bias: Tensor
    alpha: Tensor

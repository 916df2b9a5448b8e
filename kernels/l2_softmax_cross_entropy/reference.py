"""The equations, a PyTorch call each: the operator's specification and the oracle of its tests."""

import torch.nn.functional as F
from torch import Tensor

from .._runtime import accumulate_dtype
from .._softmax import checked_target, unit_rows


def l2_softmax_cross_entropy_reference(
    input: Tensor,
    target: Tensor,
    *,
    alpha: float | Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    eps: float = 1e-12,
) -> Tensor:
    """The equations of the package's docstring; arguments as the operator's."""
    dtype = accumulate_dtype(input)
    return F.cross_entropy(
        alpha * unit_rows(input.to(dtype), eps),
        checked_target(target, input.shape[1], ignore_index),
        None if weight is None else weight.to(dtype),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )

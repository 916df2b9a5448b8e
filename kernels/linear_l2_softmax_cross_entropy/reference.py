"""The equations, a PyTorch call each: the operator's specification and the oracle of its tests."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .._runtime import accumulate_dtype, no_autocast
from .._softmax import checked_target, unit_rows
from .margin import with_margin


def linear_l2_softmax_cross_entropy_reference(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    alpha: float | Tensor,
    normalize_weight: bool = False,
    angular_margin: float = 0.0,
    cosine_margin: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    eps: float = 1e-12,
) -> Tensor:
    """The equations of the package's docstring; arguments as the operator's."""
    dtype = accumulate_dtype(input, linear_weight)
    with no_autocast(input):
        target = checked_target(target, linear_weight.shape[0], ignore_index)
        classes = linear_weight.to(dtype)
        if normalize_weight:
            classes = unit_rows(classes, eps)
        cosine = F.linear(unit_rows(input.to(dtype), eps), classes)
        if angular_margin or cosine_margin:
            # An ignored row has no target's column; any will do, for its loss is dropped.
            column = torch.where(target == ignore_index, 0, target)[:, None]
            moved = with_margin(cosine.gather(1, column), angular_margin, cosine_margin)
            cosine = cosine.scatter(1, column, moved)
        logits = alpha * cosine
        if linear_bias is not None:
            logits = logits + linear_bias.to(dtype)
        return F.cross_entropy(
            logits,
            target,
            None if weight is None else weight.to(dtype),
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )

"""Few classes, in PyTorch: the ``(N, C)`` scores are a sliver beside the features and are whole in cache.

What touches N D numbers is done once, by one Function with a derivative of its own; all behind it is of size N C and is
PyTorch's, whose own nodes cost less than a call from Python. So there is nothing opaque here: torch.compile fuses it,
and derivatives of any order are autograd's.

Legend: N rows, D features, C classes.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._autograd import called_by_position
from .._runtime import accumulate_dtype, no_autocast
from .._softmax import CrossEntropyOptions, check_targets, checked_target, unit_rows
from .margin import with_margin


class _Scores(torch.autograd.Function):
    """``alpha u . v`` of all rows and classes, ``(N, C)``; and the rows' norms, ``(N, 1)``, without a derivative.

    Calls decide at the tutorials' sizes, so alpha is a factor of the backward pass's products and no call of its own.
    """

    @staticmethod
    @called_by_position
    def forward(x: Tensor, classes: Tensor, alpha: float, eps: float) -> tuple[Tensor, Tensor]:
        norm = _norm(x)
        # The rows are divided and not the products, which a row of large numbers would make infinite.
        return ((x / norm.clamp_min(eps)) @ classes.T).mul_(alpha), norm

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        x, classes, ctx.alpha, ctx.eps = inputs
        ctx.save_for_backward(x, classes, *output)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> Any:
        if grad is None:
            return None, None, None, None
        x, classes, scores, norm = ctx.saved_tensors
        once = not torch.is_grad_enabled()
        if not once:  # this may be differentiated again, and what is kept has no derivative
            norm = _norm(x)
        wants_x, wants_classes, _, _ = ctx.needs_input_grad
        length = norm.clamp_min(ctx.eps)
        slope = grad / length
        dx = dclasses = None
        with no_autocast(x):
            if wants_classes:
                dclasses = torch.addmm(classes, slope.T, x, beta=0, alpha=ctx.alpha)
            if wants_x:
                slope = slope.masked_fill(norm < ctx.eps, 0.0)  # a short row has no gradient
                radial = (slope * scores).sum(1, keepdim=True) / length  # alpha u . h / ||x||^2
                dx = torch.addmm(x, slope, classes, beta=0, alpha=ctx.alpha)
                dx = dx.addcmul_(x, radial, value=-1) if once else dx.addcmul(x, radial, value=-1)
        return dx, dclasses, None, None


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return norm


def loss(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None,
    alpha: float | Tensor,
    normalize_weight: bool,
    angular_margin: float,
    cosine_margin: float,
    weight: Tensor | None,
    options: CrossEntropyOptions,
) -> Tensor:
    """The operator's loss; arguments as the operator's."""
    dtype, C = accumulate_dtype(input, linear_weight), linear_weight.shape[0]
    waits = input.is_cuda or torch.compiler.is_compiling()
    if waits:
        target = checked_target(target, C, options.ignore_index)
    elif angular_margin or cosine_margin:
        check_targets(target, C, options.ignore_index)
    with no_autocast(input):
        x = input if input.dtype == dtype else input.to(dtype)
        classes = linear_weight if linear_weight.dtype == dtype else linear_weight.to(dtype)
        if normalize_weight:
            classes = unit_rows(classes, options.eps)
        fixed = not isinstance(alpha, Tensor)
        scores: Callable[..., tuple[Tensor, Tensor]] = _Scores.apply if torch.is_grad_enabled() else _Scores.forward
        logits = scores(x, classes, alpha if fixed else 1.0, options.eps)[0]
        if not fixed:
            logits = logits * alpha
        if angular_margin or cosine_margin:
            # An ignored row has no target's column; any will do, for its loss is dropped.
            column = torch.where(target == options.ignore_index, 0, target)[:, None]
            moved = with_margin(logits.gather(1, column) / alpha, angular_margin, cosine_margin)
            logits = logits.scatter(1, column, alpha * moved)
        if linear_bias is not None:
            logits = logits + linear_bias.to(dtype)
        try:
            reduced: Tensor = F.cross_entropy(
                logits,
                target,
                None if weight is None else weight.to(dtype),
                ignore_index=options.ignore_index,
                reduction=options.reduction,
                label_smoothing=options.label_smoothing,
            )
        except IndexError:
            if not waits:  # PyTorch's own check says no row
                check_targets(target, C, options.ignore_index)
            raise
    return reduced

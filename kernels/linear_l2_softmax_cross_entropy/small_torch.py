"""Few classes, in PyTorch: the ``(N, C)`` scores are a sliver beside the features and are whole in cache.

What touches N D numbers is done once, by one Function with a derivative of its own; all behind it is of size N C and is
PyTorch's, whose own nodes cost less than a call from Python. So there is nothing opaque here: torch.compile fuses it,
and derivatives of any order are autograd's.

Legend: N rows, D features, C classes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._runtime import accumulate_dtype, no_autocast
from .._softmax import CrossEntropyOptions, check_targets, checked_target, unit_rows
from .margin import with_margin


class _Scores(torch.autograd.Function):
    """``alpha u . v`` of all rows and classes, ``(N, C)``: the norms are scalings of the product's ends."""

    @staticmethod
    def forward(x: Tensor, classes: Tensor, alpha: float | Tensor, eps: float) -> Tensor:
        return (x * (_norm(x).clamp_min(eps).reciprocal() * alpha)) @ classes.T

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, classes, alpha, ctx.eps = inputs
        ctx.alpha = None if isinstance(alpha, Tensor) else alpha
        ctx.save_for_backward(x, classes, output, alpha if isinstance(alpha, Tensor) else None)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        # Nothing but inputs and the output is kept, and nothing is done in place: this may be differentiated again.
        x, classes, scores, alpha_tensor = ctx.saved_tensors
        alpha = ctx.alpha if alpha_tensor is None else alpha_tensor
        wants_x, wants_classes, wants_alpha, _ = ctx.needs_input_grad
        norm = _norm(x)
        scale = norm.clamp_min(ctx.eps).reciprocal() * alpha
        along = (grad * scores).sum(1, keepdim=True)  # alpha u . h
        dx = dclasses = dalpha = None
        with no_autocast(x):
            if wants_x:
                short = norm < ctx.eps
                radial = torch.where(short, 0.0, along / norm / norm)
                dx = torch.addcmul((grad * torch.where(short, 0.0, scale)) @ classes, x, radial, value=-1)
            if wants_classes:
                dclasses = (grad * scale).T @ x
        if wants_alpha:
            dalpha = along.sum() / alpha
        return dx, dclasses, dalpha, None


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
        classes = linear_weight.to(dtype)
        if normalize_weight:
            classes = unit_rows(classes, options.eps)
        logits: Tensor = _Scores.apply(input.to(dtype), classes, alpha, options.eps)  # type: ignore[no-untyped-call]
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

"""Few scores, in PyTorch: the ``(N, C)`` ones are whole, and mostly a sliver beside the features.

What touches features and class weights is done once, by one Function with a derivative of its own; all behind it is of
size N C and is PyTorch's, whose own nodes cost less than a call from Python. So there is nothing opaque here:
torch.compile fuses it, and derivatives of any order are autograd's.

Legend: N rows, D features, C classes.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._autograd import called_by_position
from .._runtime import accumulate_dtype, no_autocast
from .._softmax import CrossEntropyOptions, check_targets, checked_target
from .margin import with_margin


class _Scores(torch.autograd.Function):
    """``alpha u . v`` of all rows and classes, ``(N, C)``; and norms, ``(N, 1)`` and perhaps ``(C, 1)``, as constants.

    What is done to each number beside the products is done to the fewer of ``N C`` and ``N D``. Calls decide at the
    tutorials' sizes, so alpha is a factor of the backward pass's products and no call of its own.
    """

    @staticmethod
    @called_by_position
    def forward(x: Tensor, w: Tensor, alpha: float, eps: float, normalize_weight: bool) -> tuple[Tensor, ...]:
        norm = _norm(x)
        class_norms = [_norm(w)] if normalize_weight else []
        # The rows are divided and not the products, which a row of large numbers would make infinite.
        u = x / norm.clamp_min(eps)
        v = w / class_norms[0].clamp_min(eps) if normalize_weight else w
        # With beta 0 the norms give the sum its dtype alone, but in what torch.compile makes of one row an infinite one
        # would count. Nothing is changed in place: torch 2.11 compiles a Function that changes its own result into one
        # without a gradient.
        if torch.compiler.is_compiling():
            return (u @ v.T) * alpha, norm, *class_norms
        return torch.addmm(norm, u, v.T, beta=0, alpha=alpha), norm, *class_norms

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
        x, w, ctx.alpha, ctx.eps, ctx.normalize_weight = inputs
        scores, *norms = output
        ctx.save_for_backward(x, w, scores if _fewer_scores(x, w) else None, *norms)
        ctx.mark_non_differentiable(*norms)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> Any:
        if grad is None:
            return None, None, None, None, None
        x, w, scores, *norms = ctx.saved_tensors
        once = not torch.is_grad_enabled()
        if not once:  # this may be differentiated again, and what is kept has no derivative
            x, norms[0] = _differentiable(x, norms[0], ctx.eps)
            if ctx.normalize_weight:
                w, norms[1] = _differentiable(w, norms[1], ctx.eps)
        wants_x, wants_w, _, _, _ = ctx.needs_input_grad
        norm, length = norms[0], norms[0].clamp_min(ctx.eps)
        dx = dw = None
        with no_autocast(x):
            v = w / norms[1].clamp_min(ctx.eps) if ctx.normalize_weight else w
            if scores is not None:
                slope = grad / length
                if wants_w:
                    dw = torch.addmm(w, slope.T, x, beta=0, alpha=ctx.alpha)
                if wants_x:
                    slope = slope.masked_fill(norm < ctx.eps, 0.0)  # a short row has no gradient
                    radial = (slope * scores).sum(1, keepdim=True) / length  # alpha u . h / ||x||^2
                    dx = torch.addmm(x, slope, v, beta=0, alpha=ctx.alpha)
                    dx = dx.addcmul_(x, radial, value=-1) if once else dx.addcmul(x, radial, value=-1)
            else:
                u = x / length
                if wants_w:
                    dw = torch.addmm(w, grad.T, u, beta=0, alpha=ctx.alpha)
                if wants_x:
                    dx = _tangent(torch.addmm(x, grad, v, beta=0, alpha=ctx.alpha), u, norm, ctx.eps, once)
            if dw is not None and ctx.normalize_weight:
                dw = _tangent(dw, v, norms[1], ctx.eps, once)
        return dx, dw, None, None, None


def _fewer_scores(x: Tensor, w: Tensor) -> bool:
    return w.shape[0] <= x.shape[1]


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return norm


def _differentiable(x: Tensor, norm: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Rows and their norms with derivatives of every order, but short rows, which are constants."""
    short = norm < eps
    # A norm's derivatives divide by it, so that of a short row is never taken.
    long_norm = _norm(torch.where(short, 1.0, x))
    return torch.where(short, x.detach(), x), torch.where(short, norm, long_norm)


def _tangent(h: Tensor, unit: Tensor, norm: Tensor, eps: float, in_place: bool) -> Tensor:
    """``(h - u (u . h)) / ||x||``, the gradient of rows that were put on the unit sphere; none of a short one."""
    along = (unit * h).sum(1, keepdim=True)
    scale = (1 / norm.clamp_min(eps)).masked_fill(norm < eps, 0.0)
    return h.addcmul_(unit, along, value=-1).mul_(scale) if in_place else h.addcmul(unit, along, value=-1) * scale


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
        fixed = not isinstance(alpha, Tensor)
        scores: Callable[..., tuple[Tensor, Tensor]] = _Scores.apply if torch.is_grad_enabled() else _Scores.forward
        logits = scores(x, classes, alpha if fixed else 1.0, options.eps, normalize_weight)[0]
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

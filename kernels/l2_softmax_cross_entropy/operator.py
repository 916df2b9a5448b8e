"""The operator: its registration with torch, its derivative, and the function people call."""

from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .._autograd import called_by_position, first_gradients
from .._library import LIBRARY, register
from .._runtime import (
    Impl,
    accumulate_dtype,
    check_devices,
    check_floating,
    check_impl,
    fastest_impl,
    import_triton,
    no_autocast,
)
from .._softmax import OPTIONS_SCHEMA, CrossEntropyOptions, check_common, loss_shape
from . import torch_schedule
from .reference import l2_softmax_cross_entropy_reference

# Numbers kept of a row between forward and backward: its norm, the log-sum-exp of all logits but the target's and,
# where the kernel must not read the row twice, u . G / g.
KEPT = {"torch": 2, "triton": 3}


@cache
def _schedule(impl: Impl) -> ModuleType:
    if impl == "torch":
        return torch_schedule
    return import_triton("l2_softmax_cross_entropy", f"{__package__}.kernels")


def _forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    alpha_tensor: Tensor | None,
    alpha: float,
    impl: Impl,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    with no_autocast(input):
        result: tuple[Tensor, Tensor, Tensor] = _schedule(impl).forward(
            input, target, weight, alpha if alpha_tensor is None else alpha_tensor, CrossEntropyOptions(*options)
        )
    return result


def _backward(
    grad: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    alpha_tensor: Tensor | None,
    alpha: float,
    total: Tensor,
    kept: Tensor,
    wants_input: bool,
    impl: Impl,
    *options: Any,
) -> tuple[Tensor, Tensor]:
    with no_autocast(input):
        dinput, dalpha = _schedule(impl).backward(
            grad,
            input,
            target,
            weight,
            alpha if alpha_tensor is None else alpha_tensor,
            total,
            kept,
            wants_input,
            CrossEntropyOptions(*options),
        )
    return dinput, dalpha if alpha_tensor is None else dalpha.to(alpha_tensor.dtype)


def _forward_fake(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,  # noqa: ARG001 - the op's schema
    alpha_tensor: Tensor | None,  # noqa: ARG001
    alpha: float,  # noqa: ARG001
    impl: Impl,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    loss, total = loss_shape(target, CrossEntropyOptions(*options).reduction)
    new = partial(input.new_empty, dtype=accumulate_dtype(input))
    return new(loss), new(total), new(KEPT[impl], input.shape[0])


def _backward_fake(
    grad: Tensor,  # noqa: ARG001 - the op's schema
    input: Tensor,
    target: Tensor,  # noqa: ARG001
    weight: Tensor | None,  # noqa: ARG001
    alpha_tensor: Tensor | None,
    alpha: float,  # noqa: ARG001
    total: Tensor,  # noqa: ARG001
    kept: Tensor,  # noqa: ARG001
    wants_input: bool,
    *arguments: Any,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    dtype = accumulate_dtype(input) if alpha_tensor is None else alpha_tensor.dtype
    return input.new_empty(input.shape if wants_input else 0), input.new_empty((), dtype=dtype)


_fwd_op = register(
    "l2_softmax_cross_entropy(Tensor input, Tensor target, Tensor? weight, Tensor? alpha_tensor, float alpha, "
    f"str impl, {OPTIONS_SCHEMA}) -> (Tensor loss, Tensor total, Tensor kept)",
    _forward,
    _forward_fake,
)
_bwd_op = register(
    "l2_softmax_cross_entropy_backward(Tensor grad, Tensor input, Tensor target, Tensor? weight, Tensor? alpha_tensor, "
    f"float alpha, Tensor total, Tensor kept, bool wants_input, str impl, {OPTIONS_SCHEMA}) -> "
    "(Tensor dinput, Tensor dalpha)",
    _backward,
    _backward_fake,
)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    input, target, weight, alpha_tensor, ctx.alpha, ctx.impl, *options = inputs
    ctx.options = CrossEntropyOptions(*options)
    _, total, kept = output
    ctx.save_for_backward(input, target, weight, alpha_tensor, total, kept)
    ctx.mark_non_differentiable(total, kept)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad: Tensor | None, *_: None) -> Any:
    """The gradients of the logits and of alpha, each if it is asked for."""
    input, target, weight, alpha_tensor, total, kept = ctx.saved_tensors
    wants_input, _, _, wants_alpha = ctx.needs_input_grad[:4]
    nothing = [None] * len(ctx.needs_input_grad)
    if grad is None:
        return tuple(nothing)

    def fused(grad: Tensor, input: Tensor, alpha_tensor: Tensor | None) -> Any:
        arguments = (grad, input, target, weight, alpha_tensor, ctx.alpha, total, kept, wants_input)
        return _bwd_op(*arguments, ctx.impl, *ctx.options)

    def reference(input: Tensor, alpha_tensor: Tensor | None) -> Tensor:
        alpha = ctx.alpha if alpha_tensor is None else alpha_tensor
        return l2_softmax_cross_entropy_reference(input, target, alpha=alpha, weight=weight, **ctx.options._asdict())

    dinput, dalpha = first_gradients(fused, reference, grad, (input, alpha_tensor))
    return dinput if wants_input else None, None, None, dalpha if wants_alpha else None, *nothing[4:]


class _L2SoftmaxCrossEntropy(torch.autograd.Function):
    """The operator with its derivative, as torch.func wants it."""

    @staticmethod
    @called_by_position
    def forward(
        input: Tensor,
        target: Tensor,
        weight: Tensor | None,
        alpha_tensor: Tensor | None,
        alpha: float,
        impl: Impl,
        ignore_index: int,
        reduction: str,
        label_smoothing: float,
        eps: float,
    ) -> Any:
        # Written out, for torch.compile counts these to know whether a context comes first.
        options = (ignore_index, reduction, label_smoothing, eps)
        return _fwd_op(input, target, weight, alpha_tensor, alpha, impl, *options)

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_differentiate)


# An exported graph has the operator itself in it, without the Function around it, and must be trainable too.
torch.library.register_autograd(
    "lit_l2softmax::l2_softmax_cross_entropy", _differentiate, setup_context=_setup_context, lib=LIBRARY
)


def l2_softmax_cross_entropy(
    input: Tensor,
    target: Tensor,
    *,
    alpha: float | Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    eps: float = 1e-12,
    impl: Impl = "auto",
) -> Tensor:
    """Normalises each row of *logits* to length ``alpha`` (LogitNorm) and takes their softmax cross-entropy.

    This is not the L2-constrained softmax loss of arXiv:1703.09507, which normalises the *features* in front of the
    classifier: that one is :func:`linear_l2_softmax_cross_entropy`.

    Args:
        input: logits, ``(N, C)``, float16 | bfloat16 | float32 | float64, any strides.
        target: class indices in ``[0, C)`` or ``ignore_index``, ``(N,)``, int64.
        alpha: length of a row after normalisation, > 0; a 0-d tensor, on ``input``'s device, may ask for a gradient.
        weight: class weights, ``(C,)``, without a gradient.
        ignore_index: rows with this target have neither loss nor gradient.
        reduction: ``"mean"`` (over rows that count, weighted) | ``"sum"`` | ``"none"``.
        label_smoothing: share of the target taken from its class and spread over all, in ``[0, 1]``.
        eps: a row shorter than this is divided by it instead, and gets a zero gradient.
        impl: ``"auto"`` (Triton on CUDA, PyTorch's schedule elsewhere and for float64) | ``"triton"`` | ``"torch"`` |
            ``"reference"`` (the equations; the only one that keeps a copy of the logits).

    Returns:
        The loss in nats, 0-d, or ``(N,)`` for ``"none"``; float32, float64 for float64 input.

    Raises:
        ValueError: on shapes or numbers out of range, tensors on different devices, or an ``impl`` that cannot run on
            this device or in this precision.
        TypeError: on a dtype other than the above.
        ImportError: on a CUDA device without Triton.
        IndexError: on a target out of range, naming its row (asynchronously on CUDA).
    """
    if input.ndim != 2:
        raise ValueError(f"input must have shape (N, C), got {tuple(input.shape)}")
    check_floating("input", input)
    check_common(
        input,
        target,
        input.shape[1],
        alpha=alpha,
        weight=weight,
        reduction=reduction,
        label_smoothing=label_smoothing,
        eps=eps,
    )
    check_devices(input, {"target": target, "weight": weight, "alpha": alpha}, operator="l2_softmax_cross_entropy")
    check_impl(impl, input, operator="l2_softmax_cross_entropy")
    options = CrossEntropyOptions(ignore_index, reduction, label_smoothing, eps)
    if impl == "reference":
        return l2_softmax_cross_entropy_reference(input, target, alpha=alpha, weight=weight, **options._asdict())
    loss: Tensor = _L2SoftmaxCrossEntropy.apply(  # type: ignore[no-untyped-call]
        input,
        target,
        weight,
        alpha if isinstance(alpha, Tensor) else None,
        0.0 if isinstance(alpha, Tensor) else float(alpha),
        fastest_impl(input) if impl == "auto" else impl,
        *options,
    )[0]
    return loss

"""The operator: its registration with torch, its derivative, and the function people call."""

import math
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
from . import small_torch, torch_schedule
from .paths import torch_takes_all_at_once
from .problem import Gradients, Kept, Problem, Wanted
from .reference import linear_l2_softmax_cross_entropy_reference

_ARGUMENTS = (
    "Tensor input, Tensor linear_weight, Tensor target, Tensor? linear_bias, Tensor? weight, Tensor? alpha_tensor, "
    "float alpha, bool normalize_weight, float angular_margin, float cosine_margin, str impl, " + OPTIONS_SCHEMA
)


@cache
def schedule_of(impl: Impl) -> ModuleType:
    """The tiles of an implementation, ``"torch"`` or ``"triton"``."""
    if impl == "torch":
        return torch_schedule
    return import_triton("linear_l2_softmax_cross_entropy", f"{__package__}.kernel_schedule")


def _problem(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    alpha_tensor: Tensor | None,
    alpha: float,
    normalize_weight: bool,
    angular_margin: float,
    cosine_margin: float,
    impl: Impl,
    *options: Any,
) -> tuple[Problem, ModuleType]:
    problem = Problem(
        input,
        linear_weight,
        target,
        linear_bias,
        weight,
        alpha if alpha_tensor is None else alpha_tensor,
        normalize_weight,
        angular_margin,
        cosine_margin,
        CrossEntropyOptions(*options),
    )
    return problem, schedule_of(impl)


def _forward(input: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problem, schedule = _problem(input, *arguments)
    with no_autocast(input):
        loss, kept = schedule.forward(problem)
    return loss, kept.total, kept.rows, kept.class_norms


def _backward(
    grad: Tensor,
    total: Tensor,
    rows: Tensor,
    class_norms: Tensor,
    wants_input: bool,
    wants_weight: bool,
    wants_bias: bool,
    wants_alpha: bool,
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    alpha_tensor: Tensor | None,
    *arguments: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problem, schedule = _problem(input, linear_weight, target, linear_bias, weight, alpha_tensor, *arguments)
    wanted = Wanted(wants_input, wants_weight, wants_bias, wants_alpha)
    with no_autocast(input):
        gradients: Gradients = schedule.backward(grad, problem, Kept(total, rows, class_norms), wanted)
    return (
        gradients.input.to(input.dtype),
        gradients.linear_weight.to(linear_weight.dtype),
        gradients.linear_bias if linear_bias is None else gradients.linear_bias.to(linear_bias.dtype),
        gradients.alpha if alpha_tensor is None else gradients.alpha.to(alpha_tensor.dtype),
    )


def _forward_fake(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,  # noqa: ARG001 - the op's schema
    weight: Tensor | None,  # noqa: ARG001
    alpha_tensor: Tensor | None,  # noqa: ARG001
    alpha: float,  # noqa: ARG001
    normalize_weight: bool,
    angular_margin: float,  # noqa: ARG001
    cosine_margin: float,  # noqa: ARG001
    impl: Impl,  # noqa: ARG001
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loss, total = loss_shape(target, CrossEntropyOptions(*options).reduction)
    new = partial(input.new_empty, dtype=accumulate_dtype(input, linear_weight))
    class_norms = linear_weight.shape[0] if normalize_weight else 0
    return new(loss), new(total), new((3, input.shape[0])), new(class_norms)


def _backward_fake(
    grad: Tensor,  # noqa: ARG001 - the op's schema
    total: Tensor,  # noqa: ARG001
    rows: Tensor,
    class_norms: Tensor,  # noqa: ARG001
    wants_input: bool,
    wants_weight: bool,
    wants_bias: bool,
    wants_alpha: bool,
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,  # noqa: ARG001
    linear_bias: Tensor | None,
    weight: Tensor | None,  # noqa: ARG001
    alpha_tensor: Tensor | None,
    *arguments: Any,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        input.new_empty(input.shape if wants_input else 0),
        linear_weight.new_empty(linear_weight.shape if wants_weight else 0),
        rows.new_empty(0) if linear_bias is None else linear_bias.new_empty(linear_bias.shape if wants_bias else 0),
        (rows if alpha_tensor is None else alpha_tensor).new_empty(() if wants_alpha else 0),
    )


_fwd_op = register(
    f"linear_l2_softmax_cross_entropy({_ARGUMENTS}) -> (Tensor loss, Tensor total, Tensor rows, Tensor class_norms)",
    _forward,
    _forward_fake,
)
_bwd_op = register(
    "linear_l2_softmax_cross_entropy_backward(Tensor grad, Tensor total, Tensor rows, Tensor class_norms, "
    f"bool wants_input, bool wants_weight, bool wants_bias, bool wants_alpha, {_ARGUMENTS}) -> "
    "(Tensor dinput, Tensor dlinear_weight, Tensor dlinear_bias, Tensor dalpha)",
    _backward,
    _backward_fake,
)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.alpha, ctx.normalize_weight, ctx.angular_margin, ctx.cosine_margin, ctx.impl = inputs[:11]
    ctx.options = CrossEntropyOptions(*inputs[11:])
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad: Tensor | None, *_: None) -> Any:
    """The gradients of features, class weights' rows, bias and alpha, each if it is asked for."""
    input, linear_weight, target, linear_bias, weight, alpha_tensor, *kept = ctx.saved_tensors
    wants_input, wants_weight, _, wants_bias, _, wants_alpha = ctx.needs_input_grad[:6]
    wanted = (wants_input, wants_weight, wants_bias, wants_alpha)
    nothing = [None] * len(ctx.needs_input_grad)
    if grad is None:
        return tuple(nothing)

    def fused(
        grad: Tensor, input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None, alpha_tensor: Tensor | None
    ) -> Any:
        tensors = (input, linear_weight, target, linear_bias, weight, alpha_tensor)
        numbers = (ctx.alpha, ctx.normalize_weight, ctx.angular_margin, ctx.cosine_margin)
        return _bwd_op(grad, *kept, *wanted, *tensors, *numbers, ctx.impl, *ctx.options)

    def reference(
        input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None, alpha_tensor: Tensor | None
    ) -> Tensor:
        return linear_l2_softmax_cross_entropy_reference(
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            alpha=ctx.alpha if alpha_tensor is None else alpha_tensor,
            normalize_weight=ctx.normalize_weight,
            angular_margin=ctx.angular_margin,
            cosine_margin=ctx.cosine_margin,
            weight=weight,
            **ctx.options._asdict(),
        )

    gradients = first_gradients(fused, reference, grad, (input, linear_weight, linear_bias, alpha_tensor))
    dinput, dweight, dbias, dalpha = (
        gradient if asked else None for gradient, asked in zip(gradients, wanted, strict=True)
    )
    return dinput, dweight, None, dbias, None, dalpha, *nothing[6:]


class _LinearL2SoftmaxCrossEntropy(torch.autograd.Function):
    """The operator with its derivative, as torch.func wants it."""

    @staticmethod
    @called_by_position
    def forward(
        input: Tensor,
        linear_weight: Tensor,
        target: Tensor,
        linear_bias: Tensor | None,
        weight: Tensor | None,
        alpha_tensor: Tensor | None,
        alpha: float,
        normalize_weight: bool,
        angular_margin: float,
        cosine_margin: float,
        impl: Impl,
        ignore_index: int,
        reduction: str,
        label_smoothing: float,
        eps: float,
    ) -> Any:
        # Written out, for torch.compile counts these to know whether a context comes first.
        tensors = (input, linear_weight, target, linear_bias, weight, alpha_tensor)
        options = (ignore_index, reduction, label_smoothing, eps)
        return _fwd_op(*tensors, alpha, normalize_weight, angular_margin, cosine_margin, impl, *options)

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_differentiate)


# An exported graph has the operator itself in it, without the Function around it, and must be trainable too.
torch.library.register_autograd(
    "lit_l2softmax::linear_l2_softmax_cross_entropy", _differentiate, setup_context=_setup_context, lib=LIBRARY
)


def check_classifier(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    normalize_weight: bool,
    angular_margin: float,
    cosine_margin: float,
) -> None:
    """Raises on features and class weights that do not fit, and on what cannot be combined.

    Raises:
        ValueError: on shapes or margins out of range, a margin without ``normalize_weight``, a bias with it.
        TypeError: on a dtype that is not floating-point.
    """
    if input.ndim != 2 or linear_weight.ndim != 2 or input.shape[1] != linear_weight.shape[1]:
        raise ValueError(
            "input must have shape (N, D) and linear_weight (C, D) with the same D, "
            f"got {tuple(input.shape)} and {tuple(linear_weight.shape)}"
        )
    check_floating("input", input)
    check_floating("linear_weight", linear_weight)
    if linear_bias is not None:
        if normalize_weight:
            raise ValueError("linear_bias cannot be combined with normalize_weight: the logits are cosines")
        if linear_bias.shape != linear_weight.shape[:1]:
            raise ValueError(f"linear_bias must have shape ({linear_weight.shape[0]},), got {tuple(linear_bias.shape)}")
        check_floating("linear_bias", linear_bias)
    if (angular_margin or cosine_margin) and not normalize_weight:
        raise ValueError("a margin is one between cosines: angular_margin and cosine_margin need normalize_weight=True")
    if not 0 <= angular_margin < math.pi:
        raise ValueError(f"angular_margin must be in [0, pi) radians, got {angular_margin}")
    if not -math.inf < cosine_margin < math.inf:
        raise ValueError(f"cosine_margin must be finite, got {cosine_margin}")


def linear_l2_softmax_cross_entropy(
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
    impl: Impl = "auto",
) -> Tensor:
    """The L2-constrained softmax loss: cross-entropy of a classifier of features on a sphere of radius ``alpha``.

    With ``normalize_weight`` it is NormFace, with a cosine margin CosFace, with an angular margin ArcFace. The
    classifier is part of the operator: pass features, not logits. Second derivatives are right, at the reference's cost
    in memory; ``torch.vmap`` and forward-mode derivatives are not supported.

    Args:
        input: features, ``(N, D)``, float16 | bfloat16 | float32 | float64, any strides.
        linear_weight: class weights' rows, ``(C, D)``, a float dtype, not necessarily that of ``input``.
        target: class indices in ``[0, C)`` or ``ignore_index``, ``(N,)``, int64.
        linear_bias: ``(C,)``; refused with ``normalize_weight``, where a class's logit is a cosine.
        alpha: radius of the sphere (``s`` in NormFace, CosFace and ArcFace), > 0; a 0-d tensor, on ``input``'s device,
            may ask for a gradient.
        normalize_weight: whether the rows of ``linear_weight`` are normalised too.
        angular_margin: radians in ``[0, pi)`` added to the angle between a row and its class; needs
            ``normalize_weight``.
        cosine_margin: subtracted from that angle's cosine, after the angular margin; needs ``normalize_weight``.
        weight: class weights of the loss, ``(C,)``, without a gradient.
        ignore_index: rows with this target have neither loss nor gradient.
        reduction: ``"mean"`` (over rows that count, weighted) | ``"sum"`` | ``"none"``.
        label_smoothing: share of the target taken from its class and spread over all, in ``[0, 1]``.
        eps: a row shorter than this is divided by it instead, and gets a zero gradient.
        impl: ``"auto"`` (Triton on CUDA, PyTorch's schedule elsewhere and for float64) | ``"triton"`` | ``"torch"`` |
            ``"reference"`` (the equations; the only one that stores the ``(N, C)`` logits however many they are).

    Returns:
        The loss in nats, 0-d, or ``(N,)`` for ``"none"``; float32, float64 for float64 input or weight.

    Raises:
        ValueError: on shapes or numbers out of range, a margin without ``normalize_weight``, a bias with it, tensors on
            different devices, or an ``impl`` that cannot run on this device or in this precision.
        TypeError: on a dtype other than the above.
        ImportError: on a CUDA device without Triton.
        IndexError: on a target out of range, naming its row (asynchronously on CUDA).
    """
    num_classes = linear_weight.shape[0]
    check_classifier(input, linear_weight, linear_bias, normalize_weight, angular_margin, cosine_margin)
    check_common(
        input,
        target,
        num_classes,
        alpha=alpha,
        weight=weight,
        reduction=reduction,
        label_smoothing=label_smoothing,
        eps=eps,
    )
    others = {"linear_weight": linear_weight, "target": target, "linear_bias": linear_bias, "weight": weight}
    check_devices(input, others | {"alpha": alpha}, operator="linear_l2_softmax_cross_entropy")
    check_impl(impl, input, linear_weight, operator="linear_l2_softmax_cross_entropy")
    options = CrossEntropyOptions(ignore_index, reduction, label_smoothing, eps)
    if impl == "reference":
        return linear_l2_softmax_cross_entropy_reference(
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            alpha=alpha,
            normalize_weight=normalize_weight,
            angular_margin=angular_margin,
            cosine_margin=cosine_margin,
            weight=weight,
            **options._asdict(),
        )
    impl = fastest_impl(input, linear_weight) if impl == "auto" else impl
    N, D = input.shape
    if N == 0 or (impl == "torch" and torch_takes_all_at_once(N, D, num_classes)):
        return small_torch.loss(
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            alpha=alpha,
            normalize_weight=normalize_weight,
            angular_margin=angular_margin,
            cosine_margin=cosine_margin,
            weight=weight,
            options=options,
        )
    loss: Tensor = _LinearL2SoftmaxCrossEntropy.apply(  # type: ignore[no-untyped-call]
        input,
        linear_weight,
        target,
        linear_bias,
        weight,
        alpha if isinstance(alpha, Tensor) else None,
        0.0 if isinstance(alpha, Tensor) else float(alpha),
        normalize_weight,
        float(angular_margin),
        float(cosine_margin),
        impl,
        *options,
    )[0]
    return loss

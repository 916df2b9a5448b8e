r"""The L2-constrained softmax loss with its classifier, its normalised-weight relatives and their margins.

    u_i = x_i / max(||x_i||, eps)        v_j = w_j, or w_j / max(||w_j||, eps) with normalised weights
    c_ij = u_i . v_j                     l_ij = alpha c_ij + b_j, but alpha psi(c_iy) for the target's class
    loss_i = logsumexp(l_i) - l_i[y_i]

``psi`` is the identity without margins. With an angular margin m and a cosine margin k, both on normalised weights,

    psi(c) = cos(arccos c + m) - k = c cos m - sqrt(1 - c^2) sin m - k    while arccos c + m <= pi
    psi(c) = c - m sin m - k                                             beyond, where the cosine would turn back

No arccos is taken: its derivative is infinite at c = +-1, where a fitted sample lives. ``1 - c^2`` is bounded from
below by the rounding of 1, so the gradient there is finite, and it is the derivative of what was computed
(insightface's is a straight-through estimate, up to 19 % off).

With ``G_i = g_i (softmax(l_i) - onehot(y_i))``, ``h_i = sum_j G_ij psi'_ij v_j`` and ``psi' = 1`` off the target,

    dx_i = alpha r_i (h_i - u_i (u_i . h_i))              with r_i = 1 / max(||x_i||, eps)
    dv_j = alpha sum_i G_ij psi'_ij u_i
    dw_j = dv_j, or q_j (dv_j - v_j (v_j . dv_j))         with q_j = 1 / max(||w_j||, eps), normalised weights
    db_j = sum_i G_ij                                     dalpha = sum_ij G_ij psi(c_ij)

Sources: Ranjan et al. 2017, arXiv:1703.09507, eq. 3 (features on a sphere of radius alpha); Wang et al. 2017, NormFace,
arXiv:1704.06369 (weights too); Wang et al. 2018, CosFace, arXiv:1801.09414, eq. 4 (cosine margin); Deng et al. 2019,
ArcFace, arXiv:1801.07698, eq. 3 (angular margin; the continuation beyond pi is its authors' code's). Class weights,
ignored rows, label smoothing and reductions mean what they mean in ``torch.nn.functional.cross_entropy``; names and
their order follow ``torch.nn.functional.linear_cross_entropy``.

Legend: N rows, D features, C classes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ._runtime import Impl, accumulate_dtype, check_floating, check_impl, no_autocast
from ._softmax import check_common, checked_target, unit_rows


def _target_cosine(cosine: Tensor, angular_margin: float, cosine_margin: float) -> Tensor:
    """``psi`` of the module docstring."""
    if angular_margin:
        sine = ((1 - cosine) * (1 + cosine)).clamp_min(torch.finfo(cosine.dtype).eps).sqrt()
        turned = cosine * math.cos(angular_margin) - sine * math.sin(angular_margin)
        beyond = cosine - angular_margin * math.sin(angular_margin)
        cosine = torch.where(cosine > -math.cos(angular_margin), turned, beyond)
    return cosine - cosine_margin


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
    """The equations of the module docstring, a PyTorch call each; the oracle of the tests."""
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
            with_margin = _target_cosine(cosine.gather(1, column), angular_margin, cosine_margin)
            cosine = cosine.scatter(1, column, with_margin)
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
    classifier is part of the operator: pass features, not logits.

    Args:
        input: features, ``(N, D)``, float16 | bfloat16 | float32 | float64, any strides.
        linear_weight: class weights' rows, ``(C, D)``, a float dtype, not necessarily that of ``input``.
        target: class indices in ``[0, C)`` or ``ignore_index``, ``(N,)``, int64.
        linear_bias: ``(C,)``; refused with ``normalize_weight``, where a class's logit is a cosine.
        alpha: radius of the sphere (``s`` in NormFace, CosFace and ArcFace), > 0; a 0-d tensor may ask for a gradient.
        normalize_weight: whether the rows of ``linear_weight`` are normalised too.
        angular_margin: radians in ``[0, pi)`` added to the angle between a row and its class; needs
            ``normalize_weight``.
        cosine_margin: subtracted from that angle's cosine, after the angular margin; needs ``normalize_weight``.
        weight: class weights of the loss, ``(C,)``.
        ignore_index: rows with this target have neither loss nor gradient.
        reduction: ``"mean"`` (over rows that count, weighted) | ``"sum"`` | ``"none"``.
        label_smoothing: share of the target taken from its class and spread over all, in ``[0, 1]``.
        eps: a row shorter than this is divided by it instead, and gets a zero gradient.
        impl: ``"auto"`` (the fastest there is for the device) | ``"triton"`` | ``"torch"`` | ``"reference"``; so far
            there is the reference.

    Returns:
        The loss in nats, 0-d, or ``(N,)`` for ``"none"``; float32, float64 for float64 input or weight.

    Raises:
        ValueError: on shapes or numbers out of range, a margin without ``normalize_weight``, a bias with it, or an
            ``impl`` that cannot run on this device.
        NotImplementedError: on an ``impl`` that does not exist yet.
        TypeError: on a dtype other than the above.
        IndexError: on a target out of range, naming its row (asynchronously on CUDA).
    """
    if input.ndim != 2 or linear_weight.ndim != 2 or input.shape[1] != linear_weight.shape[1]:
        raise ValueError(
            "input must have shape (N, D) and linear_weight (C, D) with the same D, "
            f"got {tuple(input.shape)} and {tuple(linear_weight.shape)}"
        )
    num_classes = linear_weight.shape[0]
    check_floating("input", input)
    check_floating("linear_weight", linear_weight)
    if linear_bias is not None:
        if normalize_weight:
            raise ValueError("linear_bias cannot be combined with normalize_weight: the logits are cosines")
        if linear_bias.shape != (num_classes,):
            raise ValueError(f"linear_bias must have shape ({num_classes},), got {tuple(linear_bias.shape)}")
        check_floating("linear_bias", linear_bias)
    if (angular_margin or cosine_margin) and not normalize_weight:
        raise ValueError("a margin is one between cosines: angular_margin and cosine_margin need normalize_weight=True")
    if not 0 <= angular_margin < math.pi:
        raise ValueError(f"angular_margin must be in [0, pi) radians, got {angular_margin}")
    if not -math.inf < cosine_margin < math.inf:
        raise ValueError(f"cosine_margin must be finite, got {cosine_margin}")
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
    check_impl(impl, input, operator="linear_l2_softmax_cross_entropy")
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
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        eps=eps,
    )

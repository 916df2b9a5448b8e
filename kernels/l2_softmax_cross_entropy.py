r"""Cross-entropy of L2-normalised, scaled logits: one row of C numbers in, one loss out.

    r_i = 1 / max(||z_i||, eps)    l_i = alpha r_i z_i    loss_i = logsumexp(l_i) - l_i[y_i]

With ``G_i = g_i (softmax(l_i) - onehot(y_i))`` and ``u_i = r_i z_i``,

    dz_i = alpha r_i (G_i - u_i (u_i . G_i))              dalpha = sum_i u_i . G_i

Source: Wei et al. 2022, "Mitigating Neural Network Overconfidence with Logit Normalization", arXiv:2205.09310,
eq. 5, where alpha is 1 / tau. Class weights, ignored rows, label smoothing and reductions mean what they mean in
``torch.nn.functional.cross_entropy``.

Legend: N rows, C classes.
"""

import torch.nn.functional as F
from torch import Tensor

from ._runtime import Impl, accumulate_dtype, check_floating, check_impl
from ._softmax import check_common, checked_target, unit_rows


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
    """The equations of the module docstring, a PyTorch call each; the oracle of the tests."""
    dtype = accumulate_dtype(input)
    return F.cross_entropy(
        alpha * unit_rows(input.to(dtype), eps),
        checked_target(target, input.shape[1], ignore_index),
        None if weight is None else weight.to(dtype),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
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
        alpha: length of a row after normalisation, > 0; a 0-d tensor may ask for a gradient.
        weight: class weights, ``(C,)``.
        ignore_index: rows with this target have neither loss nor gradient.
        reduction: ``"mean"`` (over rows that count, weighted) | ``"sum"`` | ``"none"``.
        label_smoothing: share of the target taken from its class and spread over all, in ``[0, 1]``.
        eps: a row shorter than this is divided by it instead, and gets a zero gradient.
        impl: ``"auto"`` (the fastest there is for the device) | ``"triton"`` | ``"torch"`` | ``"reference"``; so far
            there is the reference.

    Returns:
        The loss in nats, 0-d, or ``(N,)`` for ``"none"``; float32, float64 for float64 input.

    Raises:
        ValueError: on shapes or numbers out of range, or an ``impl`` that cannot run on this device.
        NotImplementedError: on an ``impl`` that does not exist yet.
        TypeError: on a dtype other than the above.
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
    check_impl(impl, input, operator="l2_softmax_cross_entropy")
    return l2_softmax_cross_entropy_reference(
        input,
        target,
        alpha=alpha,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        eps=eps,
    )

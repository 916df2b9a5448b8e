"""What the two softmax operators share: the meaning of their arguments, and rows on the unit sphere.

Legend: N rows, D features, C classes.
"""

import math
import os

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("lit_l2softmax", "FRAGMENT")
_LIBRARY.define("check_target(Tensor target, SymInt num_classes, int ignore_index) -> Tensor")


def unit_rows(x: Tensor, eps: float) -> Tensor:
    """``x / max(||x||, eps)`` along the last dimension.

    A row shorter than ``eps`` gets a zero gradient. ``torch.nn.functional.normalize`` gives it ``1 / eps``, which turns
    one dead feature vector into a gradient of 1e12.
    """
    squares = x.square().sum(-1, keepdim=True)
    short = squares.detach().sqrt() < eps
    # The root never sees a zero, so no derivative of any order divides by one.
    norm = torch.where(short, 1.0, squares).sqrt()
    return torch.where(short, x.detach() / eps, x / norm)


def check_alpha(alpha: float | Tensor) -> None:
    """Raises ValueError unless ``alpha`` is a finite number > 0 or a 0-d floating-point tensor.

    A tensor's value is not looked at: that would stop the host until the device has computed it.
    """
    if isinstance(alpha, Tensor):
        if alpha.ndim != 0 or not alpha.is_floating_point():
            raise ValueError(f"alpha must be a 0-d floating-point tensor, got {alpha.dtype} {tuple(alpha.shape)}")
    elif not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be finite and > 0, got {alpha}")


def check_common(
    input: Tensor,
    target: Tensor,
    num_classes: int,
    *,
    alpha: float | Tensor,
    weight: Tensor | None,
    reduction: str,
    label_smoothing: float,
    eps: float,
) -> None:
    """Raises on whatever both operators refuse, before anything is computed.

    Raises:
        ValueError: on shapes, or on an alpha, reduction, label smoothing or eps out of range.
        TypeError: on a target that is not int64 or class weights that are not floating-point.
    """
    check_alpha(alpha)
    if target.shape != input.shape[:1]:
        raise ValueError(f"target must have shape ({input.shape[0]},), one class a row, got {tuple(target.shape)}")
    if target.dtype != torch.int64:
        raise TypeError(f"target must be int64, got {target.dtype}; target.long() converts it")
    if weight is not None:
        if weight.shape != (num_classes,):
            raise ValueError(f"weight must have shape ({num_classes},), one a class, got {tuple(weight.shape)}")
        if not weight.is_floating_point():
            raise TypeError(f"weight must hold floating-point numbers, got {weight.dtype}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    if not 0 < eps < math.inf:
        raise ValueError(f"eps must be finite and > 0, got {eps}")


def checked_target(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """A copy of ``target`` whose values are known to be classes or ``ignore_index``.

    Raises:
        IndexError: naming the first bad row and its value. On a CUDA device the check is asynchronous, a device-side
            assertion, unless ``LIT_L2SOFTMAX_CHECK=1`` asks for this message at the price of a synchronisation.
    """
    checked: Tensor = torch.ops.lit_l2softmax.check_target(target, num_classes, ignore_index)
    return checked


def _bad_rows(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    return ((target < 0) | (target >= num_classes)) & (target != ignore_index)


def _check_target(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    bad = _bad_rows(target, num_classes, ignore_index)
    if bad.any():
        row = int(bad.nonzero()[0, 0])
        raise IndexError(
            f"target[{row}] is {int(target[row])}: "
            f"neither a class in [0, {num_classes}) nor ignore_index ({ignore_index})"
        )
    return target.clone()


def _check_target_cuda(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    if os.environ.get("LIT_L2SOFTMAX_CHECK") == "1":
        return _check_target(target, num_classes, ignore_index)
    torch._assert_async(
        ~_bad_rows(target, num_classes, ignore_index).any(),
        f"a target is neither a class in [0, {num_classes}) nor ignore_index ({ignore_index}); "
        "LIT_L2SOFTMAX_CHECK=1 names it",
    )
    return target.clone()


def _check_target_fake(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:  # noqa: ARG001 - the op's schema
    return torch.empty_like(target)


# One opaque operator, so that torch.compile and torch.export keep the check in the graph instead of breaking on it.
_LIBRARY.impl("check_target", _check_target, "CompositeExplicitAutograd")
_LIBRARY.impl("check_target", _check_target_cuda, "CUDA")
torch.library.register_fake("lit_l2softmax::check_target", _check_target_fake, lib=_LIBRARY)

"""What the kernels of both softmax operators share: one row's loss on the device, and what the host does around it.

The equations are those of ``_softmax``. Imported by kernels alone, for it needs Triton.

Legend: N rows, C classes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._softmax import assert_targets, names_bad_targets, refuse_bad_target


@triton.jit
def log_one_plus_exp(d):
    """``log(1 + e^d)`` to the last digit also where ``e^d`` is far below 1."""
    e = tl.exp(-tl.abs(d))
    one_plus = 1.0 + e
    # Kahan: the quotient cancels the rounding of 1 + e. Where it rounds to 1, log(1 + e) is e.
    log = tl.where(one_plus == 1.0, e, tl.log(one_plus) * (e / (one_plus - 1.0)))
    return tl.where(d > 0, d + log, log)


@triton.jit
def sigmoid(d):
    """``1 / (1 + e^-d)``, without overflow."""
    e = tl.exp(-tl.abs(d))
    return tl.where(d > 0, 1.0, e) / (1.0 + e)


@triton.jit
def load_alpha(alpha_ptr, alpha):
    """Alpha from memory where it is a tensor, so that the host need not know it."""
    if alpha_ptr is not None:
        alpha = tl.load(alpha_ptr).to(tl.float32)
    return alpha


@triton.jit
def load_targets(target_ptr, rows, mask, C, ignore_index):
    """Of a block of rows: whether each counts, whether its target is allowed, and its class, -1 where it has none."""
    target = tl.load(target_ptr + rows, mask=mask, other=0)
    counts = target != ignore_index
    in_range = (target >= 0) & (target < C)
    return counts, in_range | (target == ignore_index), tl.where(in_range, target, -1)


@triton.jit
def load_weights(weight_ptr, mean_weight_ptr, classes, label_smoothing):
    """Of each row: its class's weight ``w_y``, the mean weight, and ``A``."""
    own = tl.full(classes.shape, 1.0, tl.float32)
    mean = 1.0
    if weight_ptr is not None:
        own = tl.load(weight_ptr + classes, mask=classes >= 0, other=0.0).to(tl.float32)
        mean = tl.load(mean_weight_ptr).to(tl.float32)
    return own, mean, (1.0 - label_smoothing) * own + label_smoothing * mean


@triton.jit
def store_losses(losses_ptr, good_ptr, rows, mask, N, loss, own_weight, counts, good):
    """Stores the weight each row counts with, its loss, and whether its target was allowed."""
    loss = tl.where(counts, loss, 0.0)
    tl.store(losses_ptr + rows, tl.where(counts, own_weight, 0.0), mask=mask)
    tl.store(losses_ptr + N + rows, tl.where(good, loss, float("nan")), mask=mask)
    tl.store(good_ptr + rows, good, mask=mask)


@triton.jit
def load_upstream(grad_ptr, grad_stride, total_ptr, rows, mask, counts):
    """The gradient of each row's loss: zero for an ignored row, whatever reaches it."""
    grad = tl.load(grad_ptr + rows * grad_stride, mask=mask, other=0.0).to(tl.float32)
    if total_ptr is not None:
        grad = grad / tl.load(total_ptr)
    return tl.where(counts, grad, 0.0)


def unit_stride(matrix: Tensor) -> Tensor:
    """The matrix, copied unless its rows are contiguous; a row may lie anywhere, also on another."""
    return matrix if matrix.stride(1) == 1 or matrix.shape[1] == 1 else matrix.contiguous()


def contiguous(vector: Tensor | None) -> Tensor | None:
    """A vector that kernels may read without knowing its stride."""
    return None if vector is None else vector.contiguous()


def mean_weight(weight: Tensor | None) -> Tensor | None:
    """The mean of the class weights, 0-d, on the device."""
    return None if weight is None else weight.mean(dtype=torch.float32)


class Losses:
    """Where a forward kernel leaves the losses of N rows, and what becomes of them."""

    def __init__(
        self, target: Tensor, num_classes: int, ignore_index: int, like: Tensor, sharded: bool = False
    ) -> None:
        self._target, self._num_classes, self._ignore_index = target, num_classes, ignore_index
        if names_bad_targets(target) and not sharded:  # a class of another process is not bad
            refuse_bad_target(target, num_classes, ignore_index)
        self.losses = like.new_empty(2, len(target))  # the weights that rows count with, and their losses
        self.good = target.new_empty(len(target), dtype=torch.bool)

    def reduced(self, reduction: str) -> tuple[Tensor, Tensor]:
        """The loss, and what a mean was divided by, 0-d; ``(0,)`` where nothing was."""
        if not names_bad_targets(self._target):
            assert_targets(self.good, self._num_classes, self._ignore_index)
        if reduction == "none":
            return self.losses[1].clone(), self.losses.new_empty(0)
        if reduction == "sum":
            return self.losses[1].sum(), self.losses.new_empty(0)
        total, loss = self.losses.sum(1)
        return loss / total, total

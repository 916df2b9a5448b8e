"""The row operator as two kernels, one program a row.

Forward, a first sweep finds the row's length and its largest logit but the target's, which a positive factor does not
change, and a second one sums exponentials that need no running maximum. The first block of a row stays in registers
between the sweeps, so a row no longer than a block is read once, and the rest of a longer one comes from the cache the
second time. Backward reads the row once: what it needs of the whole row, ``u . G``, the forward pass has left.

Legend: N rows, C classes.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._softmax import CrossEntropyOptions
from .._softmax_kernels import (
    Losses,
    contiguous,
    load_alpha,
    load_targets,
    load_upstream,
    load_weights,
    log_one_plus_exp,
    mean_weight,
    sigmoid,
    store_losses,
    unit_stride,
)


@triton.jit
def _load(x_ptr, cols, C, ALIGN: tl.constexpr):
    """A block of a row. ALIGN divides C, so that many neighbours share a mask and one load takes them all."""
    mask = tl.max_constancy(cols < C, ALIGN)
    return tl.load(x_ptr + cols, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _extent(x, cols, C, column, sign):
    """A block's sum of squares, and its largest number but the target's after multiplication by ``sign``."""
    other = (cols < C) & (cols != column)
    return tl.sum(x * x, 0), tl.max(tl.where(other, sign * x, -float("inf")), 0)


@triton.jit
def _sums(x, cols, C, column, scale, own, shift, weight_ptr, SMOOTHING: tl.constexpr):
    """A block's sums over all but the target: ``e^(l - shift)``, the same times ``l - l_y``, and ``w (l - l_y)``."""
    other = (cols < C) & (cols != column)
    logit = scale * x
    exponential = tl.where(other, tl.exp(logit - shift), 0.0)
    distance = tl.where(other, logit - own, 0.0)
    spread = 0.0
    if SMOOTHING:
        if weight_ptr is None:
            spread = tl.sum(distance, 0)
        else:
            weight = tl.load(weight_ptr + cols, mask=cols < C, other=0.0).to(tl.float32)
            spread = tl.sum(distance * weight, 0)
    return tl.sum(exponential, 0), tl.sum(exponential * distance, 0), spread


@triton.jit
def _fwd_kernel(
    x_ptr, target_ptr, weight_ptr, mean_weight_ptr, alpha_ptr,  # (N, C), (N,), (C,) or None, () or None, () or None
    losses_ptr, good_ptr, kept_ptr,  # (2, N), (N,), (3, N)
    N, C, x_stride, alpha, label_smoothing, ignore_index, eps,
    SMOOTHING: tl.constexpr, ALIGN: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    alpha = load_alpha(alpha_ptr, alpha)
    counts, good, column = load_targets(target_ptr, row, True, C, ignore_index)
    own_weight, _, scale_of_loss = load_weights(weight_ptr, mean_weight_ptr, column, label_smoothing)
    x_ptr += tl.multiple_of(row * x_stride, ALIGN)
    sign = tl.where(alpha < 0, -1.0, 1.0)
    cols = tl.arange(0, BLOCK_C)

    first = _load(x_ptr, cols, C, ALIGN)
    squares, largest = _extent(first, cols, C, column, sign)
    for start in range(BLOCK_C, C, BLOCK_C):
        more_squares, more_largest = _extent(_load(x_ptr, start + cols, C, ALIGN), start + cols, C, column, sign)
        squares += more_squares
        largest = tl.maximum(largest, more_largest)
    norm = tl.sqrt(squares)
    scale = alpha / tl.maximum(norm, eps)
    own = scale * tl.load(x_ptr + tl.maximum(column, 0)).to(tl.float32)
    shift = tl.where(largest == -float("inf"), 0.0, tl.abs(scale) * largest)  # of one class there is no other

    total, moment, spread = _sums(first, cols, C, column, scale, own, shift, weight_ptr, SMOOTHING)
    for start in range(BLOCK_C, C, BLOCK_C):
        x = _load(x_ptr, start + cols, C, ALIGN)
        sums = _sums(x, start + cols, C, column, scale, own, shift, weight_ptr, SMOOTHING)
        total += sums[0]
        moment += sums[1]
        spread += sums[2]
    rest = shift + tl.log(total)
    log_odds = rest - own
    smoothing = label_smoothing * spread / C
    loss = scale_of_loss * log_one_plus_exp(log_odds) - smoothing
    mean_distance = tl.where(total == 0.0, 0.0, moment / total)
    radial = (scale_of_loss * sigmoid(log_odds) * mean_distance - smoothing) / alpha  # u . G / g

    store_losses(losses_ptr, good_ptr, row, True, N, loss, own_weight, counts, good)
    tl.store(kept_ptr + row, norm)
    tl.store(kept_ptr + N + row, rest)
    tl.store(kept_ptr + N + N + row, radial)


@triton.jit
def _bwd_kernel(
    grad_ptr, total_ptr, kept_ptr,  # (N,) or (), () or None, (3, N)
    x_ptr, target_ptr, weight_ptr, mean_weight_ptr, alpha_ptr,  # as forward
    dx_ptr, dalpha_ptr,  # (N, C), (N,) or None
    N, C, grad_stride, x_stride, alpha, label_smoothing, ignore_index, eps,
    SMOOTHING: tl.constexpr, ALIGN: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    alpha = load_alpha(alpha_ptr, alpha)
    counts, _, column = load_targets(target_ptr, row, True, C, ignore_index)
    own_weight, mean, scale_of_loss = load_weights(weight_ptr, mean_weight_ptr, column, label_smoothing)
    upstream = load_upstream(grad_ptr, grad_stride, total_ptr, row, True, counts)
    norm = tl.load(kept_ptr + row)
    rest = tl.load(kept_ptr + N + row)
    radial = tl.load(kept_ptr + N + N + row)  # N + N might not fit 32 bits; two steps of a pointer do
    x_ptr += tl.multiple_of(row * x_stride, ALIGN)
    dx_ptr += tl.multiple_of(row * C, ALIGN)
    length = tl.maximum(norm, eps)
    scale = alpha / length
    own = scale * tl.load(x_ptr + tl.maximum(column, 0)).to(tl.float32)
    log_odds = rest - own
    log_sum = own + log_one_plus_exp(log_odds)
    own_slope = label_smoothing * (mean - own_weight / C) - scale_of_loss * sigmoid(log_odds)
    short = norm < eps  # and has no gradient; a row of NaN is not short
    for start in range(0, C, BLOCK_C):
        cols = start + tl.arange(0, BLOCK_C)
        x = _load(x_ptr, cols, C, ALIGN)
        slope = scale_of_loss * tl.exp(scale * x - log_sum)
        if SMOOTHING:
            weight = 1.0
            if weight_ptr is not None:
                weight = tl.load(weight_ptr + cols, mask=cols < C, other=0.0).to(tl.float32)
            slope -= label_smoothing * weight / C
        slope = tl.where(cols == column, own_slope, slope)
        dx = upstream * scale * (slope - x / length * radial)
        mask = tl.max_constancy(cols < C, ALIGN)
        tl.store(dx_ptr + cols, tl.where(short, 0.0, dx), mask=mask)
    if dalpha_ptr is not None:
        tl.store(dalpha_ptr + row, upstream * radial)


def _launch_config(C: int, x_stride: int) -> dict[str, int]:
    """Blocks of at most 8,192 numbers, 16 a thread; as wide loads as the row's length and stride allow."""
    block = min(triton.next_power_of_2(C), 8192)
    align = math.gcd(C, x_stride, 16)
    return {"BLOCK_C": block, "ALIGN": align, "num_warps": max(1, min(16, block // 512))}


def forward(
    input: Tensor, target: Tensor, weight: Tensor | None, alpha: float | Tensor, options: CrossEntropyOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, what a mean was divided by, and the numbers kept of each row, ``(3, N)``."""
    N, C = input.shape
    x, weight = unit_stride(input), contiguous(weight)
    kept = input.new_empty(3, N, dtype=torch.float32)
    losses = Losses(target, C, options.ignore_index, kept)
    if N:
        with torch.cuda.device_of(input):
            _fwd_kernel[(N,)](
                x, target.contiguous(), weight, mean_weight(weight), alpha if isinstance(alpha, Tensor) else None,
                losses.losses, losses.good, kept,
                N, C, x.stride(0), 0.0 if isinstance(alpha, Tensor) else alpha,
                options.label_smoothing, options.ignore_index, options.eps,
                SMOOTHING=options.label_smoothing > 0, **_launch_config(C, x.stride(0)),
            )  # fmt: skip
    return *losses.reduced(options.reduction), kept


def backward(
    grad: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    alpha: float | Tensor,
    total: Tensor,
    kept: Tensor,
    wants_input: bool,
    options: CrossEntropyOptions,
) -> tuple[Tensor, Tensor]:
    """The gradients of the logits, ``(N, C)`` or empty if not wanted, and of alpha, 0-d."""
    N, C = input.shape
    x, weight = unit_stride(input), contiguous(weight)
    dx = input.new_empty(input.shape if wants_input else 0)
    dalpha = kept.new_empty(N) if isinstance(alpha, Tensor) else None
    if N and not wants_input:  # u . G / g was left by the forward pass
        upstream = grad / total if options.reduction == "mean" else grad
        dalpha = torch.where(target == options.ignore_index, 0.0, upstream * kept[2])
    elif N:
        with torch.cuda.device_of(input):
            _bwd_kernel[(N,)](
                grad, total if options.reduction == "mean" else None, kept,
                x, target.contiguous(), weight, mean_weight(weight), alpha if isinstance(alpha, Tensor) else None,
                dx, dalpha,
                N, C, grad.stride(0) if grad.ndim else 0, x.stride(0), 0.0 if isinstance(alpha, Tensor) else alpha,
                options.label_smoothing, options.ignore_index, options.eps,
                SMOOTHING=options.label_smoothing > 0, **_launch_config(C, x.stride(0)),
            )  # fmt: skip
    return dx, kept.new_zeros(()) if dalpha is None else dalpha.sum()

"""Few classes, as kernels: the logits of a block of rows and all classes stay in registers.

Launches: one forward and, backward, one over rows (the features' gradient), one over features (the class weights', a
split of the rows each) and one that merges the splits. The backward pass computes the logits again, so nothing of their
size is kept; only their gradient is written, which three kernels share.

A row's products are float32 multiply-adds over blocks of rows x classes x features, summed over features once at the
end: with so few classes a tensor core would mostly multiply padding. The class weights' gradient, whose sum runs over
rows, is a product of float32 operands in three TF32 terms, which keeps all but the last bits. Sums run in a fixed order
and there is no atomic, so two runs agree to the bit.

Legend: N rows, D features, C classes, S splits of the rows, B blocks of rows.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._softmax_kernels import (
    Losses,
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
from .margin_kernels import MarginConstants, with_margin
from .problem import Gradients, Kept, Problem, Wanted


@triton.jit
def _load_2d(ptr, rows, stride, cols, n_rows, n_cols):
    """A block of a matrix with unit stride along its rows, as float32."""
    mask = (rows < n_rows)[:, None] & (cols < n_cols)[None, :]
    return tl.load(ptr + rows.to(tl.int64)[:, None] * stride + cols[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _norms(ptr, rows, stride, n_rows, D, BLOCK_D: tl.constexpr):
    squares = tl.zeros((rows.shape[0], BLOCK_D), tl.float32)
    for start in range(0, D, BLOCK_D):
        block = _load_2d(ptr, rows, stride, start + tl.arange(0, BLOCK_D), n_rows, D)
        squares += block * block
    return tl.sqrt(tl.sum(squares, 1))


@triton.jit
def _cosines(
    x_ptr, w_ptr, rows, classes, x_inverse, w_inverse, N, C, D, x_stride, w_stride, BLOCK_D: tl.constexpr
):  # fmt: skip
    """``u . v`` of a block of rows and all classes. Both are put to length first, for a raw product might overflow."""
    products = tl.zeros((rows.shape[0], classes.shape[0], BLOCK_D), tl.float32)
    for start in range(0, D, BLOCK_D):
        features = start + tl.arange(0, BLOCK_D)
        u = _load_2d(x_ptr, rows, x_stride, features, N, D) * x_inverse[:, None]
        v = _load_2d(w_ptr, classes, w_stride, features, C, D) * w_inverse[:, None]
        products += u[:, None, :] * v[None, :, :]
    return tl.sum(products, 2)


@triton.jit
def _row_logits(
    cosine, classes, column, alpha, bias_ptr, C, cos_m, sin_m, m_sin_m, cosine_margin, MARGIN: tl.constexpr
):
    """Logits with -inf for the target, the target's own logit, its ``psi``, the slope of ``psi`` and its cosine."""
    is_target = classes[None, :] == column[:, None]
    own_cosine = tl.sum(tl.where(is_target, cosine, 0.0), 1)
    psi = own_cosine
    slope = tl.full(own_cosine.shape, 1.0, tl.float32)
    if MARGIN:
        psi, slope = with_margin(own_cosine, cos_m, sin_m, m_sin_m, cosine_margin)
    logits = alpha * cosine
    own = alpha * psi
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + classes, mask=classes < C, other=0.0).to(tl.float32)
        logits += bias[None, :]
        own += tl.load(bias_ptr + column, mask=column >= 0, other=0.0).to(tl.float32)
    other = (classes < C)[None, :] & (is_target == 0)
    return tl.where(other, logits, -float("inf")), own, psi, slope, own_cosine


@triton.jit
def _fwd_kernel(
    x_ptr, w_ptr, target_ptr, bias_ptr, weight_ptr, mean_weight_ptr, alpha_ptr,
    losses_ptr, good_ptr, kept_ptr, class_norms_ptr,  # (2, N), (N,), (3, N), (C,), or (0,) without normalised weights
    N, C, D, x_stride, w_stride, alpha, cos_m, sin_m, m_sin_m, cosine_margin, label_smoothing, ignore_index, eps,
    NORMALIZE: tl.constexpr, MARGIN: tl.constexpr, SMOOTHING: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = rows < N
    classes = tl.arange(0, BLOCK_C)
    alpha = load_alpha(alpha_ptr, alpha)
    counts, good, column = load_targets(target_ptr, rows, mask, C, ignore_index)
    own_weight, _, scale_of_loss = load_weights(weight_ptr, mean_weight_ptr, column, label_smoothing)

    norms = _norms(x_ptr, rows, x_stride, N, D, BLOCK_D)
    x_inverse = 1.0 / tl.maximum(norms, eps)
    w_inverse = tl.full((BLOCK_C,), 1.0, tl.float32)
    if NORMALIZE:
        class_norms = _norms(w_ptr, classes, w_stride, C, D, BLOCK_D)
        w_inverse = 1.0 / tl.maximum(class_norms, eps)
        if tl.program_id(0) == 0:
            tl.store(class_norms_ptr + classes, class_norms, mask=classes < C)
    cosine = _cosines(x_ptr, w_ptr, rows, classes, x_inverse, w_inverse, N, C, D, x_stride, w_stride, BLOCK_D)
    logits, own, _, _, own_cosine = _row_logits(
        cosine, classes, column, alpha, bias_ptr, C, cos_m, sin_m, m_sin_m, cosine_margin, MARGIN
    )
    largest = tl.max(logits, 1)
    shift = tl.where(largest == -float("inf"), 0.0, largest)  # of one class there is no other
    rest = shift + tl.log(tl.sum(tl.exp(logits - shift[:, None]), 1))
    loss = scale_of_loss * log_one_plus_exp(rest - own)
    if SMOOTHING:
        distance = tl.where(logits == -float("inf"), 0.0, logits - own[:, None])
        if weight_ptr is not None:
            weight = tl.load(weight_ptr + classes, mask=classes < C, other=0.0).to(tl.float32)
            distance = distance * weight[None, :]
        loss -= label_smoothing * tl.sum(distance, 1) / C
    store_losses(losses_ptr, good_ptr, rows, mask, N, loss, own_weight, counts, good)
    tl.store(kept_ptr + rows, norms, mask=mask)
    tl.store(kept_ptr + N + rows, rest, mask=mask)
    tl.store(kept_ptr + N + N + rows, own_cosine, mask=mask)


@triton.jit
def _bwd_rows_kernel(
    grad_ptr, total_ptr, kept_ptr, class_norms_ptr,  # (N,) or (), () or None, (3, N), (C,) or None
    x_ptr, w_ptr, target_ptr, bias_ptr, weight_ptr, mean_weight_ptr, alpha_ptr,
    dx_ptr, slopes_ptr, columns_ptr, dalpha_ptr,  # (N, D), (N, C), (B, 2, C), (N,), each or None
    N, C, D, grad_stride, x_stride, w_stride,
    alpha, cos_m, sin_m, m_sin_m, cosine_margin, label_smoothing, ignore_index, eps,
    NORMALIZE: tl.constexpr, MARGIN: tl.constexpr, SMOOTHING: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The features' gradient; and for the class weights' the logits' gradient with its sums over the block's rows."""
    block = tl.program_id(0).to(tl.int64)
    rows = block * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = rows < N
    classes = tl.arange(0, BLOCK_C)
    alpha = load_alpha(alpha_ptr, alpha)
    counts, _, column = load_targets(target_ptr, rows, mask, C, ignore_index)
    own_weight, mean, scale_of_loss = load_weights(weight_ptr, mean_weight_ptr, column, label_smoothing)
    upstream = load_upstream(grad_ptr, grad_stride, total_ptr, rows, mask, counts & mask)
    norms = tl.load(kept_ptr + rows, mask=mask, other=1.0)
    rest = tl.load(kept_ptr + N + rows, mask=mask, other=0.0)
    x_inverse = 1.0 / tl.maximum(norms, eps)
    w_inverse = tl.full((BLOCK_C,), 1.0, tl.float32)
    if NORMALIZE:
        w_inverse = 1.0 / tl.maximum(tl.load(class_norms_ptr + classes, mask=classes < C, other=1.0), eps)
    cosine = _cosines(x_ptr, w_ptr, rows, classes, x_inverse, w_inverse, N, C, D, x_stride, w_stride, BLOCK_D)
    logits, own, psi, bend, own_cosine = _row_logits(
        cosine, classes, column, alpha, bias_ptr, C, cos_m, sin_m, m_sin_m, cosine_margin, MARGIN
    )
    log_odds = rest - own
    slopes = scale_of_loss[:, None] * tl.exp(logits - (own + log_one_plus_exp(log_odds))[:, None])
    if SMOOTHING:
        weight = tl.full((BLOCK_C,), 1.0, tl.float32)
        if weight_ptr is not None:
            weight = tl.load(weight_ptr + classes, mask=classes < C, other=0.0).to(tl.float32)
        slopes -= label_smoothing * tl.where(classes < C, weight, 0.0)[None, :] / C
    own_slope = label_smoothing * (mean - own_weight / C) - scale_of_loss * sigmoid(log_odds)
    is_target = classes[None, :] == column[:, None]
    # The bias, which no margin goes with, sees the slope itself; everything before the margin sees it bent.
    slopes = tl.where(is_target, (own_slope * bend)[:, None], slopes)
    slopes = upstream[:, None] * slopes
    along = tl.sum(slopes * cosine, 1)  # u . h

    if slopes_ptr is not None:
        offsets = rows[:, None] * C + classes[None, :]
        inside = mask[:, None] & (classes < C)[None, :]
        tl.store(slopes_ptr + offsets, slopes * (alpha * x_inverse)[:, None], mask=inside)
    if columns_ptr is not None:
        columns_ptr += block * 2 * C
        tl.store(columns_ptr + classes, tl.sum(slopes, 0), mask=classes < C)
        tl.store(columns_ptr + C + classes, tl.sum(slopes * cosine, 0) * alpha, mask=classes < C)
    if dalpha_ptr is not None:
        bent = tl.where(counts & mask, upstream * own_slope * (psi - bend * own_cosine), 0.0)
        tl.store(dalpha_ptr + rows, along + bent, mask=mask)
    if dx_ptr is not None:
        scale = tl.where(norms < eps, 0.0, alpha * x_inverse)
        for start in range(0, D, BLOCK_D):
            features = start + tl.arange(0, BLOCK_D)
            u = _load_2d(x_ptr, rows, x_stride, features, N, D) * x_inverse[:, None]
            v = _load_2d(w_ptr, classes, w_stride, features, C, D) * w_inverse[:, None]
            h = tl.sum(slopes[:, :, None] * v[None, :, :], 1)
            dx = scale[:, None] * (h - u * along[:, None])
            block_mask = mask[:, None] & (features < D)[None, :]
            tl.store(dx_ptr + rows[:, None] * D + features[None, :], dx, mask=block_mask)


@triton.jit
def _bwd_classes_kernel(
    slopes_ptr, x_ptr, partial_ptr,  # (N, C), (N, D), (S, C, D)
    N, C, D, x_stride, rows_per_split,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """``alpha G^T U`` over one split of the rows and one block of features."""
    split = tl.program_id(1).to(tl.int64)
    features = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    classes = tl.arange(0, BLOCK_C)
    first = split * rows_per_split
    product = tl.zeros((BLOCK_C, BLOCK_D), tl.float32)
    for start in range(0, rows_per_split, BLOCK_N):
        rows = first + start + tl.arange(0, BLOCK_N)
        slopes = _load_2d(slopes_ptr, rows, C, classes, N, C)
        x = _load_2d(x_ptr, rows, x_stride, features, N, D)
        product = tl.dot(tl.trans(slopes), x, product, input_precision="tf32x3")
    inside = (classes < C)[:, None] & (features < D)[None, :]
    tl.store(partial_ptr + (split * C + classes)[:, None] * D + features[None, :], product, mask=inside)


@triton.jit
def _bwd_merge_kernel(
    partial_ptr, along_ptr, w_ptr, class_norms_ptr,  # (S, C, D), (C,), (C, D), (C,) or None
    dw_ptr,  # (C, D)
    C, D, S, w_stride, eps,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One class's and one block of features' gradient: the sum of its splits, without its part along the class."""
    row = tl.program_id(0).to(tl.int64)
    features = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = features < D
    gradient = tl.zeros((BLOCK_D,), tl.float32)
    partial_ptr += row * D
    for _ in range(S):
        gradient += tl.load(partial_ptr + features, mask=mask, other=0.0)
        partial_ptr += C * D
    if class_norms_ptr is not None:
        norm = tl.load(class_norms_ptr + row)
        w = tl.load(w_ptr + row * w_stride + features, mask=mask, other=0.0).to(tl.float32)
        gradient = tl.where(norm < eps, 0.0, (gradient - w / norm * tl.load(along_ptr + row)) / norm)
    tl.store(dw_ptr + row * D + features, gradient, mask=mask)


def _row_blocks(N: int, D: int, C: int) -> dict[str, int]:
    """Blocks of rows, classes and features whose products take 32 registers a thread.

    Several rows share the class weights they read, as soon as there are rows enough for all processors.
    """
    block_n = min(4, triton.next_power_of_2(triton.cdiv(N, 512)))
    block_c = triton.next_power_of_2(C)
    block_d = min(triton.next_power_of_2(D), 4096 // (block_n * block_c))
    return {"BLOCK_N": block_n, "BLOCK_C": block_c, "BLOCK_D": block_d}


# The classes' kernel: rows and features in a product of at most 128 classes.
SUM_ROWS, SUM_FEATURES = 16, 64


def _splits(N: int, D: int, C: int) -> tuple[int, int]:
    """Into how many parts the rows are cut, so that some 256 programs run, and their length; 16 MiB of partial sums."""
    splits = max(1, min(256 // triton.cdiv(D, SUM_FEATURES), N // 64, 2**22 // (C * D)))
    length = triton.cdiv(triton.cdiv(N, splits), SUM_ROWS) * SUM_ROWS
    return triton.cdiv(N, length), length


def forward(problem: Problem) -> tuple[Tensor, Kept]:
    """The loss, and what the backward pass needs."""
    N, D, C = problem.sizes
    options, alpha = problem.options, problem.alpha
    x, w = unit_stride(problem.input), unit_stride(problem.linear_weight)
    rows = x.new_empty(3, N, dtype=torch.float32)
    class_norms = rows.new_empty(C if problem.normalize_weight else 0)
    losses = Losses(problem.target, C, options.ignore_index, rows)
    blocks = _row_blocks(N, D, C)
    with torch.cuda.device_of(x):
        _fwd_kernel[(triton.cdiv(N, blocks["BLOCK_N"]),)](
            x, w, problem.target.contiguous(), problem.linear_bias, problem.weight, mean_weight(problem.weight),
            alpha if isinstance(alpha, Tensor) else None,
            losses.losses, losses.good, rows, class_norms,
            N, C, D, x.stride(0), w.stride(0), 0.0 if isinstance(alpha, Tensor) else alpha,
            *MarginConstants.of(problem.angular_margin, problem.cosine_margin),
            options.label_smoothing, options.ignore_index, options.eps,
            NORMALIZE=problem.normalize_weight, MARGIN=problem.has_margin, SMOOTHING=options.label_smoothing > 0,
            **blocks,
        )  # fmt: skip
    loss, total = losses.reduced(options.reduction)
    return loss, Kept(total, rows, class_norms)


def backward(grad: Tensor, problem: Problem, kept: Kept, wanted: Wanted) -> Gradients:
    """The gradients that are wanted."""
    N, D, C = problem.sizes
    options, alpha = problem.options, problem.alpha
    x, w = unit_stride(problem.input), unit_stride(problem.linear_weight)
    new = kept.rows.new_empty
    blocks = _row_blocks(N, D, C)
    programs = triton.cdiv(N, blocks["BLOCK_N"])
    class_norms = kept.class_norms if problem.normalize_weight else None
    dx = torch.empty_like(x, memory_format=torch.contiguous_format) if wanted.input else None
    slopes = new(N, C) if wanted.linear_weight else None
    columns = new(programs, 2, C) if wanted.linear_bias or (wanted.linear_weight and problem.normalize_weight) else None
    dalpha = new(N) if wanted.alpha else None
    dw = new(0)
    with torch.cuda.device_of(x):
        _bwd_rows_kernel[(programs,)](
            grad, kept.total if options.reduction == "mean" else None, kept.rows, class_norms,
            x, w, problem.target.contiguous(), problem.linear_bias, problem.weight, mean_weight(problem.weight),
            alpha if isinstance(alpha, Tensor) else None,
            dx, slopes, columns, dalpha,
            N, C, D, grad.stride(0) if grad.ndim else 0, x.stride(0), w.stride(0),
            0.0 if isinstance(alpha, Tensor) else alpha,
            *MarginConstants.of(problem.angular_margin, problem.cosine_margin),
            options.label_smoothing, options.ignore_index, options.eps,
            NORMALIZE=problem.normalize_weight, MARGIN=problem.has_margin, SMOOTHING=options.label_smoothing > 0,
            **blocks, num_warps=8,  # with 4, triton 3.6 spills on sm_90
        )  # fmt: skip
        if columns is not None:
            columns = columns.sum(0)
        if slopes is not None:
            splits, length = _splits(N, D, C)
            partial = new(splits, C, D)
            _bwd_classes_kernel[(triton.cdiv(D, SUM_FEATURES), splits)](
                slopes, x, partial, N, C, D, x.stride(0), length,
                BLOCK_N=SUM_ROWS, BLOCK_C=max(16, blocks["BLOCK_C"]), BLOCK_D=SUM_FEATURES,
                num_warps=4 if C <= 64 else 8,
            )  # fmt: skip
            dw = torch.empty_like(w, memory_format=torch.contiguous_format)
            _bwd_merge_kernel[(C, triton.cdiv(D, 512))](
                partial, None if columns is None else columns[1], w, class_norms, dw,
                C, D, splits, w.stride(0), options.eps, BLOCK_D=512,
            )  # fmt: skip
    return Gradients(
        new(0) if dx is None else dx,
        dw,
        columns[0] if wanted.linear_bias and columns is not None else new(0),
        new(0) if dalpha is None else dalpha.sum(),
    )

"""The tiled driver's epilogues as kernels, between products that the vendor's library does best.

A tile is the product of raw features and raw class weights in their own dtype, accumulated in float32; no operand is
copied, rounded or normalised before it. Lengths, alpha, bias, margin, class weights and smoothing are applied in
registers, where they cost nothing, and the softmax with them:

* forward, ``_fold_kernel`` takes a tile's rows into a running maximum and sum each;
* backward, ``_slopes_kernel`` turns the logits into

      T_ij = G_ij psi'_ij alpha r_i q_j          (q_j = 1 without normalised weights)

  the one tile that both products need: ``T W`` is ``alpha r_i h_i`` and ``T^T X`` is ``q_j dv_j``.

bfloat16 rounds T once, after ``p_y - 1`` was computed in float32. float16 has not the range for it: small probabilities
would vanish, and a short row's ``r_i`` or a scaled loss overflow. So there T stays float32, and its two products are of
float32 operands. (What PyTorch does with those, TF32 or not, its own setting decides.)

Legend: N rows, D features, C classes, K classes of the current range, M rows of the current range.
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
from .._tiles import tile_width
from .margin_kernels import MarginConstants, with_margin
from .paths import Tile
from .problem import Gradients, Kept, Problem, Wanted

BLOCK_ROWS = 128  # of a kernel that gives a row one lane
BLOCK_M, BLOCK_K = 8, 256  # of a tile


@triton.jit
def _norms_kernel(w_ptr, norms_ptr, D, w_stride, BLOCK_D: tl.constexpr):
    """Length of a row of a matrix ``(C, D)``."""
    row = tl.program_id(0).to(tl.int64)
    squares = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, D, BLOCK_D):
        cols = start + tl.arange(0, BLOCK_D)
        w = tl.load(w_ptr + row * w_stride + cols, mask=cols < D, other=0.0).to(tl.float32)
        squares += w * w
    tl.store(norms_ptr + row, tl.sqrt(tl.sum(squares, 0)))


@triton.jit
def _target_kernel(
    x_ptr, w_ptr, target_ptr, class_norms_ptr, kept_ptr,  # (N, D), (C, D), (N,), (C,), (3, N)
    N, C, D, x_stride, w_stride, ignore_index, eps,
    NORMALIZE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A row's length and its cosine with its class, in float32 whatever the products are computed in."""
    row = tl.program_id(0).to(tl.int64)
    _, _, column = load_targets(target_ptr, row, True, C, ignore_index)
    x_ptr += row * x_stride
    w_ptr += tl.maximum(column, 0) * w_stride
    squares = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, D, BLOCK_D):
        cols = start + tl.arange(0, BLOCK_D)
        x = tl.load(x_ptr + cols, mask=cols < D, other=0.0).to(tl.float32)
        squares += x * x
    norm = tl.sqrt(tl.sum(squares, 0))
    x_inverse = 1.0 / tl.maximum(norm, eps)
    w_inverse = 1.0
    if NORMALIZE:
        w_inverse = 1.0 / tl.maximum(tl.load(class_norms_ptr + tl.maximum(column, 0)), eps)
    products = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, D, BLOCK_D):
        cols = start + tl.arange(0, BLOCK_D)
        x = tl.load(x_ptr + cols, mask=cols < D, other=0.0).to(tl.float32)
        w = tl.load(w_ptr + cols, mask=cols < D, other=0.0).to(tl.float32)
        products += (x * x_inverse) * (w * w_inverse)
    tl.store(kept_ptr + row, norm)
    tl.store(kept_ptr + N + N + row, tl.sum(products, 0))


@triton.jit
def _own_logit(
    cosine, column, alpha, bias_ptr, cos_m, sin_m, m_sin_m, cosine_margin, MARGIN: tl.constexpr
):  # fmt: skip
    """Of each row, its target's logit, ``psi`` and the slope of ``psi``."""
    psi = cosine
    slope = tl.full(cosine.shape, 1.0, tl.float32)
    if MARGIN:
        psi, slope = with_margin(cosine, cos_m, sin_m, m_sin_m, cosine_margin)
    logit = alpha * psi
    if bias_ptr is not None:
        logit += tl.load(bias_ptr + column, mask=column >= 0, other=0.0).to(tl.float32)
    return logit, psi, slope


@triton.jit
def _logits(product, scale, classes, mask, bias_ptr, class_norms_ptr, eps, NORMALIZE: tl.constexpr):
    """Logits of a tile's entries from their raw products; ``scale`` is ``alpha r``."""
    # A finite row whose squares overflow has r = 0 and is a zero row, but its products may have overflowed too.
    logits = tl.where(scale == 0.0, 0.0, scale * product)
    if NORMALIZE:
        logits = logits / tl.maximum(tl.load(class_norms_ptr + classes, mask=mask, other=1.0), eps)
    if bias_ptr is not None:
        logits += tl.load(bias_ptr + classes, mask=mask, other=0.0).to(tl.float32)
    return logits


@triton.jit
def _fold_kernel(
    tile_ptr, kept_ptr, target_ptr, bias_ptr, weight_ptr, class_norms_ptr, alpha_ptr,
    largest_ptr, total_ptr, spread_ptr,  # (N,) each, the last None without smoothing
    N, C, K, width, first_row, first_class, alpha, cos_m, sin_m, m_sin_m, cosine_margin, ignore_index, eps,
    NORMALIZE: tl.constexpr, MARGIN: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Takes one row of a tile ``(M, K)``, ``width`` in memory, into what is known of that row."""
    local = tl.program_id(0).to(tl.int64)
    row = first_row + local
    alpha = load_alpha(alpha_ptr, alpha)
    _, _, column = load_targets(target_ptr, row, True, C, ignore_index)
    scale = alpha / tl.maximum(tl.load(kept_ptr + row), eps)
    cosine = tl.load(kept_ptr + N + N + row)
    own, _, _ = _own_logit(cosine, column, alpha, bias_ptr, cos_m, sin_m, m_sin_m, cosine_margin, MARGIN)
    largest = tl.load(largest_ptr + row)
    total = tl.load(total_ptr + row)
    spread = 0.0
    for start in range(0, K, BLOCK_K):
        cols = start + tl.arange(0, BLOCK_K)
        classes = first_class + cols
        mask = cols < K
        product = tl.load(tile_ptr + local * width + cols, mask=cols < width, other=0.0)
        other = mask & (classes != column)
        logits = _logits(product, scale, classes, mask, bias_ptr, class_norms_ptr, eps, NORMALIZE)
        larger = tl.maximum(largest, tl.max(tl.where(other, logits, -float("inf")), 0))
        shift = tl.where(larger == -float("inf"), 0.0, larger)  # nothing but the target so far
        total = total * tl.exp(largest - shift) + tl.sum(tl.where(other, tl.exp(logits - shift), 0.0), 0)
        largest = larger
        if spread_ptr is not None:
            distance = tl.where(other, logits - own, 0.0)
            if weight_ptr is not None:
                distance = distance * tl.load(weight_ptr + classes, mask=mask, other=0.0).to(tl.float32)
            spread += tl.sum(distance, 0)
    tl.store(largest_ptr + row, largest)
    tl.store(total_ptr + row, total)
    if spread_ptr is not None:
        tl.store(spread_ptr + row, tl.load(spread_ptr + row) + spread)


@triton.jit
def _loss_kernel(
    kept_ptr, target_ptr, bias_ptr, weight_ptr, mean_weight_ptr, alpha_ptr, largest_ptr, total_ptr, spread_ptr,
    losses_ptr, good_ptr,  # (2, N), (N,)
    N, C, alpha, cos_m, sin_m, m_sin_m, cosine_margin, label_smoothing, ignore_index,
    MARGIN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The losses of a block of rows, now that all classes have been seen."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < N
    alpha = load_alpha(alpha_ptr, alpha)
    counts, good, column = load_targets(target_ptr, rows, mask, C, ignore_index)
    own_weight, _, scale_of_loss = load_weights(weight_ptr, mean_weight_ptr, column, label_smoothing)
    cosine = tl.load(kept_ptr + N + N + rows, mask=mask, other=0.0)
    own, _, _ = _own_logit(cosine, column, alpha, bias_ptr, cos_m, sin_m, m_sin_m, cosine_margin, MARGIN)
    largest = tl.load(largest_ptr + rows, mask=mask, other=0.0)
    rest = largest + tl.log(tl.load(total_ptr + rows, mask=mask, other=1.0))
    loss = scale_of_loss * log_one_plus_exp(rest - own)
    if spread_ptr is not None:
        loss -= label_smoothing * tl.load(spread_ptr + rows, mask=mask, other=0.0) / C
    store_losses(losses_ptr, good_ptr, rows, mask, N, loss, own_weight, counts, good)
    tl.store(kept_ptr + N + rows, rest, mask=mask)


@triton.jit
def _prepare_kernel(
    grad_ptr, total_ptr, kept_ptr, target_ptr, bias_ptr, weight_ptr, mean_weight_ptr, alpha_ptr,
    upstream_ptr, log_sum_ptr, scale_ptr, own_ptr, bent_ptr,  # (N,) each
    N, C, grad_stride, alpha, cos_m, sin_m, m_sin_m, cosine_margin, label_smoothing, ignore_index,
    MARGIN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What a tile needs of its rows: ``g``, the whole log-sum-exp, ``A``, and the target's slope behind the margin."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < N
    alpha = load_alpha(alpha_ptr, alpha)
    counts, _, column = load_targets(target_ptr, rows, mask, C, ignore_index)
    own_weight, mean, scale_of_loss = load_weights(weight_ptr, mean_weight_ptr, column, label_smoothing)
    upstream = load_upstream(grad_ptr, grad_stride, total_ptr, rows, mask, counts)
    cosine = tl.load(kept_ptr + N + N + rows, mask=mask, other=0.0)
    own, psi, slope = _own_logit(cosine, column, alpha, bias_ptr, cos_m, sin_m, m_sin_m, cosine_margin, MARGIN)
    log_odds = tl.load(kept_ptr + N + rows, mask=mask, other=0.0) - own
    own_slope = label_smoothing * (mean - own_weight / C) - scale_of_loss * sigmoid(log_odds)
    tl.store(upstream_ptr + rows, upstream, mask=mask)
    tl.store(log_sum_ptr + rows, own + log_one_plus_exp(log_odds), mask=mask)
    tl.store(scale_ptr + rows, scale_of_loss, mask=mask)
    tl.store(own_ptr + rows, own_slope * slope, mask=mask)
    # A class of another process is bent there.
    tl.store(
        bent_ptr + rows, tl.where(counts & (column >= 0), upstream * own_slope * (psi - slope * cosine), 0.0), mask=mask
    )


@triton.jit
def _slopes_kernel(
    tile_ptr, slopes_ptr,  # (M, width), the same or in the operands' dtype
    dbias_ptr,  # (blocks of M, K) or None
    kept_ptr, upstream_ptr, log_sum_ptr, scale_ptr, own_ptr,
    target_ptr, bias_ptr, weight_ptr, class_norms_ptr, alpha_ptr,
    M, C, K, width, first_row, first_class, alpha, label_smoothing, ignore_index, eps,
    NORMALIZE: tl.constexpr, SMOOTHING: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """T of a block of a tile, ``width`` in memory as T is, and the sums over its rows of the logits' gradient."""
    local = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    rows = first_row + local
    cols = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    classes = first_class + cols
    row_mask, col_mask = local < M, cols < K
    mask = row_mask[:, None] & (cols < width)[None, :]
    alpha = load_alpha(alpha_ptr, alpha)
    _, _, column = load_targets(target_ptr, rows, row_mask, C, ignore_index)
    scale = alpha / tl.maximum(tl.load(kept_ptr + rows, mask=row_mask, other=1.0), eps)
    upstream = tl.load(upstream_ptr + rows, mask=row_mask, other=0.0)
    log_sum = tl.load(log_sum_ptr + rows, mask=row_mask, other=0.0)
    scale_of_loss = tl.load(scale_ptr + rows, mask=row_mask, other=0.0)
    own = tl.load(own_ptr + rows, mask=row_mask, other=0.0)

    offsets = local[:, None] * width + cols[None, :]  # a tile is never so large that 32 bits could not count it
    product = tl.load(tile_ptr + offsets, mask=mask, other=0.0)
    logits = _logits(
        product, scale[:, None], classes[None, :], col_mask[None, :], bias_ptr, class_norms_ptr, eps, NORMALIZE
    )
    slopes = scale_of_loss[:, None] * tl.exp(logits - log_sum[:, None])
    if SMOOTHING:
        weight = tl.full((BLOCK_K,), 1.0, tl.float32)
        if weight_ptr is not None:
            weight = tl.load(weight_ptr + classes, mask=col_mask, other=0.0).to(tl.float32)
        slopes -= label_smoothing * weight[None, :] / C
    slopes = tl.where(classes[None, :] == column[:, None], own[:, None], slopes)
    slopes = slopes * upstream[:, None]  # which is zero beyond the last row, as for an ignored one
    if dbias_ptr is not None:
        tl.store(dbias_ptr + tl.program_id(0) * K + cols, tl.sum(slopes, 0), mask=col_mask)
    slopes = slopes * scale[:, None]
    if NORMALIZE:
        class_norms = tl.load(class_norms_ptr + classes, mask=col_mask, other=1.0)
        slopes = slopes / tl.maximum(class_norms, eps)[None, :]
    tl.store(slopes_ptr + offsets, slopes, mask=mask)


@triton.jit
def _finish_kernel(
    product_ptr, norms_ptr, matrix_ptr, alpha_ptr,  # (R, D), (R,) or None, (R, D), () or None
    gradient_ptr, dalpha_ptr,  # (R, D) or None, (R,) or None
    D, first, matrix_stride, alpha, eps,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The gradient of a row of either matrix: its product without the part along the row, zero for a short one.

    Rows are counted from ``first`` in the matrix, its norms and gradients, and from zero in the product.
    """
    local = tl.program_id(0).to(tl.int64)
    row = first + local
    product_ptr += local * D
    matrix_ptr += row * matrix_stride
    along = 0.0
    inverse = 0.0
    long = True
    if norms_ptr is not None:
        norm = tl.load(norms_ptr + row)
        long = (norm < eps) == 0  # a row of NaN is not short
        inverse = 1.0 / tl.maximum(norm, eps)
        sums = tl.zeros((BLOCK_D,), tl.float32)
        for start in range(0, D, BLOCK_D):
            cols = start + tl.arange(0, BLOCK_D)
            product = tl.load(product_ptr + cols, mask=cols < D, other=0.0)
            unit_row = tl.load(matrix_ptr + cols, mask=cols < D, other=0.0).to(tl.float32) * inverse
            sums += product * unit_row
        along = tl.sum(sums, 0)
        if dalpha_ptr is not None:  # along is alpha r (u . h) here
            radial = along / (load_alpha(alpha_ptr, alpha) * inverse)
            tl.store(dalpha_ptr + row, tl.where(inverse == 0.0, 0.0, radial))
    if gradient_ptr is not None:
        for start in range(0, D, BLOCK_D):
            cols = start + tl.arange(0, BLOCK_D)
            product = tl.load(product_ptr + cols, mask=cols < D, other=0.0)
            unit_row = tl.load(matrix_ptr + cols, mask=cols < D, other=0.0).to(tl.float32) * inverse
            gradient = tl.where(long, product - unit_row * along, 0.0)
            tl.store(gradient_ptr + row * D + cols, gradient, mask=cols < D)


def _product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """``a b`` accumulated and returned in float32."""
    if a.dtype == torch.float32:
        return torch.mm(a, b, out=out)
    if not a.is_cuda:  # only CUDA has a product of half types that is not rounded to them
        return torch.mm(a.float(), b.float(), out=out)
    product: Tensor
    if out is None:
        product = torch.ops.aten.mm.dtype(a, b, torch.float32)
    else:
        product = torch.ops.aten.mm.dtype_out(a, b, torch.float32, out=out)
    return product


class _Tiles:
    """The operands of both directions, what every kernel is told, and the memory that all tiles share."""

    def __init__(self, problem: Problem, tile: Tile) -> None:
        N, D, C = problem.sizes
        self.problem, self.C, self.D = problem, C, D
        self.features, self.weight = unit_stride(problem.input), unit_stride(problem.linear_weight)
        same = self.features.dtype == self.weight.dtype
        self.operand_dtype = self.features.dtype if same else torch.float32
        self.operand = self.features.to(self.operand_dtype)
        self.target = problem.target.contiguous()
        self.alpha = 0.0 if isinstance(problem.alpha, Tensor) else problem.alpha
        self.alpha_tensor = problem.alpha if isinstance(problem.alpha, Tensor) else None
        self.mean_weight = mean_weight(problem.weight)
        self.margins = MarginConstants.of(problem.angular_margin, problem.cosine_margin)
        self.options = problem.options
        block = min(triton.next_power_of_2(D), 1024)
        # A row takes eight numbers a lane: 16 bytes of a half type, twice that of float32.
        self.blocks_of_d = {"BLOCK_D": block, "num_warps": max(1, block // 256)}
        self._memory = problem.input.new_empty(
            min(tile.rows, N) * tile_width(min(tile.classes, C)), dtype=torch.float32
        )

    def class_range(self, classes: slice) -> None:
        """Makes a range of classes the current one."""
        self.classes, self.K = classes, classes.stop - classes.start
        self.w = self.weight[classes].to(self.operand_dtype)

    def product(self, rows: slice) -> Tensor:
        """The raw products ``x . w`` of a range of rows and the current K classes: float32, K of ``(M, width)``."""
        M, width = rows.stop - rows.start, tile_width(self.K)
        tile = self._memory[: M * width].view(M, width)
        _product(self.operand[rows], self.w.T, out=tile[:, : self.K])
        return tile


class Forward:
    """Folds tiles into the log-sum-exp of each row's logits but its target's."""

    def __init__(self, problem: Problem, tile: Tile) -> None:
        N, D, C = problem.sizes
        self.N = N
        self.tiles = tiles = _Tiles(problem, tile)
        self.rows = problem.input.new_empty(3, N, dtype=torch.float32)
        self.losses = Losses(problem.target, C, problem.options.ignore_index, self.rows, problem.sharded)
        self.class_norms = self.rows.new_empty(C if problem.normalize_weight else 0)
        self.largest, self.total = self.rows.new_full((N,), -torch.inf), self.rows.new_zeros(N)
        self.spread = self.rows.new_zeros(N) if problem.options.label_smoothing else None
        with torch.cuda.device_of(problem.input):
            if problem.normalize_weight:
                _norms_kernel[(C,)](tiles.weight, self.class_norms, D, tiles.weight.stride(0), **tiles.blocks_of_d)
            _target_kernel[(N,)](
                tiles.features, tiles.weight, tiles.target, self.class_norms, self.rows,
                N, C, D, tiles.features.stride(0), tiles.weight.stride(0), tiles.options.ignore_index,
                tiles.options.eps,
                NORMALIZE=problem.normalize_weight, **tiles.blocks_of_d,
            )  # fmt: skip

    def class_range(self, classes: slice) -> None:
        self.tiles.class_range(classes)

    def fold(self, rows: slice) -> None:
        tiles, problem = self.tiles, self.tiles.problem
        product = tiles.product(rows)
        block = min(triton.next_power_of_2(tiles.K), 1024)
        with torch.cuda.device_of(product):
            _fold_kernel[(len(product),)](
                product, self.rows, tiles.target, problem.linear_bias, problem.weight, self.class_norms,
                tiles.alpha_tensor, self.largest, self.total, self.spread,
                self.N, tiles.C, tiles.K, product.shape[1], rows.start, tiles.classes.start, tiles.alpha,
                *tiles.margins, tiles.options.ignore_index, tiles.options.eps,
                NORMALIZE=problem.normalize_weight, MARGIN=problem.has_margin,
                BLOCK_K=block, num_warps=max(1, block // 128),  # a lane's four numbers are one load
            )  # fmt: skip

    def finish_rows(self) -> Kept:
        self.rows[1] = self.largest + self.total.log()
        return Kept(self.rows.new_empty(0), self.rows, self.class_norms)

    def finish(self) -> tuple[Tensor, Kept]:
        tiles, problem = self.tiles, self.tiles.problem
        with torch.cuda.device_of(problem.input):
            _loss_kernel[(triton.cdiv(self.N, BLOCK_ROWS),)](
                self.rows, tiles.target, problem.linear_bias, problem.weight, tiles.mean_weight, tiles.alpha_tensor,
                self.largest, self.total, self.spread, self.losses.losses, self.losses.good,
                self.N, tiles.C, tiles.alpha, *tiles.margins, tiles.options.label_smoothing,
                tiles.options.ignore_index,
                MARGIN=problem.has_margin, BLOCK=BLOCK_ROWS,
            )  # fmt: skip
        loss, total = self.losses.reduced(tiles.options.reduction)
        return loss, Kept(total, self.rows, self.class_norms)


class Backward:
    """Turns tiles into T and multiplies it with both operands."""

    def __init__(self, grad: Tensor, problem: Problem, kept: Kept, wanted: Wanted, tile: Tile) -> None:
        N, D, C = problem.sizes
        self.N, self.kept, self.wanted = N, kept, wanted
        self.tiles = tiles = _Tiles(problem, tile)
        prepared = kept.rows.new_empty(5, N).unbind()
        self.upstream, self.log_sum, self.scale, self.own, self.bent = prepared
        with torch.cuda.device_of(problem.input):
            _prepare_kernel[(triton.cdiv(N, BLOCK_ROWS),)](
                grad, kept.total if tiles.options.reduction == "mean" else None, kept.rows, tiles.target,
                problem.linear_bias, problem.weight, tiles.mean_weight, tiles.alpha_tensor,
                *prepared,
                N, C, grad.stride(0) if grad.ndim else 0, tiles.alpha, *tiles.margins,
                tiles.options.label_smoothing, tiles.options.ignore_index,
                MARGIN=problem.has_margin, BLOCK=BLOCK_ROWS,
            )  # fmt: skip
        self.slopes_dtype = torch.bfloat16 if tiles.operand_dtype == torch.bfloat16 else torch.float32
        self.operand = tiles.operand.to(self.slopes_dtype)
        self.h = kept.rows.new_zeros(N, D) if wanted.input or wanted.alpha else None  # alpha r_i h_i
        self.dweight = tiles.weight.new_empty((C, D) if wanted.linear_weight else 0)
        self.dbias = kept.rows.new_zeros(C if wanted.linear_bias else 0)

    def class_range(self, classes: slice) -> None:
        tiles = self.tiles
        tiles.class_range(classes)
        self.w = tiles.w.to(self.slopes_dtype)
        self.dv: Tensor | None = None
        # A float32 gradient is computed where it will be; nobody has written there yet.
        self.in_place = self.dweight[classes] if tiles.weight.dtype == torch.float32 else None

    def accumulate(self, rows: slice) -> None:
        tiles, problem = self.tiles, self.tiles.problem
        product = tiles.product(rows)
        (M, width), K = product.shape, tiles.K
        slopes = product if self.slopes_dtype == torch.float32 else torch.empty_like(product, dtype=self.slopes_dtype)
        blocks = triton.cdiv(M, BLOCK_M)
        sums = product.new_empty(blocks, K) if self.wanted.linear_bias else None
        with torch.cuda.device_of(product):
            _slopes_kernel[(blocks, triton.cdiv(K, BLOCK_K))](
                product, slopes, sums, self.kept.rows, self.upstream, self.log_sum, self.scale, self.own,
                tiles.target, problem.linear_bias, problem.weight, self.kept.class_norms, tiles.alpha_tensor,
                M, tiles.C, K, width, rows.start, tiles.classes.start, tiles.alpha,
                tiles.options.label_smoothing, tiles.options.ignore_index, tiles.options.eps,
                NORMALIZE=problem.normalize_weight, SMOOTHING=tiles.options.label_smoothing > 0,
                BLOCK_M=BLOCK_M, BLOCK_K=BLOCK_K,
            )  # fmt: skip
        slopes = slopes[:, :K]
        if sums is not None:
            self.dbias[tiles.classes] += sums.sum(0)
        if self.h is not None:
            self.h[rows] += _product(slopes, self.w)
        if self.wanted.linear_weight:
            if self.dv is None:
                self.dv = _product(slopes.T, self.operand[rows], out=self.in_place)
            else:
                self.dv += _product(slopes.T, self.operand[rows])

    def finish_class_range(self) -> None:
        if self.dv is None:
            return
        norms = self.kept.class_norms if self.tiles.problem.normalize_weight else None
        if norms is not None or self.in_place is None:  # else the product is the gradient, and where it should be
            self._finish(self.dv, norms, self.tiles.weight, self.tiles.classes.start, self.dweight, None)

    def finish(self) -> Gradients:
        tiles, wanted = self.tiles, self.wanted
        # What other processes will add theirs to is not rounded yet.
        dtype = torch.float32 if tiles.problem.sharded else tiles.features.dtype
        dinput = tiles.features.new_empty(tiles.features.shape, dtype=dtype) if wanted.input else None
        dalpha = torch.empty_like(self.bent) if wanted.alpha else None
        if self.h is not None:
            self._finish(self.h, self.kept.rows, tiles.features, 0, dinput, dalpha)
        return Gradients(
            self.upstream.new_empty(0) if dinput is None else dinput,
            self.dweight,
            self.dbias,
            self.upstream.new_empty(0) if dalpha is None else dalpha.sum() + self.bent.sum(),
        )

    def _finish(
        self,
        product: Tensor,
        norms: Tensor | None,
        matrix: Tensor,
        first: int,
        gradient: Tensor | None,
        dalpha: Tensor | None,
    ) -> None:
        tiles = self.tiles
        with torch.cuda.device_of(product):
            _finish_kernel[(len(product),)](
                product, norms, matrix, tiles.alpha_tensor, gradient, dalpha,
                tiles.D, first, matrix.stride(0), tiles.alpha, tiles.options.eps, **tiles.blocks_of_d,
            )  # fmt: skip

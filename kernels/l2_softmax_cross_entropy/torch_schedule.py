"""The row operator as PyTorch calls, in place, on ranges of rows that stay in a core's cache.

Legend: N rows, C classes.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .._runtime import accumulate_dtype
from .._softmax import CrossEntropyOptions, Targets

TILE = 2**17  # logits in flight; the measurements are in bench/results


class _Tiles:
    """The logits of one range of rows at a time, all in the same memory."""

    def __init__(self, input: Tensor, alpha: float | Tensor, norm: Tensor, eps: float) -> None:
        N, C = input.shape
        self.input, self.height = input, max(1, TILE // C)
        self.scale = (alpha / norm.clamp_min(eps))[:, None]
        self.slope = torch.where(norm[:, None] < eps, 0.0, self.scale)  # of a short row: it has no gradient
        self._memory = torch.empty(min(N, self.height) * C, dtype=norm.dtype, device=input.device)

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        for start in range(0, len(self.input), self.height):
            rows = slice(start, start + self.height)
            x = self.input[rows].to(self._memory.dtype)
            yield rows, x, torch.mul(x, self.scale[rows], out=self._memory[: x.numel()].view(x.shape))


def _exclude(logits: Tensor, classes: Tensor) -> Tensor:
    """Takes each row's own class out of ``logits`` ``(N, C)``, in place; returns what stood there, ``(N,)``."""
    column = classes[:, None]
    own = logits.gather(1, column)[:, 0]
    logits.scatter_(1, column, -torch.inf)
    return own


def _log_sum_exp_(logits: Tensor) -> Tensor:
    """Log-sum-exp of each row ``(N,)``, overwriting ``logits``; -inf for a row of nothing else."""
    largest = logits.amax(1, keepdim=True)
    largest = torch.where(largest == -torch.inf, 0.0, largest)
    return logits.sub_(largest).exp_().sum(1).log_().add_(largest[:, 0])


def forward(
    input: Tensor, target: Tensor, weight: Tensor | None, alpha: float | Tensor, options: CrossEntropyOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, what a mean was divided by, and the numbers kept of each row, ``(2, N)``."""
    dtype = accumulate_dtype(input)
    N, C = input.shape
    targets = Targets(target, C, weight, options, dtype)
    kept = torch.empty(2, N, dtype=dtype, device=input.device)
    norm, rest = kept
    torch.linalg.vector_norm(input, dim=1, dtype=dtype, out=norm)
    target_logit = torch.empty_like(norm)
    weighted_sum = torch.empty_like(norm) if options.label_smoothing else None
    for rows, _, logits in _Tiles(input, alpha, norm, options.eps):
        if weighted_sum is not None:
            weighted_sum[rows] = logits.sum(1) if targets.weight is None else logits.mv(targets.weight)
        target_logit[rows] = _exclude(logits, targets.classes[rows])
        rest[rows] = _log_sum_exp_(logits)
    loss, total = targets.reduced(targets.losses(rest - target_logit, target_logit, weighted_sum))
    return loss, total, kept


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
    norm, rest = kept
    targets = Targets(target, input.shape[1], weight, options, norm.dtype)
    upstream = targets.upstream(grad, total)
    scaled = targets.scaled(upstream)[:, None]
    tiles = _Tiles(input, alpha, norm, options.eps)
    dx = input.new_empty(input.shape if wants_input else 0)
    radial = torch.empty_like(norm)  # u . G
    for rows, x, tile in tiles:
        target_logit = _exclude(tile, targets.classes[rows])
        log_odds = rest[rows] - target_logit
        log_sum = target_logit - F.logsigmoid(-log_odds)
        slopes = tile.sub_(log_sum[:, None]).exp_().mul_(scaled[rows])
        if options.label_smoothing:
            slopes.sub_(upstream[rows, None] * targets.smoothed())
        target_slope = upstream[rows] * targets.target_slope(log_odds, rows)
        slopes.scatter_(1, targets.classes[rows, None], target_slope[:, None])
        length = norm[rows].clamp_min(options.eps)
        radial[rows] = torch.linalg.vecdot(slopes, x) / length
        if wants_input:
            slopes.addcmul_(x, (radial[rows] / length)[:, None], value=-1)
            torch.mul(slopes, tiles.slope[rows], out=dx[rows])
    return dx, radial.sum()

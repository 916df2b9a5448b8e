"""The row operator as PyTorch calls, in place, on ranges of rows that stay in a core's cache.

Legend: N rows, C classes.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .._runtime import accumulate_dtype
from .._softmax import LOG2E, CrossEntropyOptions, Targets, bounded

TILE = 2**18  # logits in flight; docs/tuning.md has the measurements


class _Tiles:
    """The logits of one range of rows at a time, to the base of 2, all in the same memory.

    PyTorch's ``exp2`` takes a quarter of its ``exp``'s time, and errs no more.
    """

    def __init__(self, input: Tensor, alpha: float | Tensor, norm: Tensor, eps: float) -> None:
        N, C = input.shape
        self.input, self.height = input, max(1, TILE // C)
        self.scale = alpha / norm.clamp_min(eps)
        self.bounded = bounded(alpha, norm.dtype)
        self.memory = torch.empty(min(N, self.height) * C, dtype=norm.dtype, device=input.device)

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        scale = (LOG2E * self.scale)[:, None]
        for start in range(0, len(self.input), self.height):
            rows = slice(start, start + self.height)
            x = self.input[rows].to(self.memory.dtype)
            yield rows, x, torch.mul(x, scale[rows], out=self.memory[: x.numel()].view(x.shape))

    def own(self, classes: Tensor) -> Tensor:
        """The logit of each row's own class ``(N,)``, to the base of e."""
        return self.input.gather(1, classes)[:, 0] * self.scale


def _log_sum_exp_(logits: Tensor, own: Tensor, bounded: bool) -> Tensor:
    """Log-sum-exp of each row ``(N,)`` but its own class, overwriting ``logits``; -inf for a row of nothing else."""
    if bounded:
        return logits.exp2_().scatter_(1, own, 0.0).sum(1).log_()
    largest = logits.scatter_(1, own, -torch.inf).amax(1, keepdim=True)
    largest = torch.where(largest == -torch.inf, 0.0, largest)
    return logits.sub_(largest).exp2_().sum(1).log_().add_(largest[:, 0], alpha=1 / LOG2E)


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
    tiles = _Tiles(input, alpha, norm, options.eps)
    own = targets.classes[:, None]
    weighted_sum = torch.empty_like(norm) if options.label_smoothing else None
    for rows, x, logits in tiles:
        if weighted_sum is not None:
            plain = x * tiles.scale[rows, None]  # to the base of e, as the target's are that are taken from them
            weighted_sum[rows] = plain.sum(1) if targets.weight is None else plain.mv(targets.weight)
        rest[rows] = _log_sum_exp_(logits, own[rows], tiles.bounded)
    target_logit = tiles.own(own)
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
    own = targets.classes[:, None]
    upstream = targets.upstream(grad, total)
    scaled = targets.scaled(upstream)[:, None]
    tiles = _Tiles(input, alpha, norm, options.eps)
    target_logit = tiles.own(own)
    log_odds = rest - target_logit
    log_sum = (target_logit - F.logsigmoid(-log_odds))[:, None]  # of the whole row
    target_slope = (upstream * targets.target_slope(log_odds))[:, None]
    length = norm.clamp_min(options.eps)
    slope = torch.where(norm < options.eps, 0.0, tiles.scale)[:, None]  # a short row has no gradient
    dx = input.new_empty(input.shape if wants_input else 0)
    radial = torch.empty_like(norm)  # u . G
    products = torch.empty_like(tiles.memory)
    for rows, x, tile in tiles:
        slopes = tile.sub_(LOG2E * log_sum[rows]).exp2_().mul_(scaled[rows])
        if options.label_smoothing:
            slopes.sub_(upstream[rows, None] * targets.smoothed())
        slopes.scatter_(1, own[rows], target_slope[rows])
        along = torch.mul(slopes, x, out=products[: x.numel()].view(x.shape)).sum(1)
        torch.div(along, length[rows], out=radial[rows])
        if wants_input:
            slopes.addcmul_(x, (radial[rows] / length[rows])[:, None], value=-1)
            torch.mul(slopes, slope[rows], out=dx[rows])
    return dx, radial.sum()

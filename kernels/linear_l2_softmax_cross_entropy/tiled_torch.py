"""The tiled driver's epilogues as PyTorch calls, in place, on tiles that stay in a CPU's cache.

A pass over a tile costs as much as a product with few features, so passes are what is saved:

* The operands are ``alpha u log2(e)`` and ``v``, so a product gives logits to the base of 2: PyTorch's ``exp2`` takes a
  quarter of its ``exp``'s time, and errs no more.
* With both sides normalised, ``|l| <= alpha``: exponentials need no running maximum (:func:`.._softmax.bounded`).
* The backward pass's shift by a row's log-sum-exp rides along with the product (``addmm``).
* A tile is turned into probabilities and never scaled again: a row's upstream gradient goes into the ``(N, D)`` factor
  of one product and behind the other; class weights and label smoothing are of rank one and never meet the tile.
* The target's own entry is taken out of the tile, and its share goes along ``(N, D)`` rows.

Legend: N rows, D features, C classes.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .._softmax import ALL, LOG2E, Targets, bounded
from .margin import margin_slope, with_margin
from .paths import Tile
from .problem import Gradients, Kept, Problem, Wanted


class _Tiles:
    """The operands of both directions, and the memory that all tiles share."""

    def __init__(self, problem: Problem, tile: Tile, norms: Tensor, class_norms: Tensor) -> None:
        N, D, C = problem.sizes
        dtype = problem.dtype
        self.problem, self.dtype, self.class_norms = problem, dtype, class_norms
        self.targets = Targets(problem.target, C, problem.weight, problem.options, dtype, problem.sharded)
        self.scale = problem.alpha / norms.clamp_min(problem.options.eps)
        self.features = problem.input.to(dtype) * self.scale[:, None]  # alpha u
        self.operand = self.features * LOG2E
        self.bias = None if problem.linear_bias is None else problem.linear_bias.to(dtype)
        new = problem.input.new_empty
        self._tile = new(min(tile.rows, N) * min(tile.classes, C), dtype=dtype)
        self._copies = problem.normalize_weight or problem.linear_weight.dtype != dtype
        self._classes = new((min(tile.classes, C), D) if self._copies else 0, dtype=dtype)

    def class_range(self, classes: slice) -> None:
        """Makes ``v`` of a range of classes the current operand."""
        self.classes = classes
        self.v = self.problem.linear_weight[classes]
        if self._copies:
            copy = self._classes[: len(self.v)]
            if self.problem.normalize_weight:
                norms = self.class_norms[classes].clamp_min(self.problem.options.eps)
                self.v = torch.div(self.v, norms[:, None], out=copy)
            else:
                self.v = copy.copy_(self.v)

    def logits(self, rows: slice, shift: Tensor | None) -> Tensor:
        """Logits of a range of rows and the current classes, to the base of 2, plus ``shift``; the target's is -inf."""
        features = self.operand[rows]
        tile = self._tile[: len(features) * len(self.v)].view(len(features), len(self.v))
        if self.bias is not None:
            torch.addmm(self.bias[self.classes] * LOG2E, features, self.v.T, out=tile)
            if shift is not None:
                tile.add_(shift)
        elif shift is not None:
            torch.addmm(shift, features, self.v.T, out=tile)
        else:
            torch.mm(features, self.v.T, out=tile)
        inside, column = self.own(rows)
        tile.scatter_(1, column, torch.where(inside[:, None], -math.inf, tile.gather(1, column)))
        return tile

    def own(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Whether a row's class is a current one, ``(N,)``, and in which column if it is, ``(N, 1)``."""
        local = self.targets.classes[rows] - self.classes.start
        inside = (local >= 0) & (local < len(self.v))
        return inside, torch.where(inside, local, 0)[:, None]

    def target_operand(self) -> Tensor:
        """``v`` of each row's class, ``(N, D)``."""
        own = self.problem.linear_weight[self.targets.classes].to(self.dtype)
        if self.problem.normalize_weight:
            own /= self.class_norms[self.targets.classes].clamp_min(self.problem.options.eps)[:, None]
        return own

    def target_logit(self, cosine: Tensor) -> Tensor:
        """The target's logit of each row from its cosine."""
        if self.problem.has_margin:
            cosine = with_margin(cosine, self.problem.angular_margin, self.problem.cosine_margin)
        logit = self.problem.alpha * cosine
        if self.bias is None:
            return logit
        bias = self.bias[self.targets.classes]
        return logit + (bias if self.targets.here is None else torch.where(self.targets.here, bias, 0.0))


class Forward:
    """Folds tiles into ``rest``, the log-sum-exp of each row's logits but its target's."""

    def __init__(self, problem: Problem, tile: Tile) -> None:
        N, D, C = problem.sizes
        dtype = problem.dtype
        new = problem.input.new_empty
        self.rows = new(3, N, dtype=dtype)
        self.norm, self.rest, self.cosine = self.rows.unbind()
        torch.linalg.vector_norm(problem.input, dim=1, dtype=dtype, out=self.norm)
        class_norms = new(C if problem.normalize_weight else 0, dtype=dtype)
        self.tiles = _Tiles(problem, tile, self.norm, class_norms)
        self.sums = torch.zeros_like(self.norm)
        self.bounded = problem.normalize_weight and bounded(problem.alpha, dtype)
        if not self.bounded:
            self.largest = torch.full_like(self.norm, -math.inf)
        self.smoothed = new(D, dtype=dtype).zero_() if problem.options.label_smoothing else None

    def class_range(self, classes: slice) -> None:
        tiles = self.tiles
        if tiles.problem.normalize_weight:
            weight, norms = tiles.problem.linear_weight[classes], tiles.class_norms[classes]
            torch.linalg.vector_norm(weight, dim=1, dtype=tiles.dtype, out=norms)
        tiles.class_range(classes)
        if self.smoothed is not None:
            _add_weighted_classes(self.smoothed, tiles)

    def fold(self, rows: slice) -> None:
        if self.bounded:
            self.sums[rows] += self.tiles.logits(rows, None).exp2_().sum(1)
            return
        logits = self.tiles.logits(rows, None)
        before = self.largest[rows]
        largest = torch.maximum(before, logits.amax(1))
        finite = torch.where(largest == -math.inf, 0.0, largest)  # there may have been no class but the target's
        self.sums[rows] *= torch.exp2(before - finite)
        self.sums[rows] += logits.sub_(finite[:, None]).exp2_().sum(1)
        self.largest[rows] = largest

    def finish_rows(self) -> Kept:
        tiles = self.tiles
        torch.log(self.sums, out=self.rest)
        if not self.bounded:
            self.rest += self.largest / LOG2E
        torch.div(torch.linalg.vecdot(tiles.features, tiles.target_operand()), tiles.problem.alpha, out=self.cosine)
        return Kept(self.rows.new_empty(0), self.rows, tiles.class_norms)

    def finish(self) -> tuple[Tensor, Kept]:
        kept = self.finish_rows()
        tiles, targets = self.tiles, self.tiles.targets
        alpha = tiles.problem.alpha
        target_logit = tiles.target_logit(self.cosine)
        weighted_sum = None
        if self.smoothed is not None:
            weighted_sum = tiles.features @ self.smoothed
            weight = targets.weight
            if tiles.bias is not None:
                weighted_sum = weighted_sum + (tiles.bias.sum() if weight is None else tiles.bias @ weight)
            if tiles.problem.has_margin:
                moved = target_logit - alpha * self.cosine
                weighted_sum = weighted_sum + (moved if weight is None else moved * weight[targets.classes])
        loss, total = targets.reduced(targets.losses(self.rest - target_logit, target_logit, weighted_sum))
        return loss, replace(kept, total=total)


def _add_weighted_classes(total: Tensor, tiles: _Tiles) -> None:
    """Adds ``sum_j w_j v_j`` of the current classes to ``total`` ``(D,)``."""
    weight = tiles.targets.weight
    if weight is None:
        total += tiles.v.sum(0)
    else:
        total.addmv_(tiles.v.T, weight[tiles.classes])


def _add_at(total: Tensor, index: Tensor, values: Tensor, inside: Tensor) -> None:
    """Adds ``values[i]`` to ``total[index[i]]`` where ``inside[i]``, in the same order every time."""
    if total.is_cuda:  # where index_add_ is a race of atomics, and to ask for the rows inside is to wait for them
        inside = inside.view(-1, *[1] * (values.ndim - 1))
        total.index_put_((index,), torch.where(inside, values, 0.0), accumulate=True)
    else:
        rows = inside.nonzero()[:, 0]
        total.index_add_(0, index[rows], values[rows])


class Backward:
    """Turns tiles into probabilities and multiplies them with both operands."""

    def __init__(self, grad: Tensor, problem: Problem, kept: Kept, wanted: Wanted, tile: Tile) -> None:
        N, D, C = problem.sizes
        dtype, smoothing = problem.dtype, problem.options.label_smoothing
        self.norm, rest, cosine = kept.rows.unbind()
        self.wanted = wanted
        self.tiles = tiles = _Tiles(problem, tile, self.norm, kept.class_norms)
        targets = tiles.targets
        self.upstream = targets.upstream(grad, kept.total)
        self.scaled = targets.scaled(self.upstream)
        target_logit = tiles.target_logit(cosine)
        log_odds = rest - target_logit
        # Minus the log-sum-exp of the whole row.
        self.shift = LOG2E * (F.logsigmoid(-log_odds) - target_logit)[:, None]

        self.own = self.upstream * targets.target_slope(log_odds)  # what the target's entry adds, along its own path
        if targets.here is not None:
            self.own = torch.where(targets.here, self.own, 0.0)
        self.bent = None
        if problem.has_margin:
            slope = margin_slope(cosine, problem.angular_margin)
            psi = with_margin(cosine, problem.angular_margin, problem.cosine_margin)
            self.bent = self.own * (psi - slope * cosine)
            self.own *= slope
        self.smoothed = self.norm.new_zeros(D) if smoothing else None
        if smoothing:
            # Smoothing is subtracted from every entry, the target's too, which has it in its slope already.
            own_weight = 1.0 if targets.weight is None else targets.weight[targets.classes]
            self.own += self.upstream * (smoothing / C * own_weight)
            self.upstream_features = tiles.features.T @ self.upstream

        new = problem.input.new_empty
        self.toward = self.norm.new_zeros(N, D) if wanted.input or wanted.alpha else None
        self.dbias = self.norm.new_zeros(C if wanted.linear_bias else 0)
        self.dweight = new((C, D) if wanted.linear_weight else 0, dtype=problem.linear_weight.dtype)
        if wanted.linear_weight:
            self.scaled_features = tiles.features * self.scaled[:, None]
            self.own_features = tiles.features * self.own[:, None]
            self.in_place = problem.linear_weight.dtype == dtype
            self.memory = new((0 if self.in_place else min(tile.classes, C), D), dtype=dtype)

    def class_range(self, classes: slice) -> None:
        tiles = self.tiles
        tiles.class_range(classes)
        if self.smoothed is not None:
            _add_weighted_classes(self.smoothed, tiles)
        if self.wanted.linear_weight:
            self.dv = self.dweight[classes] if self.in_place else self.memory[: len(tiles.v)]

    def accumulate(self, rows: slice) -> None:
        tiles = self.tiles
        probabilities = tiles.logits(rows, self.shift[rows]).exp2_()
        if self.toward is not None:
            self.toward[rows].addmm_(probabilities, tiles.v)
        if self.wanted.linear_weight:
            first = rows.start == 0  # writes what the others add to
            self.dv.addmm_(probabilities.T, self.scaled_features[rows], beta=0 if first else 1)
        if self.wanted.linear_bias:
            self.dbias[tiles.classes].addmv_(probabilities.T, self.scaled[rows])

    def finish_class_range(self) -> None:
        tiles, targets = self.tiles, self.tiles.targets
        inside, column = tiles.own(ALL)
        if self.wanted.linear_bias:
            dbias = self.dbias[tiles.classes]
            _add_at(dbias, column[:, 0], self.own, inside)
            dbias -= targets.smoothed(tiles.classes) * self.upstream.sum()
        if not self.wanted.linear_weight:
            return
        _add_at(self.dv, column[:, 0], self.own_features, inside)
        if self.smoothed is not None:
            smoothed = targets.smoothed(tiles.classes)
            each = smoothed[:, None] if isinstance(smoothed, Tensor) else smoothed
            self.dv -= each * self.upstream_features
        if tiles.problem.normalize_weight:
            norms, eps = tiles.class_norms[tiles.classes, None], tiles.problem.options.eps
            self.dv.addcmul_(tiles.v, torch.linalg.vecdot(self.dv, tiles.v)[:, None], value=-1)
            self.dv.mul_(torch.where(norms < eps, 0.0, 1 / norms))
        if not self.in_place:
            self.dweight[tiles.classes] = self.dv

    def finish(self) -> Gradients:
        tiles, problem = self.tiles, self.tiles.problem
        dinput, dalpha = self.norm.new_empty(0), self.norm.new_empty(0)
        if self.toward is not None:
            h = self.toward.mul_(self.scaled[:, None]).addcmul_(tiles.target_operand(), self.own[:, None])
            if self.smoothed is not None:
                h.addr_(
                    self.upstream,
                    self.smoothed,
                    alpha=-problem.options.label_smoothing / len(problem.linear_weight),
                )
            along = torch.linalg.vecdot(tiles.features, h) / problem.alpha  # u . h
            if self.wanted.alpha:
                dalpha = along.sum() if self.bent is None else along.sum() + self.bent.sum()
            if self.wanted.input:
                short = (self.norm < problem.options.eps)[:, None]
                scale = torch.where(short, 0.0, tiles.scale[:, None])
                dinput = h.mul_(scale).addcmul_(tiles.features, scale * (along / problem.alpha)[:, None], value=-1)
        return Gradients(dinput, self.dweight, self.dbias, dalpha)

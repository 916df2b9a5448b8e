"""In PyTorch calls, on tiles that stay in the cache.

A window's sum is found by doubling: sums over 1, 2, 4, ... neighbouring channels, each of two of the sums before, so
that nine channels take four additions. Channels lie in a buffer with zeros before and after them, the samples of a tile
one after the other: a step by some channels is a step in memory, the same for every number, and an addition is one call
over a whole tile. What it makes of two samples' channels together, nobody reads.

A product with a band matrix takes as many additions as there are channels, obeys torch's switches for less precise
products, and smears what is not finite over all channels; it was slower, too.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .._runtime import accumulate_dtype
from .problem import Layout, Problem

TILE = 2**18  # numbers of a tile for each thread; the measurements are in bench/results
DEVICE_TILE = 2**24  # off the CPU, where calls cost and no cache is to be kept

Index = tuple[slice, slice, slice]


class _Workspace:
    """Memory for one tile after the other, ``(samples, C, width)``: some positions with all their channels."""

    def __init__(self, problem: Problem, channels: int, positions: int, like: Tensor) -> None:
        self._margin = max(problem.behind, problem.ahead)
        self._size = problem.behind + 1 + problem.ahead
        self._channels, self._rows = channels, channels + 2 * self._margin
        self._samples = self._width = 0
        self._dtype = accumulate_dtype(like)
        self._padded, *self._spare = like.new_empty(3, self._rows * positions, dtype=self._dtype)
        # What is stored in half precision is computed here.
        singles = 0 if like.dtype == self._dtype else 3
        self._singles = self._padded.new_empty(singles, channels * positions)

    def fit(self, samples: int, width: int) -> None:
        """Turns to a tile of another size."""
        if width != self._width:  # what is a margin now was none
            self._padded.zero_()
        self._samples, self._width = samples, width

    def _cut(self, memory: Tensor, rows: int) -> Tensor:
        return memory[: self._samples * rows * self._width].view(self._samples, rows, self._width)

    def _inside(self, memory: Tensor, margin: int) -> Tensor:
        return self._cut(memory, self._rows)[:, margin : margin + self._channels]

    @property
    def terms(self) -> Tensor:
        """What :meth:`window_sums` adds, to be filled in."""
        return self._inside(self._padded, self._margin)

    def room(self, tile: Tensor, place: int) -> Tensor:
        """``tile``, if it has the precision of the computation, else memory of that precision instead."""
        return tile if tile.dtype == self._dtype else self._cut(self._singles[place], self._channels)

    def read(self, tile: Tensor, place: int) -> Tensor:
        """The numbers of ``tile`` in the precision of the computation."""
        room = self.room(tile, place)
        return tile if room is tile else room.copy_(tile)

    def window_sums(self, behind: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of the terms over windows that begin ``behind`` channels before their own, and memory like them.

        The second tensor is free at once, the third after the sums have been read.
        """
        terms = self._cut(self._padded, self._rows).view(-1)
        spare = list(self._spare)

        def plus(more: Tensor) -> Tensor:
            spare.reverse()
            return torch.add(sums[: len(more)], more, out=spare[1][: len(more)])

        sums, taken = terms, 1
        for bit in f"{self._size:b}"[1:]:
            sums = plus(sums[taken * self._width :])
            taken *= 2
            if bit == "1":
                sums = plus(terms[taken * self._width :])
                taken += 1
        found = spare[1] if self._size > 1 else self._padded
        first = self._margin - behind
        return self._inside(found, first), self._inside(spare[0], first), self._inside(spare[1], first)


def _tiles(problem: Problem, layout: Layout, like: Tensor) -> Iterator[tuple[Index, _Workspace]]:
    """Tiles that make up a tensor: where each lies, and memory that fits it."""
    numbers = TILE * torch.get_num_threads() if like.device.type == "cpu" else DEVICE_TILE
    numbers = min(numbers, like.numel() // 4)  # of a small tensor, the memory is to be small as well
    width = max(1, min(layout.inner, numbers // layout.channels))
    samples = max(1, min(layout.outer, numbers // (layout.channels * width)))
    workspace = _Workspace(problem, layout.channels, samples * width, like)
    for left in range(0, layout.inner, width):
        inner = slice(left, min(left + width, layout.inner))
        for first in range(0, layout.outer, samples):
            outer = slice(first, min(first + samples, layout.outer))
            workspace.fit(outer.stop - outer.start, inner.stop - inner.start)
            yield (outer, slice(None), inner), workspace


def _powers(x: Tensor, workspace: _Workspace, problem: Problem, k: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """``s^-beta`` of a tile, and factors of ``1 / s``."""
    torch.mul(x, x, out=workspace.terms)
    sums, free, later = workspace.window_sums(problem.behind)
    s = torch.add(k, sums, alpha=problem.scale, out=free)
    if problem.beta == 0.75:
        root = s.rsqrt_()
        return torch.sqrt(root, out=later).mul_(root), (root, root)
    if problem.beta == 0.5:
        root = s.rsqrt_()
        return root, (root, root)
    if problem.beta == 1:
        inverse = s.reciprocal_()
        return inverse, (inverse,)
    return torch.log2(s, out=later).mul_(-problem.beta).exp2_(), (s.reciprocal_(),)


def forward(input: Tensor, problem: Problem) -> Tensor:
    """The normalised tensor, dense, in the input's order of dimensions."""
    output = torch.empty_like(input)
    layout = Layout(output)
    source, target = layout.planes(input), layout.planes(output)
    k = torch.full((), problem.k, dtype=accumulate_dtype(input), device=input.device)
    for index, workspace in _tiles(problem, layout, input):
        x = workspace.read(source[index], 0)
        power, _ = _powers(x, workspace, problem, k)
        result = torch.mul(power, x, out=workspace.room(target[index], 1))
        if result.dtype != target.dtype:
            target[index].copy_(result)
    return output


def backward(grad: Tensor, input: Tensor, problem: Problem) -> Tensor:
    """The gradient of the input, like :func:`forward`'s result."""
    dinput = torch.empty_like(input)
    layout = Layout(dinput)
    source, upstream, target = layout.planes(input), layout.planes(grad), layout.planes(dinput)
    k = torch.full((), problem.k, dtype=accumulate_dtype(input), device=input.device)
    for index, workspace in _tiles(problem, layout, input):
        x = workspace.read(source[index], 0)
        power, factors = _powers(x, workspace, problem, k)
        result = torch.mul(power, workspace.read(upstream[index], 1), out=workspace.room(target[index], 2))
        t = torch.mul(result, x, out=workspace.terms)
        for factor in factors:
            t.mul_(factor)
        sums, _, _ = workspace.window_sums(problem.ahead)
        result.addcmul_(sums, x, value=-2 * problem.scale * problem.beta)
        if result.dtype != target.dtype:
            target[index].copy_(result)
    return dinput

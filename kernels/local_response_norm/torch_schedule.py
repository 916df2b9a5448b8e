"""In PyTorch calls, on tiles that stay in the cache.

A window's sum is found by doubling: sums over 1, 2, 4, ... neighbouring channels, each of two of the sums before, so
that nine channels take four additions. Channels lie in a buffer with zeros before and after them, the samples of a tile
one after the other: a step by some channels is a step in memory, the same for every number, and an addition is one call
over a whole tile. What it makes of two samples' channels together, nobody reads.

A product with a band matrix would take as many additions as there are channels, obey torch's switches for less precise
products, and smear what is not finite over all channels.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .._runtime import accumulate_dtype
from .problem import Layout, Problem

# Numbers of a tile for each thread. Anything from 2**15.5 to 2**18 takes the same time, forward and backward, at
# (128, 64, 12, 12) and (128, 64, 24, 24); 2**15 takes a tenth more. 2 threads on an AMD EPYC, torch 2.13.
TILE = 3 * 2**15
LEAST = 2**14  # below this the calls are what takes the time
DEVICE_TILE = 2**24  # off the CPU, where calls cost and no cache is to be kept

Index = tuple[slice, slice, slice]


class _Workspace:
    """Memory for one tile after the other, ``(samples, C, width)``: some positions with all their channels.

    Attributes:
        terms: what :meth:`window_sums` adds, to be filled in, like a tile.
        k: the problem's, as a tensor that an addition takes without a call of its own.
    """

    terms: Tensor

    def __init__(self, problem: Problem, channels: int, positions: int, like: Tensor) -> None:
        self._problem, self._channels = problem, channels
        self._margin = max(problem.behind, problem.ahead)
        self._rows = channels + 2 * self._margin
        self._shape = 0, 0
        self._dtype = accumulate_dtype(like)
        self.k = like.new_full((), problem.k, dtype=self._dtype)
        # The terms between margins, and two that sums alternate between.
        self._memory = like.new_empty(3, self._rows * positions, dtype=self._dtype)
        # What is stored in half precision is computed here.
        singles = 0 if like.dtype == self._dtype else 3
        self._singles = self._memory.new_empty(singles, channels * positions)

    def fit(self, samples: int, width: int) -> None:
        """Turns to tiles of another size."""
        if (samples, width) == self._shape:
            return
        self._shape = samples, width
        padded, *spare = (self._cut(memory, samples, self._rows, width) for memory in self._memory)
        padded[:, : self._margin] = padded[:, self._rows - self._margin :] = 0
        self.terms = padded.narrow(1, self._margin, self._channels)
        self._additions = list(self._doubling(padded.view(-1), [memory.view(-1) for memory in spare], width))
        # After an odd number of additions the sums are in the first.
        if len(self._additions) % 2:
            spare.reverse()
        found = spare[1] if self._additions else padded
        self._windows = {
            behind: [memory.narrow(1, self._margin - behind, self._channels) for memory in (found, *spare)]
            for behind in (self._problem.behind, self._problem.ahead)
        }

    def _cut(self, memory: Tensor, samples: int, rows: int, width: int) -> Tensor:
        return memory[: samples * rows * width].view(samples, rows, width)

    def _doubling(self, terms: Tensor, spare: list[Tensor], step: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Two tensors to add and where to, one after the other, until all windows' terms are together."""
        sums, taken = terms, 1
        for bit in f"{self._problem.behind + 1 + self._problem.ahead:b}"[1:]:
            for more in (sums[taken * step :], terms[2 * taken * step :])[: 1 + int(bit)]:
                result = spare[0][: len(more)]
                yield sums[: len(more)], more, result
                sums = result
                spare.reverse()
            taken = 2 * taken + int(bit)

    def room(self, tile: Tensor, place: int) -> Tensor:
        """``tile``, if it has the precision of the computation, else memory of that precision instead."""
        if tile.dtype == self._dtype:
            return tile
        samples, width = self._shape
        return self._cut(self._singles[place], samples, self._channels, width)

    def read(self, tile: Tensor, place: int) -> Tensor:
        """The numbers of ``tile`` in the precision of the computation."""
        room = self.room(tile, place)
        return tile if room is tile else room.copy_(tile)

    def write(self, tile: Tensor, numbers: Tensor) -> None:
        """Puts what was computed in the tile's ``room`` into the tile."""
        if numbers.dtype != tile.dtype:
            tile.copy_(numbers)

    def window_sums(self, behind: int) -> list[Tensor]:
        """Sums of the terms over windows that begin ``behind`` channels before their own, and memory, all like a tile.

        Of the memory, the first is free at once, the second after the sums have been read.
        """
        for left, right, result in self._additions:
            torch.add(left, right, out=result)
        return self._windows[behind]


def _tiles(problem: Problem, layout: Layout, like: Tensor) -> Iterator[tuple[Index, _Workspace]]:
    """Tiles that make up a tensor: where each lies, and memory that fits it."""
    numbers = TILE * torch.get_num_threads() if like.device.type == "cpu" else DEVICE_TILE
    numbers = min(numbers, max(like.numel() // 4, LEAST))  # of a small tensor, the memory is to be small as well
    width = max(1, min(layout.inner, numbers // layout.channels))
    samples = max(1, min(layout.outer, numbers // (layout.channels * width)))
    workspace = _Workspace(problem, layout.channels, samples * width, like)
    for left in range(0, layout.inner, width):
        inner = slice(left, min(left + width, layout.inner))
        for first in range(0, layout.outer, samples):
            outer = slice(first, min(first + samples, layout.outer))
            workspace.fit(outer.stop - outer.start, inner.stop - inner.start)
            yield (outer, slice(None), inner), workspace


def _energies(x: Tensor, workspace: _Workspace, problem: Problem) -> tuple[Tensor, Tensor]:
    """``s`` of a tile, and memory like it."""
    torch.mul(x, x, out=workspace.terms)
    sums, free, later = workspace.window_sums(problem.behind)
    return torch.add(workspace.k, sums, alpha=problem.scale, out=free), later


def _normalised(numbers: Tensor, s: Tensor, free: Tensor, beta: float, out: Tensor) -> Tensor:
    """``numbers s^-beta``."""
    if beta == 0.75:
        root = torch.rsqrt(s, out=free)
        return torch.mul(numbers, root, out=out).div_(root.rsqrt_())  # on a CPU the root of a reciprocal takes longer
    if beta == 0.5:
        return torch.mul(numbers, torch.rsqrt(s, out=free), out=out)
    if beta == 1:
        return torch.div(numbers, s, out=out)
    return torch.mul(numbers, torch.log2(s, out=free).mul_(-beta).exp2_(), out=out)


def forward(input: Tensor, problem: Problem) -> Tensor:
    """The normalised tensor, dense, in the input's order of dimensions."""
    output = torch.empty_like(input)
    layout = Layout(output)
    source, target = layout.planes(input), layout.planes(output)
    for index, workspace in _tiles(problem, layout, input):
        x = workspace.read(source[index], 0)
        s, free = _energies(x, workspace, problem)
        result = _normalised(x, s, free, problem.beta, workspace.room(target[index], 1))
        workspace.write(target[index], result)
    return output


def backward(grad: Tensor, input: Tensor, problem: Problem) -> Tensor:
    """The gradient of the input, like :func:`forward`'s result."""
    dinput = torch.empty_like(input)
    layout = Layout(dinput)
    source, upstream, target = layout.planes(input), layout.planes(grad), layout.planes(dinput)
    for index, workspace in _tiles(problem, layout, input):
        x = workspace.read(source[index], 0)
        s, free = _energies(x, workspace, problem)
        g = workspace.read(upstream[index], 1)
        result = _normalised(g, s, free, problem.beta, workspace.room(target[index], 2))
        torch.mul(result, x, out=workspace.terms).div_(s)  # t
        sums, _, _ = workspace.window_sums(problem.ahead)
        result.addcmul_(sums, x, value=-2 * problem.scale * problem.beta)
        workspace.write(target[index], result)
    return dinput

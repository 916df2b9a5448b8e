"""What the implementations share: where a window lies, and how a tensor of any layout is walked without a copy."""

import math
from typing import Literal, NamedTuple

from torch import Tensor

Window = Literal["torch", "onnx"]


def reach(size: int, window: Window) -> tuple[int, int]:
    """How many channels before its own and after it a window takes in."""
    behind, ahead = size // 2, (size - 1) // 2
    return (behind, ahead) if window == "torch" else (ahead, behind)


class Problem(NamedTuple):
    """The numbers of one normalisation.

    Attributes:
        behind: channels before its own that a window takes in, at most C - 1.
        ahead: channels after it, at most C - 1.
        scale: alpha / size, the weight of a window's sum of squares.
        beta: the exponent.
        k: what the weighted sum is added to.
    """

    behind: int
    ahead: int
    scale: float
    beta: float
    k: float

    @classmethod
    def of(cls, input: Tensor, size: int, alpha: float, beta: float, k: float, window: Window) -> "Problem":
        """The problem of the operator's arguments; a window larger than all channels is cut to them."""
        behind, ahead = (min(channels, input.shape[1] - 1) for channels in reach(size, window))
        return cls(behind, ahead, alpha / size, beta, k)


class Layout:
    """The order in which a dense tensor's dimensions lie in memory.

    Whatever it is, memory reads as ``(outer, C, inner)``: a stretch of ``inner`` numbers for each channel, the channels
    one after the other, ``outer`` times. Channels first, inner is the number of positions of a picture; channels last,
    it is 1. A position's channels lie ``inner`` numbers apart.
    """

    def __init__(self, dense: Tensor) -> None:
        self._order = sorted(range(dense.ndim), key=dense.stride, reverse=True)
        place = self._order.index(1)
        self.outer = math.prod(dense.shape[dimension] for dimension in self._order[:place])
        self.channels = dense.shape[1]
        self.inner = math.prod(dense.shape[dimension] for dimension in self._order[place + 1 :])

    def planes(self, tensor: Tensor) -> Tensor:
        """``tensor`` as ``(outer, C, inner)``: a view where it has this layout, else a copy."""
        return tensor.permute(self._order).contiguous().view(self.outer, self.channels, self.inner)

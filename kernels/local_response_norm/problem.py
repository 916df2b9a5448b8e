"""What the implementations share: where a window lies, and how a tensor of any layout is walked without a copy."""

import math
import operator
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple

from torch import Tensor

Window = Literal["torch", "onnx"]

MOST = 1e18  # for any of the numbers, so that their products are finite in float32


def checked_size(size: Any, alpha: Any, beta: Any, k: Any, window: Any) -> int:
    """The size as Python's own integer, if that and the operator's other arguments are what they should be.

    Raises:
        TypeError: on a size that is no integer or a number that is none; a tensor is none, for nobody waits for one.
        ValueError: on a number out of range, or no window's name.
    """
    if isinstance(size, bool) or not isinstance(size, Integral):
        raise TypeError(f"size must be an integer, got {size!r}")
    channels: int = operator.index(size)
    if not 1 <= channels <= MOST:
        raise ValueError(f"size must be at least 1 channel and at most {MOST:g}, got {size}")
    for name, number in (("alpha", alpha), ("beta", beta), ("k", k)):
        is_number = isinstance(number, Real)
        if not is_number:
            raise TypeError(f"{name} must be a number, got {type(number).__name__}")
        if not 0 <= number <= MOST:
            raise ValueError(f"{name} must be at least 0 and at most {MOST:g}, got {number}")
    if beta == 0:
        raise ValueError("beta must be above 0: with 0 nothing is normalised")
    if window not in ("torch", "onnx"):
        raise ValueError(f"window must be 'torch' or 'onnx', got {window!r}")
    return channels


def reach(size: int, window: Window, channels: int) -> tuple[int, int]:
    """How many of so many channels a window takes in before its own and after it, at most all the others."""
    behind, ahead = min(size // 2, channels - 1), min((size - 1) // 2, channels - 1)
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
        """The problem of the operator's arguments."""
        return cls(*reach(size, window, input.shape[1]), alpha / size, beta, k)


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

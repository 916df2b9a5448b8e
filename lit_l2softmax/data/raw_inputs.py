"""What a trained network is given by whoever has nothing of this program but an exported file."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RawInputs:
    """Inputs as a person has them, and how they become what the network was trained on.

    Attributes:
        name: of the input.
        dtype: uint8, from 0 to 255, or a floating one.
        shape: of a row, without its batch.
        wanted: what has to be true of them, in words.
        done: what ``preprocess`` does to them, in words.
        preprocess: makes a batch of the network's inputs, in the given floating dtype, out of a batch of these.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    wanted: str
    done: str
    preprocess: Callable[[Tensor, torch.dtype], Tensor]

"""The processes that train one network together, each on its own rows of every batch.

Gradients and figures are averaged over processes, by DistributedDataParallel and by Lightning. A process whose rows are
fewer than another's, or that ignores some, must not count as much, so each multiplies its means by its :func:`share`
before they are averaged: the average is then the mean over all rows, by their number.

One process alone, without torch.distributed, is a case of this and pays nothing for it.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Place(NamedTuple):
    """A process among those of the default group: ``rank`` of ``size``."""

    rank: int
    size: int


def place() -> Place:
    """Where this process stands; rank 0 of 1 where torch.distributed is not at work."""
    if not (dist.is_available() and dist.is_initialized()):
        return Place(0, 1)
    return Place(dist.get_rank(), dist.get_world_size())


def share(rows: Tensor) -> Tensor:
    """What a mean over this process's rows counts for, 1 where all have as many; one number is added up, 0-d.

    Args:
        rows: how many of this process count, 0-d, on the device that the processes talk through.

    Returns:
        0-d, float32; 0 where no process has a row.
    """
    size = place().size
    if size == 1:
        return torch.ones((), device=rows.device)
    total = rows.detach().double()
    dist.all_reduce(total)
    return (rows * size / total.clamp_min(1)).float()


def weighted(mean: Tensor, share: Tensor) -> Tensor:
    """A mean over this process's rows, ready to be averaged over processes; where it has none, 0 and not NaN.

    The gradient of 0 times nothing is zeros, so a process without rows takes part in all that the others wait for.
    """
    return torch.where(share > 0, mean * share, 0) if place().size > 1 else mean

"""The processes that train one network together, each on its own rows of every batch.

Gradients and figures are averaged over processes, by DistributedDataParallel and by Lightning. A process whose rows are
fewer than another's, or that ignores some, must not count as much, so each multiplies its means by its :func:`share`
before they are averaged: the average is then the mean over all rows, by their number.

One process alone, without torch.distributed, is a case of this and pays nothing for it.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class Place(NamedTuple):
    """A process among those of the default group: ``rank`` of ``size``."""

    rank: int
    size: int


def place() -> Place:
    """Where this process stands; rank 0 of 1 where torch.distributed is not at work."""
    if not (dist.is_available() and dist.is_initialized()):
        return Place(0, 1)
    return Place(dist.get_rank(), dist.get_world_size())


def share(rows: int | Tensor, device: torch.device) -> Tensor:
    """What a mean over this process's rows counts for, 1 where all have as many; one number is added up.

    Args:
        rows: how many of this process count; where a Tensor, 0-d and on the device.
        device: that the processes talk through.

    Returns:
        0-d, float64; 0 where no process has a row.
    """
    size = place().size
    if size == 1:
        return torch.ones((), dtype=torch.float64, device=device)
    mine = torch.as_tensor(rows, dtype=torch.float64, device=device)
    everyones = mine.clone()
    dist.all_reduce(everyones)
    return mine * size / everyones.clamp_min(1)


def weighted(mean: Tensor, share: Tensor) -> Tensor:
    """A mean over this process's rows, ready to be averaged over processes; where it has none, 0 and not NaN.

    The gradient of 0 times nothing is zeros, so a process without rows takes part in all that the others wait for.
    """
    return torch.where(share > 0, mean * share.to(mean.dtype), 0) if place().size > 1 else mean


def average(value: Tensor) -> Tensor:
    """The average over processes, the same bits in each."""
    size = place().size
    if size == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / size


def in_order(mine: Sequence[Tensor]) -> list[Tensor]:
    """What the processes have kept of each batch, batch by batch and in each in the order of its rows; on the CPU.

    Every process has seen as many batches; of one of fewer rows than processes some have seen none of it.
    """
    return list(chain.from_iterable(zip(*gathered([part.cpu() for part in mine]), strict=True)))


def gathered(mine: T) -> list[T]:
    """What each process has, in the order of ranks, for every one of them; on the CPU."""
    size = place().size
    if size == 1:
        return [mine]
    everyones: list[T] = [mine] * size
    dist.all_gather_object(everyones, mine)
    return everyones


def from_first(value: T) -> T:
    """What the process of rank 0 has."""
    if place().size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


class HostTalk:
    """Agreements of whole numbers that no device is waited for; made by every process at the same point.

    Attributes:
        alone: whether there is nobody to talk to.
        group: that talks; None where it is the default one, or there is none.
    """

    def __init__(self) -> None:
        self.group: dist.ProcessGroup | None = None
        self.alone = place().size == 1
        if not self.alone and dist.get_backend() != "gloo":
            self.group = dist.new_group(backend="gloo")

    def greatest(self, number: int) -> int:
        """The greatest that a process has said."""
        if self.alone:
            return number
        said = torch.tensor(number)
        dist.all_reduce(said, dist.ReduceOp.MAX, group=self.group)
        return int(said)

    def first(self, number: int) -> int:
        """What the process of rank 0 says."""
        if self.alone:
            return number
        said = torch.tensor(number)
        dist.broadcast(said, 0, group=self.group)
        return int(said)

    def everyones(self, *numbers: int) -> Tensor:
        """``(W, len(numbers))``, int64: what each of W processes says, in the order of ranks."""
        mine = torch.tensor(numbers)
        if self.alone:
            return mine[None]
        said = [torch.empty_like(mine) for _ in range(place().size)]
        dist.all_gather(said, mine, group=self.group)
        return torch.stack(said)

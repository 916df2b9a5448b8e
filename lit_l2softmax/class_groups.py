"""The processes that share the classes of one head, in a mesh of W = G x c: G replicas, each over c processes.

Rank g * c + s has shard s of replica g. The c ranks of a replica are a *class group*, whose shards make the classifier
and whose rows are put together; the G ranks with the same shard are a *data group*, whose gradients of it are averaged.

One process alone, without torch.distributed, is a case of this and talks to nobody.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from .ops import ClassShard, class_shard
from .processes import HostTalk, Place, place

# Bytes that go from process to process at once where shards become a whole.
CHUNK = 2**26


class Rows(NamedTuple):
    """How many rows each process of a class group has, and which of them are this one's when all lie side by side."""

    sizes: list[int]
    start: int
    end: int


class ClassGroups:
    """Where this process stands among those that share the classes; made by all of them at the same point.

    Args:
        num_classes: C.
        over: c, how many processes share them; all when None.

    Attributes:
        place: of this process among all.
        over: c.
        replicas: G.
        shard: this process's classes.
        classes: the class group; None where it is the default one, or there is none.
        talk: of all processes.

    Raises:
        ValueError: where the processes cannot be laid out so.
    """

    def __init__(self, num_classes: int, over: int | None = None) -> None:
        self.place: Place = place()
        rank, size = self.place
        self.over = size if over is None else over
        if self.over < 1 or size % self.over:
            raise ValueError(
                f"classes_over={self.over} does not divide the {size} processes: each replica of the classifier "
                "takes as many"
            )
        self.num_classes, self.replicas = num_classes, size // self.over
        self._first = rank - rank % self.over  # of the class group
        self.shard = class_shard(num_classes, rank % self.over, self.over)
        self.classes: dist.ProcessGroup | None = None
        self._data: dist.ProcessGroup | None = None
        if size > 1 and self.over < size:
            ranks = torch.arange(size).view(self.replicas, self.over)
            self.classes = _mine(ranks)
            self._data = _mine(ranks.T)
        self.talk = HostTalk()

    @property
    def alone(self) -> bool:
        """Whether this process has every class, and no other has rows for it."""
        return self.over == 1

    def rows(self, sizes: list[int]) -> Rows:
        """Those of the class group, of how many rows each of all processes has."""
        group = sizes[self._first : self._first + self.over]
        before = sum(group[: self.place.rank - self._first])
        return Rows(group, before, before + sizes[self.place.rank])

    def gathered(self, tensor: Tensor, sizes: list[int]) -> Tensor:
        """What the processes of the class group have, side by side: ``(sizes[s], *)`` each, ``(sum(sizes), *)`` all."""
        if self.alone:
            return tensor
        most = max(sizes)
        if not most:
            return tensor
        padded = tensor.contiguous()
        if len(tensor) < most:
            padded = tensor.new_zeros(most, *tensor.shape[1:])
            padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.over)]
        dist.all_gather(parts, padded, group=self.classes)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def added_up(self, tensor: Tensor) -> Tensor:
        """The sum over the class group, in place."""
        if not self.alone:
            dist.all_reduce(tensor, group=self.classes)
        return tensor

    def averaged(self, tensor: Tensor) -> Tensor:
        """The mean over the data group, in place."""
        if self.replicas > 1:
            dist.all_reduce(tensor, group=self._data)
            tensor /= self.replicas
        return tensor

    def of_first_replica(self, tensor: Tensor) -> Tensor:
        """What the first process of the data group has, in place."""
        if self.replicas > 1:
            dist.broadcast(tensor, self.place.rank - self._first, group=self._data)
        return tensor

    def whole(self, shard: Tensor) -> Tensor:
        """All classes' ``(C, *)``, on the CPU of the first process; the others get back what they give, ``(K, *)``."""
        if self.alone or self._first:
            return shard
        rank = self.place.rank
        rows = max(1, CHUNK // max(1, shard[:1].nbytes))
        if rank:
            for part in shard.split(rows) if len(shard) else ():
                dist.send(part.cpu().contiguous(), 0, group=self.talk.group)
            return shard
        everyones = torch.empty(self.num_classes, *shard.shape[1:], dtype=shard.dtype)
        everyones[: len(shard)] = shard
        for other, (start, size) in enumerate(self.shards()[1:], 1):
            for part in everyones[start : start + size].split(rows) if size else ():
                dist.recv(part, other, group=self.talk.group)
        return everyones

    def shards(self) -> list[ClassShard]:
        """Those of the class group, in the order of its processes."""
        return [class_shard(self.num_classes, other, self.over) for other in range(self.over)]

    def mine(self, whole: Tensor) -> Tensor:
        """This process's ``(K, *)`` of all classes' ``(C, *)``, a view."""
        start, size = self.shard
        return whole[start : start + size]


def _mine(ranks: Tensor) -> dist.ProcessGroup | None:
    """The group of those rows of ``ranks`` that this process is in."""
    mine: dist.ProcessGroup | None = None
    for members in ranks.tolist():
        group = dist.new_group(members)  # every process makes every group
        if dist.get_rank() in members:
            mine = group
    return mine

"""Whole batches drawn from tensors in memory, in an order that is a function of (seed, epoch) alone."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


def mix(*parts: Any) -> int:
    """A 63-bit seed that depends on every part and on their order, and is the same in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1


# Makes a batch of (all images, the positions of some, the epoch).
Inputs = Callable[[Tensor, Tensor, int], Tensor]


def as_they_are(images: Tensor, positions: Tensor, _epoch: int) -> Tensor:
    """The images ``(B, C, H, W)`` at ``positions`` ``(B,)``, in the bytes they are kept in."""
    return images[positions]


class TensorBatches(Dataset[tuple[Tensor, Tensor]]):
    """Images and labels indexed by an epoch and a whole batch of positions at once.

    Args:
        images: ``(N, C, H, W)``, uint8.
        labels: ``(N,)``, int64, on the images' device.
        inputs: makes the images of a batch.
    """

    def __init__(self, images: Tensor, labels: Tensor, inputs: Inputs = as_they_are) -> None:
        self.images, self.labels, self.inputs = images, labels, inputs

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, batch: tuple[int, Tensor]) -> tuple[Tensor, Tensor]:
        epoch, positions = batch
        return self.inputs(self.images, positions, epoch), self.labels[positions]


class EpochOrder(Sampler[tuple[int, Tensor]]):
    """Yields the epoch and the positions of one batch after another.

    Lightning announces each epoch through ``set_epoch``; the permutation of an epoch is drawn from (seed, epoch), so it
    does not depend on what was drawn before or on how often the process was restarted.

    Args:
        size: N.
        batch_size: rows in a batch.
        shuffle: whether the order is a permutation; rows come in their own order otherwise.
        drop_last: whether an incomplete last batch is left out.
        seed: of the permutations, which are drawn on the CPU and so are the same for every device.
        device: where the positions go, an epoch's at once.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        shuffle: bool,
        drop_last: bool,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.size, self.batch_size, self.shuffle, self.seed = size, batch_size, shuffle, seed
        self.device = device
        self.used = size - size % batch_size if drop_last else size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the permutation of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.used // self.batch_size)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(mix(self.seed, "permutation", self.epoch))
            order = torch.randperm(self.size, generator=generator)
        else:
            order = torch.arange(self.size)
        epoch = self.epoch
        for positions in order[: self.used].to(self.device).split(self.batch_size):
            yield epoch, positions


def batch_loader(
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    *,
    shuffle: bool = False,
    drop_last: bool = False,
    seed: int = 0,
    inputs: Inputs = as_they_are,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """A loader of whole batches in this process: indexing memory is faster than any worker's queue."""
    dataset = TensorBatches(images, labels, inputs)
    order = EpochOrder(len(dataset), batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed, device=images.device)
    return DataLoader(dataset, sampler=order, batch_size=None)

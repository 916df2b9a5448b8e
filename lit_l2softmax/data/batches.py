"""Whole batches drawn from tensors in memory, in an order that is a function of (seed, epoch) alone."""

from collections.abc import Callable, Iterator
from typing import Literal, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lit_l2softmax.processes import place
from lit_l2softmax.seeds import mix

Batches = DataLoader[tuple[Tensor, Tensor]]

# What becomes of the rows that do not fill an epoch's last batch: a smaller batch, nothing, or, with the first rows of
# the next epoch, a whole one, as in tf.examples' next_batch.
Incomplete = Literal["keep", "drop", "complete"]

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


class EpochOrder(DistributedSampler[tuple[int, Tensor]]):
    """Yields the epoch and the positions of one batch after another.

    Where several processes train together, a batch is the same whatever their number, and each is given its own part of
    every one: parts of equal size but for one row, in the order of ranks, empty ones of a batch of fewer rows. Being a
    DistributedSampler is what Lightning takes for its word that it splits by itself.

    Lightning announces each epoch through ``set_epoch``; the permutation of an epoch is drawn from (seed, epoch), so it
    does not depend on what was drawn before or on how often the process was restarted.

    Args:
        size: N.
        batch_size: rows in a batch, of all processes together.
        shuffle: whether the order is a permutation; rows come in their own order otherwise.
        incomplete: what becomes of an incomplete last batch; where it is completed, the next epoch begins behind the
            rows that completed it, so that epochs are pieces of one endless stream.
        seed: of the permutations, which are drawn on the CPU and so are the same for every device.
        device: where the positions go, an epoch's at once.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        shuffle: bool,
        incomplete: Incomplete,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        rank, processes = place()
        super().__init__(range(size), processes, rank, shuffle, seed)  # type: ignore[arg-type]  # the positions of rows
        self.size, self.batch_size = size, batch_size
        self.incomplete, self.device = incomplete, device
        self._behind = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the permutation of the next pass."""
        self.epoch = epoch

    def begin_behind(self, batches: int) -> None:
        """Leaves out the first batches of the next pass, and of that alone."""
        self._behind = batches

    @property
    def _range(self) -> tuple[int, int]:
        """The rows of this epoch's order that its batches are made of; behind its end lies the next epoch's."""
        if self.incomplete == "keep":
            return 0, self.size
        if self.incomplete == "drop":
            return 0, self.size - self.size % self.batch_size
        first = -self.epoch * self.size % self.batch_size
        return first, first - (first - self.size) // self.batch_size * self.batch_size

    def __len__(self) -> int:
        first, end = self._range
        return -((first - end) // self.batch_size)

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.size)
        generator = torch.Generator().manual_seed(mix(self.seed, "permutation", epoch))
        return torch.randperm(self.size, generator=generator)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        epoch = self.epoch
        first, end = self._range
        order = self._order(epoch)
        if end > self.size:
            order = torch.cat([order, self._order(epoch + 1)])
        behind, self._behind = self._behind, 0
        for positions in order[first:end][behind * self.batch_size :].to(self.device).split(self.batch_size):
            yield epoch, positions.tensor_split(self.num_replicas)[self.rank]


class ResumableBatches(DataLoader[tuple[Tensor, Tensor]]):
    """A loader of an ``EpochOrder`` that goes on in the middle of an epoch, exactly where a checkpoint was saved.

    Lightning keeps in its checkpoints what a loader says of itself, and gives it back. The batches come from memory and
    are made in this process: as many have been trained on as were asked for.
    """

    _done = 0  # batches of this epoch
    _resumed = 0, 0  # an epoch, and how many of its batches there have been

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[override]  # DataLoader promises its own class
        order = cast(EpochOrder, self.sampler)
        (epoch, done), self._resumed = self._resumed, (0, 0)
        self._done = done if epoch == order.epoch else 0
        order.begin_behind(self._done)
        for batch in super().__iter__():
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches there have been."""
        return {"epoch": cast(EpochOrder, self.sampler).epoch, "batches": self._done}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begins the next pass behind those batches, if it is of that epoch."""
        self._resumed = state_dict["epoch"], state_dict["batches"]


def batch_loader(
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    *,
    shuffle: bool = False,
    incomplete: Incomplete = "keep",
    seed: int = 0,
    inputs: Inputs = as_they_are,
) -> Batches:
    """A loader of whole batches in this process: indexing memory is faster than any worker's queue."""
    dataset = TensorBatches(images, labels, inputs)
    order = EpochOrder(
        len(dataset), batch_size, shuffle=shuffle, incomplete=incomplete, seed=seed, device=images.device
    )
    return ResumableBatches(dataset, sampler=order, batch_size=None)

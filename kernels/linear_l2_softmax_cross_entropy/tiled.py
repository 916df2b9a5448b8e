"""Many classes: the driver that walks the ``(N, C)`` logits tile by tile, none of which outlives its turn.

A tile is a range of rows times a range of classes. Classes are the outer loop, so that a class's gradient is summed
over all rows and written once: no accumulator of W's size, no lock, no atomic. Only the gradient of the features,
``(N, D)``, is accumulated across class ranges. One row range makes this the class-major schedule of face recognition (W
is read once a pass), one class range the row-major schedule of small vocabularies; ``paths.py`` picks the tile.

The backward pass computes the logits again instead of keeping gradients from the forward pass: 8 N D C operations
instead of 6, for which any upstream gradient, any frozen side and any number of backward passes are right by
construction.

What is done with a tile is the epilogue's: ``tiled_torch`` has one of PyTorch calls in place, ``tiled_kernels`` one
of kernels. Both keep to the order in which this driver calls them.

Legend: N rows, D features, C classes.
"""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from .paths import Tile
from .problem import Gradients, Kept


class ForwardEpilogue(Protocol):
    """Folds tiles of logits into a log-sum-exp of each row."""

    def class_range(self, classes: slice) -> None:
        """Prepares a range of classes; the tiles that follow are of it."""

    def fold(self, rows: slice) -> None:
        """Computes the logits of a range of rows and the current classes, and folds them in."""

    def finish_rows(self) -> Kept:
        """What is known of each row, before there is a loss: of a shard of all classes."""

    def finish(self) -> tuple[Tensor, Kept]:
        """The loss, and what the backward pass needs."""


class BackwardEpilogue(Protocol):
    """Turns tiles of logits into their gradients and multiplies these with features and classes."""

    def class_range(self, classes: slice) -> None:
        """Prepares a range of classes; the tiles that follow are of it."""

    def accumulate(self, rows: slice) -> None:
        """Computes the logits' gradient in a tile and adds its products to both sides' gradients."""

    def finish_class_range(self) -> None:
        """Writes the gradients of the current classes, complete now that all rows have been seen."""

    def finish(self) -> Gradients:
        """The gradients that are wanted."""


def _ranges(total: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, total)) for start in range(0, total, step))


def forward(epilogue: ForwardEpilogue, N: int, C: int, tile: Tile) -> tuple[Tensor, Kept]:
    """Walks all tiles once."""
    _walk(epilogue, N, C, tile)
    return epilogue.finish()


def forward_rows(epilogue: ForwardEpilogue, N: int, C: int, tile: Tile) -> Kept:
    """Walks all tiles of a shard once, and leaves the loss to those who know all shards."""
    _walk(epilogue, N, C, tile)
    return epilogue.finish_rows()


def _walk(epilogue: ForwardEpilogue, N: int, C: int, tile: Tile) -> None:
    for classes in _ranges(C, tile.classes):
        epilogue.class_range(classes)
        for rows in _ranges(N, tile.rows):
            epilogue.fold(rows)


def backward(epilogue: BackwardEpilogue, N: int, C: int, tile: Tile) -> Gradients:
    """Walks all tiles once more."""
    for classes in _ranges(C, tile.classes):
        epilogue.class_range(classes)
        for rows in _ranges(N, tile.rows):
            epilogue.accumulate(rows)
        epilogue.finish_class_range()
    return epilogue.finish()

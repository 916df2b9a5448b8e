"""How many rows and classes of the linear operator are in flight at a time; without torch, for who only counts.

Why these are the sizes says ``linear_l2_softmax_cross_entropy/paths.py``, which decides what is cut into tiles at all.

Legend: N rows, D features, C classes.
"""

from typing import NamedTuple


class Tile(NamedTuple):
    """How many rows and classes are in flight at a time."""

    rows: int
    classes: int


def torch_tile(N: int, D: int, C: int) -> Tile:
    """The tile of PyTorch's schedule: 4 MiB of float32, and as much for its classes or, with many features, 16."""
    rows = min(N, 1024)
    return Tile(rows, min(C, max(1, 2**20 // max(rows, D), min(256, 2**22 // D))))


def triton_tile(N: int, D: int, C: int) -> Tile:
    """The kernels' tile: at most 24 MiB of float32 logits, and 56 MiB with their gradient and their classes'.

    A number of classes that is a multiple of 128 keeps rows of a tile aligned and products on tensor cores.
    """
    rows = min(N, 4096)
    # A logit and its gradient take 4 bytes each; a class's gradient, its product and its copy 4 bytes a feature.
    # (One row alone may be wider than all that, and is then a tile of its own.)
    classes = min(24 * 2**20 // (4 * rows), 56 * 2**20 // (8 * rows + 12 * D))
    return Tile(rows, min(C, max(1, classes if classes < 128 else classes // 128 * 128)))


def tile_width(classes: int) -> int:
    """Of a kernels' tile in memory: what keeps its rows aligned, so that wide loads and tensor cores can have them.

    What stands beyond the classes was never written, is loaded and stored with the rest, and goes into no result.
    """
    return -(-classes // 16) * 16

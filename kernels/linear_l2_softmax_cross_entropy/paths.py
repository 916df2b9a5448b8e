"""Which path a problem takes, and in tiles of which size: the one rule, with the measurements behind it.

PyTorch's schedule, time over that of eager PyTorch, both directions, 2 threads on an AMD EPYC, torch 2.13; weights
normalised but for the first two lines. One run; `make bench` repeats some lines, and docs/tuning.md has what was tried:

    N, D, C              small   tiled
    20, 1024, 10          0.98    4.6     calls decide
    128, 1024, 10         0.63    2.4     and what touches N x D
    4096, 128, 100        0.69    1.7
    128, 512, 1000        0.68    1.00
    1024, 128, 1000       0.93    1.08
    256, 128, 10 000      0.85    1.08    2.4 M scores
    1024, 512, 4000       0.98    1.25    3.9 M: five tensors like them are more memory than is promised
    256, 64, 100 000      0.91    0.48    a tile of 2**20 numbers stays in the cache
    512, 128, 200 000     1.07    0.35

The kernels' numbers are derived, and not measured yet: the small path holds a block of rows times all classes in
registers; a tile stays in a 50 MB second-level cache, and all scratch memory of a class range under 64 MiB.

Legend: N rows, D features, C classes.
"""

from typing import NamedTuple

import torch


class Tile(NamedTuple):
    """How many rows and classes are in flight at a time."""

    rows: int
    classes: int


def torch_takes_all_at_once(N: int, D: int, C: int) -> bool:
    """Whether PyTorch's schedule keeps ``(N, C)`` scores whole: they are fewer than the features, or 12 MiB at most.

    A graph compiled for any N is not told which N it is.
    """
    return min(D, 256) >= C or (not torch.compiler.is_compiling() and N * C <= 3 * 2**20)


def torch_tile(N: int, D: int, C: int) -> Tile:
    """The tile of PyTorch's schedule: 4 MiB of float32, and as much for its classes or, with many features, 16."""
    rows = min(N, 1024)
    return Tile(rows, min(C, max(1, 2**20 // max(rows, D), min(256, 2**22 // D))))


def triton_takes_all_classes(N: int, D: int, C: int) -> bool:
    """Whether one block of classes holds them all, and the gradient of all logits is little beside the features."""
    return C <= 128 and 8 * N * C <= 32 * 2**20 + 32 * N * D


def triton_tile(N: int, D: int, C: int) -> Tile:
    """The kernels' tile: at most 24 MiB of float32 logits, and 56 MiB with their gradient and their classes'.

    A number of classes that is a multiple of 128 keeps rows of a tile aligned and products on tensor cores.
    """
    rows = min(N, 4096)
    # A logit and its gradient take 4 bytes each; a class's gradient, its product and its copy 4 bytes a feature.
    # (One row alone may be wider than all that, and is then a tile of its own.)
    classes = min(24 * 2**20 // (4 * rows), 56 * 2**20 // (8 * rows + 12 * D))
    return Tile(rows, min(C, max(1, classes if classes < 128 else classes // 128 * 128)))

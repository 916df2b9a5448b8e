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

import torch

from .._tiles import Tile, torch_tile, triton_tile

__all__ = ["Tile", "torch_takes_all_at_once", "torch_tile", "triton_takes_all_classes", "triton_tile"]


def torch_takes_all_at_once(N: int, D: int, C: int) -> bool:
    """Whether PyTorch's schedule keeps ``(N, C)`` scores whole: they are fewer than the features, or 12 MiB at most.

    A graph compiled for any N is not told which N it is.
    """
    return min(D, 256) >= C or (not torch.compiler.is_compiling() and N * C <= 3 * 2**20)


def triton_takes_all_classes(N: int, D: int, C: int) -> bool:
    """Whether one block of classes holds them all, and the gradient of all logits is little beside the features."""
    return C <= 128 and 8 * N * C <= 32 * 2**20 + 32 * N * D

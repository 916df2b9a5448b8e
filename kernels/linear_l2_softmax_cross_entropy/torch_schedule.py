"""The linear operator in tiles of PyTorch calls."""

from torch import Tensor

from . import tiled, tiled_torch
from .paths import torch_tile
from .problem import Gradients, Kept, Problem, Wanted


def forward(problem: Problem) -> tuple[Tensor, Kept]:
    """The loss, and what the backward pass needs."""
    N, D, C = problem.sizes
    tile = torch_tile(N, D, C)
    return tiled.forward(tiled_torch.Forward(problem, tile), N, C, tile)


def forward_rows(problem: Problem) -> Kept:
    """What a shard of all classes knows of each row."""
    N, D, C = problem.sizes
    tile = torch_tile(N, D, C)
    return tiled.forward_rows(tiled_torch.Forward(problem, tile), N, C, tile)


def backward(grad: Tensor, problem: Problem, kept: Kept, wanted: Wanted) -> Gradients:
    """The gradients that are wanted."""
    N, D, C = problem.sizes
    tile = torch_tile(N, D, C)
    return tiled.backward(tiled_torch.Backward(grad, problem, kept, wanted, tile), N, C, tile)

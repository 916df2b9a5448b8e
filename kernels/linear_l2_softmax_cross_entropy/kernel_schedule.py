"""The linear operator in kernels: its two paths behind one door."""

from dataclasses import replace

from torch import Tensor

from .._softmax_kernels import contiguous
from . import small_kernels, tiled, tiled_kernels
from .paths import triton_takes_all_classes, triton_tile
from .problem import Gradients, Kept, Problem, Wanted


def _readable(problem: Problem) -> Problem:
    return replace(problem, linear_bias=contiguous(problem.linear_bias), weight=contiguous(problem.weight))


def forward(problem: Problem) -> tuple[Tensor, Kept]:
    """The loss, and what the backward pass needs."""
    N, D, C = problem.sizes
    problem = _readable(problem)
    if triton_takes_all_classes(N, D, C):
        return small_kernels.forward(problem)
    tile = triton_tile(N, D, C)
    return tiled.forward(tiled_kernels.Forward(problem, tile), N, C, tile)


def forward_rows(problem: Problem) -> Kept:
    """What a shard of all classes knows of each row."""
    N, D, C = problem.sizes
    problem = _readable(problem)
    tile = triton_tile(N, D, C)
    return tiled.forward_rows(tiled_kernels.Forward(problem, tile), N, C, tile)


def backward(grad: Tensor, problem: Problem, kept: Kept, wanted: Wanted) -> Gradients:
    """The gradients that are wanted."""
    N, D, C = problem.sizes
    problem = _readable(problem)
    if triton_takes_all_classes(N, D, C) and not problem.sharded:
        return small_kernels.backward(grad, problem, kept, wanted)
    tile = triton_tile(N, D, C)
    return tiled.backward(tiled_kernels.Backward(grad, problem, kept, wanted, tile), N, C, tile)

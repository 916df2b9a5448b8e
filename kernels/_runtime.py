"""What every operator needs to know at run time: which implementation runs, and in which precision it accumulates."""

from typing import Literal, get_args

import torch
from torch import Tensor

Impl = Literal["auto", "triton", "torch", "reference"]


def resolve_impl(impl: Impl, input: Tensor, *, operator: str) -> Impl:
    """The implementation that an operator runs for ``input``; an explicit request never falls back.

    Raises:
        ValueError: on an unknown name, or ``"triton"`` for a tensor that is not on a CUDA device.
        NotImplementedError: on a name that this operator does not have yet.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"{operator}: impl must be one of {', '.join(map(repr, get_args(Impl)))}, got {impl!r}")
    if impl == "triton" and input.device.type != "cuda":
        raise ValueError(f"{operator}: impl='triton' needs a CUDA tensor, got one on {input.device}")
    if impl in ("triton", "torch"):
        raise NotImplementedError(f"{operator}: impl={impl!r} does not exist yet; use 'auto' or 'reference'")
    return "reference"


def accumulate_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 as soon as one of the tensors is float64, float32 for every other mix of float dtypes."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def check_floating(name: str, tensor: Tensor) -> None:
    """Raises TypeError unless ``tensor`` holds real floating-point numbers."""
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must hold floating-point numbers, got {tensor.dtype}")

"""What every operator needs to know at run time: which implementation runs, and in which precision it accumulates."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Impl = Literal["auto", "triton", "torch", "reference"]


def check_impl(impl: Impl, input: Tensor, *, operator: str) -> None:
    """Refuses an implementation that cannot run for ``input``: an explicit request never falls back.

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


def accumulate_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 as soon as one of the tensors is float64, float32 for every other mix of float dtypes."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def check_floating(name: str, tensor: Tensor) -> None:
    """Raises TypeError unless ``tensor`` holds floating-point numbers of 16, 32 or 64 bits."""
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"{name} must hold floating-point numbers of 16, 32 or 64 bits, got {tensor.dtype}")


def no_autocast(input: Tensor) -> AbstractContextManager[Any]:
    """A context in which autocast, which would run a product in half precision, is off on ``input``'s device."""
    # Tensors without storage have no autocast to switch off. Asking torch whether there is one breaks the graph of
    # torch.compile in 2.11.
    return nullcontext() if input.is_meta else torch.autocast(input.device.type, enabled=False)

"""What every operator needs to know at run time: which implementation runs, and in which precision it accumulates."""

import importlib
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Impl = Literal["auto", "triton", "torch", "reference"]


def check_impl(impl: Impl, *inputs: Tensor, operator: str) -> None:
    """Refuses an implementation that cannot run for ``inputs``: an explicit request never falls back.

    Raises:
        ValueError: on an unknown name; or on ``"triton"`` for a tensor that is not on a CUDA device (Triton's
            interpreter, ``TRITON_INTERPRET=1``, takes CPU tensors) or that holds float64.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"{operator}: impl must be one of {', '.join(map(repr, get_args(Impl)))}, got {impl!r}")
    if impl != "triton":
        return
    device = inputs[0].device
    if device.type != "cuda" and not (device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
        raise ValueError(f"{operator}: impl='triton' needs a CUDA tensor, got one on {device}")
    if accumulate_dtype(*inputs) == torch.float64:
        raise ValueError(f"{operator}: impl='triton' computes in float32 and refuses float64; impl='torch' takes it")


def fastest_impl(*inputs: Tensor) -> Impl:
    """What ``"auto"`` stands for: the kernels on CUDA, where they have the precision; PyTorch's own elsewhere."""
    return "triton" if inputs[0].is_cuda and accumulate_dtype(*inputs) == torch.float32 else "torch"


def accumulate_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 as soon as one of the tensors is float64, float32 for every other mix of float dtypes."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def check_floating(name: str, tensor: Tensor) -> None:
    """Raises TypeError unless ``tensor`` holds floating-point numbers of 16, 32 or 64 bits."""
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"{name} must hold floating-point numbers of 16, 32 or 64 bits, got {tensor.dtype}")


def check_devices(input: Tensor, others: Mapping[str, object], *, operator: str) -> None:
    """Raises ValueError unless every tensor is where ``input`` is: bringing one there would wait for it."""
    for name, tensor in others.items():
        if isinstance(tensor, Tensor) and tensor.device != input.device:
            raise ValueError(f"{operator}: input is on {input.device}, but {name} is on {tensor.device}")


def import_triton(operator: str, module: str) -> ModuleType:
    """A module of kernels. Only now is Triton imported: a machine that runs no kernel need not have it.

    Raises:
        ImportError: naming Triton, where there is none.
    """
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{operator}: impl='triton', which 'auto' takes for CUDA tensors, needs the package triton ({error}); "
            "install it, or pass impl='torch'"
        ) from error
    return importlib.import_module(module)


def no_autocast(input: Tensor) -> AbstractContextManager[Any]:
    """A context in which autocast, which would run a product in half precision, is off on ``input``'s device.

    Nothing where it is off already: torch's own context costs as much as a call.
    """
    # Tensors without storage have no autocast to ask about.
    on = not input.is_meta and torch.is_autocast_enabled(input.device.type)
    return torch.autocast(input.device.type, enabled=False) if on else nullcontext()

"""Weights in a file that everybody reads and nobody executes, safetensors, whose every byte is known."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import RunError

SUFFIX = ".safetensors"
_CHECKSUM = "sha256"


def write(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes weights by name, with words about them, whole or not at all.

    Raises:
        RunError: where the file cannot be written.
    """
    # Row by row, each in memory of its own: channels-last and shared weights have no place in such a file.
    plain = {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format) for name, weight in weights.items()
    }
    beside = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, beside, {**metadata, _CHECKSUM: _checksum(plain, metadata)})
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RunError(f"{path} could not be written: {reason}") from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights of a file that ``write`` has written, on the CPU, and the words about them.

    Raises:
        RunError: where it cannot be read, is another's, or holds another byte than was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise RunError(f"{path} is damaged or not a file of safetensors: {' '.join(str(error).split())}") from error
    if (checksum := metadata.pop(_CHECKSUM, None)) is None:
        raise RunError(f"{path} was not written by `lit_l2softmax export`: it carries no checksum")
    if _checksum(weights, metadata) != checksum:
        raise RunError(f"{path} is damaged: the checksum of what it holds is another")
    return weights, metadata


def _checksum(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of all words, and of all names, types, shapes and bytes."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(weights):
        weight = weights[name]
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

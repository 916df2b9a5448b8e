"""What this machine could do at best, measured in the same run: how fast it copies, and how fast it multiplies."""

import statistics
from dataclasses import dataclass
from functools import cache

import torch
from harness import timed
from memory import DEVICE

COPY_BYTES = 2**30 if DEVICE == "cuda" else 2**28  # more than any cache holds
SIDE = 8192 if DEVICE == "cuda" else 2048
ROUNDS = 7


@dataclass(frozen=True)
class Limits:
    """The two rates that bound every computation.

    Attributes:
        copy_gb_s: 10^9 bytes a second read and written by a copy of a large tensor.
        matmul_gop_s: 10^9 additions and multiplications a second of a product of large square matrices.
    """

    copy_gb_s: float
    matmul_gop_s: float


def _seconds(call) -> float:
    provider = timed(call)
    provider(2)
    return statistics.median(provider(1) for _ in range(ROUNDS))


@cache
def limits(dtype: torch.dtype) -> Limits:
    """This machine's limits for tensors of ``dtype``, measured once a process."""
    source = torch.ones(COPY_BYTES // 4, device=DEVICE)
    target = torch.empty_like(source)
    copy = _seconds(lambda: target.copy_(source))
    left, right = (torch.randn(SIDE, SIDE, device=DEVICE).to(dtype) for _ in range(2))
    product = _seconds(lambda: left @ right)
    return Limits(2 * COPY_BYTES / 1e9 / copy, 2 * SIDE**3 / 1e9 / product)

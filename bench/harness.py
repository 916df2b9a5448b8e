"""Times several providers of one computation in turn, so that whatever slows the machine down slows all of them.

A provider is a function that makes the asked number of calls and returns the seconds they took. It reads the clock
itself, because only it knows what does not belong to its calls: the start of a trainer, a device's queue.

One round times every provider once, A B C, A B C, ... A provider's ratio to the baseline is formed within each round;
medians and quartiles are taken afterwards.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Provider = Callable[[int], float]

ROUNDS = 9
FEW_ROUNDS = 5  # where one call takes seconds
FEWEST_ROUNDS = 3  # where one call takes many
# A provider's share of a round. On a CPU, a thousand times what a scheduler takes away at once; a device has none.
ROUND_S = 0.1 if torch.cuda.is_available() else 0.5


@dataclass(frozen=True)
class Quartiles:
    """The median of a sample and the middle half around it."""

    q1: float
    median: float
    q3: float

    @classmethod
    def of(cls, sample: list[float]) -> "Quartiles":
        """The quartiles of two values or more."""
        return cls(*statistics.quantiles(sample, n=4, method="inclusive"))


@dataclass(frozen=True)
class Timing:
    """What one provider took.

    Attributes:
        time_s: seconds a call.
        speedup: the baseline's time divided by the provider's, round by round.
        calls: in each round.
    """

    time_s: Quartiles
    speedup: Quartiles
    calls: int


def timed(call: Callable[[], Any]) -> Provider:
    """A provider that makes ``call``, by the clock of the CUDA device where there is one."""

    def on_host(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - start

    def on_device(calls: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    return on_device if torch.cuda.is_available() else on_host


def time_in_turn(providers: Mapping[str, Provider], baseline: str, calls_multiple: int = 1) -> dict[str, Timing]:
    """The timing of each provider, from ``ROUNDS`` rounds, or fewer where a call takes seconds.

    Args:
        providers: by name.
        baseline: the name of the one that the others are compared with.
        calls_multiple: the number of calls in a round is a multiple of it; for what recurs every so many calls.
    """
    for provider in providers.values():
        provider(calls_multiple)  # warm-up: caches, lazy imports, compilation
    seconds = {name: provider(calls_multiple) for name, provider in providers.items()}
    calls = {name: calls_multiple * math.ceil(ROUND_S / taken) for name, taken in seconds.items()}
    slowest = max(seconds.values())
    count = ROUNDS if slowest < 2 else FEW_ROUNDS if slowest < 8 else FEWEST_ROUNDS
    rounds = [{name: provider(calls[name]) / calls[name] for name, provider in providers.items()} for _ in range(count)]
    return {
        name: Timing(
            time_s=Quartiles.of([r[name] for r in rounds]),
            speedup=Quartiles.of([r[baseline] / r[name] for r in rounds]),
            calls=calls[name],
        )
        for name in providers
    }

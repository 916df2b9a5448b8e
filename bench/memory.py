"""How much memory a computation takes beyond what was there before it."""

from collections.abc import Callable

import torch
from torch.autograd.profiler import profile

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def peak_extra_bytes(call: Callable[[], object]) -> int:
    """The most that ``call`` has allocated at any moment, in bytes, results included; by torch's own account.

    On a CUDA device it counts that device's memory, on a CPU the tensors' there. What the call frees of memory that was
    allocated before it counts as negative, so let it free nothing.
    """
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(profile_memory=True) as profiled:
        call()
    held = peak = 0
    for event in profiled.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak

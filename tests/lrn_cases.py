"""Cases of local response normalisation: their tensors, their exact results, the check of every implementation."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from bounds import local_response_norm_bounds

from lit_l2softmax.kernels.local_response_norm import torch_schedule
from lit_l2softmax.ops import local_response_norm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KERNELS = ["kernels", "kernels, channels not shared out", "kernels, a window for each number"]
FUSED = ["torch", "torch, short tiles", *KERNELS]
EVERY = ["reference", *FUSED]


def force(monkeypatch, schedule):
    """Makes every problem take one schedule; returns the ``impl`` to ask for."""
    if schedule == "torch, short tiles":  # of a part of a sample each
        monkeypatch.setattr(torch_schedule, "TILE", 20)
        monkeypatch.setattr(torch_schedule, "LEAST", 1)
        monkeypatch.setattr(torch_schedule, "DEVICE_TILE", 20)
    if not schedule.startswith("kernels"):
        return schedule.split(",")[0]
    from lit_l2softmax.kernels.local_response_norm import kernels

    if schedule == "kernels, channels not shared out":
        monkeypatch.setattr(kernels, "PROGRAMS", 1)
    if schedule == "kernels, a window for each number":
        monkeypatch.setattr(kernels, "_walks", lambda problem, layout: False)
    return "triton"


@dataclass(frozen=True)
class Case:
    """One call of the operator."""

    shape: tuple[int, ...]
    size: int
    alpha: float = 2.0
    beta: float = 0.75
    k: float = 1.5
    window: str = "torch"
    dtype: torch.dtype = torch.float32
    seed: int = 0

    def tensors(self):
        """Signed activations of size three, and a gradient of the result."""
        generator = torch.Generator().manual_seed(self.seed)
        x, g = (torch.randn(self.shape, generator=generator, dtype=torch.float64) for _ in range(2))
        return x.mul(3).to(self.dtype).to(DEVICE), g.to(self.dtype).to(DEVICE)

    def norm(self, x, impl):
        return local_response_norm(x, self.size, self.alpha, self.beta, self.k, window=self.window, impl=impl)

    def solve(self, impl, x, g):
        """The result and its gradient."""
        x = x.detach().requires_grad_()
        y = self.norm(x, impl)
        return y.detach(), torch.autograd.grad(y, x, g)[0]


def window_sums(terms, behind, ahead):
    """Sums over the channels from ``behind`` before a channel to ``ahead`` after it."""
    C = terms.shape[1]
    padded = F.pad(terms.movedim(1, -1), (behind, ahead)).movedim(-1, 1)
    return sum(padded.narrow(1, first, C) for first in range(behind + 1 + ahead))


def exact_parts(case, x, g):
    """What the module docstring of the operator defines, in float64, from its equations."""
    x, g = x.double(), g.double()
    behind, ahead = case.size // 2, (case.size - 1) // 2
    if case.window == "onnx":
        behind, ahead = ahead, behind

    def mirrored_sums(terms):
        return window_sums(terms, ahead, behind)

    s = case.k + case.alpha / case.size * window_sums(x**2, behind, ahead)
    direct, t = g * s**-case.beta, g * x * s ** (-case.beta - 1)
    twice = 2 * case.alpha * case.beta / case.size
    return {
        "size": min(case.size, x.shape[1]),
        "beta": case.beta,
        "twice": twice,
        "x": x,
        "s": s,
        "t": t,
        "direct": direct,
        "mirrored_sums": mirrored_sums,
        "output": x * s**-case.beta,
        "gradient": direct - twice * x * mirrored_sums(t),
    }


def check(case, impl, x=None, g=None):
    """Both directions are within their rounding errors of the exact result, everywhere."""
    if x is None:
        x, g = case.tensors()
    exact = exact_parts(case, x, g)
    computed = torch.float64 if x.dtype == torch.float64 else torch.float32
    allowed = local_response_norm_bounds(exact, computed, x.dtype)
    for name, actual in zip(("output", "gradient"), case.solve(impl, x, g), strict=True):
        assert actual.dtype == x.dtype
        assert actual.shape == x.shape
        # A float64 oracle has rounding errors of its own, as large.
        bound = allowed[name] * (2 if computed == torch.float64 else 1)
        excess = ((actual.double() - exact[name]).abs() - bound).max()
        assert excess <= 0, f"{name} of {case} is off by {excess:.3g} more than rounding explains"

"""The L2-constrained softmax loss as others offer it, and ours: functions of features and class weights.

Each is made for a :class:`Problem`. What cannot be had here raises :class:`UnavailableError`, which says why.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import torch
import torch._functorch.config
import torch.nn.functional as F
from memory import DEVICE
from records import OURS
from torch import Tensor

from lit_l2softmax.ops import linear_l2_softmax_cross_entropy

Loss = Callable[[Tensor, Tensor], Tensor]

EAGER = "eager PyTorch"
COMPILED = f"{EAGER}, compiled"


class UnavailableError(Exception):
    """Why a peer cannot be had."""


@dataclass(frozen=True)
class Problem:
    """What a loss is made for: targets ``(N,)``, D features, C classes, class weights normalised or not."""

    target: Tensor
    D: int
    C: int
    alpha: float
    normalize_weight: bool

    def features(self, x: Tensor) -> Tensor:
        """Features on the sphere, as people write it."""
        return self.alpha * F.normalize(x)

    def classes(self, w: Tensor) -> Tensor:
        """Class weights, normalised if they are to be."""
        return F.normalize(w) if self.normalize_weight else w


def eager(problem: Problem) -> Loss:
    """The loss as people write it."""
    return lambda x, w: F.cross_entropy(F.linear(problem.features(x), problem.classes(w)), problem.target)


def compiled(function: Callable[..., Tensor], repeats_backward: bool = False) -> Callable[..., Tensor]:
    """A function through torch.compile, which wants a compiler; those compiled before are forgotten.

    Its backward pass may overwrite what the forward pass left, and refuses to be repeated, unless it is told so.
    """
    if DEVICE == "cpu" and not shutil.which("g++"):
        raise UnavailableError("torch.compile needs a C++ compiler")
    torch.compiler.reset()
    made = torch.compile(function, dynamic=False)

    def call(*inputs: Tensor) -> Tensor:
        with torch._functorch.config.patch(donated_buffer=False):
            return made(*inputs)

    return call if repeats_backward else made


def ours(problem: Problem) -> Loss:
    """The operator, as ``impl="auto"`` picks it."""
    return lambda x, w: linear_l2_softmax_cross_entropy(
        x, w, problem.target, alpha=problem.alpha, normalize_weight=problem.normalize_weight
    )


def torchs(problem: Problem, rows: int | None = None) -> Loss:
    """PyTorch's loss in chunks of its own choice, or of so many rows, behind normalisations it does not offer."""
    if not hasattr(F, "linear_cross_entropy"):
        raise UnavailableError("torch has it since 2.13")
    chunks = {} if rows is None else {"batch_chunk_size": rows, "chunking_method": None}
    options = torch.nn.LinearCrossEntropyOptions(**chunks)
    return lambda x, w: F.linear_cross_entropy(problem.features(x), problem.classes(w), problem.target, options=options)


def liger(problem: Problem, chunk_mem_const: int = 1) -> Loss:
    """Liger-Kernel's loss, with its default budget for chunks or a multiple, behind the same normalisations."""
    if find_spec("liger_kernel") is None:
        raise UnavailableError("liger-kernel is not installed")
    from liger_kernel.ops import LigerFusedLinearCrossEntropyFunction

    def loss(x: Tensor, w: Tensor) -> Tensor:
        # Its arguments by position: no bias nor class weights, F.cross_entropy's defaults, nothing returned beside.
        numbers = (None, None, -100, 0.0, 0.0, "mean", None, False, None, False, False, False, None, None)
        arguments = (problem.features(x), problem.classes(w), problem.target, *numbers, chunk_mem_const)
        value: Tensor = LigerFusedLinearCrossEntropyFunction.apply(*arguments)[0]
        return value

    return loss


def pytorch_metric_learning(problem: Problem) -> Loss:
    """pytorch-metric-learning's loss of normalised features and weights.

    Its own weights are ``(D, C)``; it is given ours transposed, along which it normalises them no slower.
    """
    if not problem.normalize_weight:
        raise UnavailableError("it normalises the class weights always")
    if find_spec("pytorch_metric_learning") is None:
        raise UnavailableError("pytorch-metric-learning is not installed")
    from pytorch_metric_learning.losses import NormalizedSoftmaxLoss

    with torch.device(DEVICE):
        loss = NormalizedSoftmaxLoss(problem.C, problem.D, temperature=1 / problem.alpha)
    return lambda x, w: torch.func.functional_call(loss, {"W": w.t()}, (x, problem.target))


PEERS: Mapping[str, Callable[[Problem], Loss]] = {
    EAGER: eager,
    OURS: ours,
    COMPILED: lambda problem: compiled(eager(problem)),
    "torch's chunked loss": torchs,
    "Liger-Kernel": liger,
    "pytorch-metric-learning": pytorch_metric_learning,
}


def fastest(losses: Mapping[str, Loss], inputs: list[Tensor]) -> tuple[str, Loss]:
    """Which of several is the fastest, both directions, by one call after a first."""

    def seconds(loss: Loss) -> float:
        start = time.perf_counter()
        torch.autograd.grad(loss(*inputs), inputs)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for loss in losses.values():
        seconds(loss)
    name = min(losses, key=lambda name: seconds(losses[name]))
    return name, losses[name]


def best_chunks(problem: Problem, inputs: list[Tensor]) -> dict[str, Loss]:
    """The peers that work in chunks of rows, each with the best of several chunks; its name says which."""
    N = len(problem.target)
    rows = [max(1, N // parts) for parts in (1, 2, 4, 8)]
    # Liger-Kernel takes ceil(C / (budget D)) chunks, rounded to a power of two of rows.
    budgets = [-(-problem.C * height // (problem.D * N)) for height in rows]
    families = {
        "torch's chunked loss": {f"{height} rows": (torchs, height) for height in rows},
        "Liger-Kernel": {f"chunk_mem_const={budget}": (liger, budget) for budget in budgets},
    }
    best = {}
    for family, candidates in families.items():
        try:
            losses = {name: make(problem, chunk) for name, (make, chunk) in candidates.items()}
            name, loss = fastest(losses, inputs)
        except (UnavailableError, RuntimeError):
            continue  # the family's default says why
        best[f"{family}, best chunk ({name})"] = loss
    return best

"""What others offer for the same computation, as functions of the same arguments; None where it is not at hand."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec

import torch
from memory import DEVICE
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor] | None:
    """A function through torch.compile, which wants a compiler."""
    if DEVICE == "cpu" and not shutil.which("g++"):
        return None
    torch.compiler.reset()
    return torch.compile(function, dynamic=False)


def pytorch_metric_learning(target: Tensor, num_classes: int, embedding_size: int, alpha: float) -> Loss | None:
    """pytorch-metric-learning's softmax of normalised features and weights, of features and weights ``(C, D)``.

    Its own weights are ``(D, C)``; it is given ours transposed, along which it normalises them no slower.
    """
    if find_spec("pytorch_metric_learning") is None:
        return None
    from pytorch_metric_learning.losses import NormalizedSoftmaxLoss

    with torch.device(DEVICE):
        loss = NormalizedSoftmaxLoss(num_classes, embedding_size, temperature=1 / alpha)
    return lambda x, w: torch.func.functional_call(loss, {"W": w.t()}, (x, target))

"""The equations, a PyTorch call each: the oracle of the tests, and where second derivatives come from."""

import torch.nn.functional as F
from torch import Tensor

from .._runtime import accumulate_dtype
from .problem import Window, reach


def local_response_norm_reference(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *, window: Window = "torch"
) -> Tensor:
    """The operator by its equations; arguments as the operator's."""
    if not input.shape[1]:
        return input.clone()
    behind, ahead = reach(size, window, input.shape[1])
    x = input.to(accumulate_dtype(input))
    squares = F.pad(x.square().movedim(1, -1), (behind, ahead))
    window_sums = squares.unfold(-1, behind + 1 + ahead, 1).sum(-1).movedim(-1, 1)
    return (x * (k + alpha / size * window_sums).pow(-beta)).to(input.dtype)

"""Every operator on this machine, forward and backward, against its reference in float64."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .kernels._runtime import Impl, fastest_impl
from .ops import l2_softmax_cross_entropy, linear_l2_softmax_cross_entropy, local_response_norm

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True)
class Case:
    """One operator at one shape.

    Attributes:
        operator: its name.
        shapes: of the tensors that take gradients.
        call: the operator, of those tensors, the classes and an implementation.
        classes: how many a target may name; 0 where there is no target.
        terms: of the longest sum behind one number of the result or of a gradient.
    """

    operator: str
    shapes: tuple[tuple[int, ...], ...]
    call: Callable[[list[Tensor], Tensor, Impl], Tensor]
    classes: int
    terms: int


@dataclass(frozen=True)
class Outcome:
    """How far one operator was off.

    Attributes:
        impl: what ``"auto"`` took.
        share: the largest error as a share of what is allowed; above 1 the operator is wrong, NaN too.
        refusal: why it did not run at all; empty where it did.
    """

    operator: str
    dtype: torch.dtype
    impl: Impl
    share: float
    refusal: str = ""

    @property
    def right(self) -> bool:
        """Whether it ran and was right."""
        return not self.refusal and self.share <= 1


def _softmax(N: int, C: int) -> Case:
    def call(tensors: list[Tensor], target: Tensor, impl: Impl) -> Tensor:
        return l2_softmax_cross_entropy(tensors[0], target, alpha=8.0, impl=impl)

    return Case("l2_softmax_cross_entropy", ((N, C),), call, C, 4 * C + N)


def _linear_softmax(N: int, D: int, C: int, margin: float) -> Case:
    def call(tensors: list[Tensor], target: Tensor, impl: Impl) -> Tensor:
        features, weight = tensors
        return linear_l2_softmax_cross_entropy(
            features, weight, target, alpha=16.0, normalize_weight=margin > 0, angular_margin=margin, impl=impl
        )

    return Case("linear_l2_softmax_cross_entropy", ((N, D), (C, D)), call, C, 4 * C + 4 * D + N)


def _normalisation(shape: tuple[int, ...], size: int) -> Case:
    def call(tensors: list[Tensor], _: Tensor, impl: Impl) -> Tensor:
        return local_response_norm(tensors[0], size, alpha=1e-1, beta=0.75, k=1.0, impl=impl)

    return Case("local_response_norm", (shape,), call, 0, 4 * size)


# Of each operator a shape as networks have it and one that divides by nothing.
CASES = (
    _softmax(64, 1024),
    _softmax(37, 1003),
    _linear_softmax(20, 1024, 10, 0.0),
    _linear_softmax(61, 67, 1009, 0.5),
    _normalisation((8, 64, 12, 12), 9),
    _normalisation((3, 37, 5, 7), 5),
)


def run(device: torch.device) -> Iterator[Outcome]:
    """The outcome of each operator in each dtype, the worst of its shapes."""
    for operator in dict.fromkeys(case.operator for case in CASES):
        for dtype in DTYPES:
            cases = [case for case in CASES if case.operator == operator]
            impl = fastest_impl(torch.empty(0, dtype=dtype, device=device))
            try:
                shares = [_share(case, dtype, device) for case in cases]
            except Exception as error:  # whatever a broken installation comes up with
                reason = " ".join(str(error).split()) or type(error).__name__
                yield Outcome(operator, dtype, impl, math.nan, reason)
            else:
                yield Outcome(operator, dtype, impl, _worst(shares))


def _worst(shares: list[float]) -> float:
    return max(shares, key=lambda share: math.inf if math.isnan(share) else share)


def _share(case: Case, dtype: torch.dtype, device: torch.device) -> float:
    """The largest error of result and gradients, each as a share of what is allowed.

    Allowed is twice the error that PyTorch's own composition, the reference in this dtype, makes; one more rounding to
    the dtype; and four deviations of what n float32 roundings of random sign add up to, n being the terms of the
    longest sum, for sums may be taken in another order.
    """
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).to(dtype).to(device) for shape in case.shapes]
    target = torch.randint(max(case.classes, 1), (case.shapes[0][0],), generator=generator).to(device)
    exact = _with_gradients(case, [tensor.double() for tensor in tensors], target, "reference")
    ours = _with_gradients(case, tensors, target, "auto")
    theirs = _with_gradients(case, tensors, target, "reference")
    accumulated = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    shares = []
    for true, our, their in zip(exact, ours, theirs, strict=True):
        size = true.abs().max()
        rounding = (torch.finfo(our.dtype).eps + 4 * math.sqrt(case.terms) * accumulated / 2) * size
        error, allowed = (our.double() - true).abs().max(), 2 * (their.double() - true).abs().max() + rounding
        shares.append(float(error / allowed))
    return _worst(shares)


def _with_gradients(case: Case, tensors: list[Tensor], target: Tensor, impl: Impl) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    result = case.call(leaves, target, impl)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result)
    return [result.detach(), *torch.autograd.grad(result, leaves, upstream)]

"""What the two softmax operators share: the meaning of their arguments, rows on the unit sphere, one row's loss.

Both write a row's loss by its distance from certainty. With the target's logit ``l_y``, the log-sum-exp ``rest`` of all
other logits and ``d = rest - l_y``,

    logsumexp(l) - l_y = log(1 + e^d) = softplus(d)        1 - p_y = sigmoid(d)

so a fitted row keeps the digits of its loss and of ``p_y - 1``, which a difference of two large numbers would lose; and
a margin can change the target's logit without touching ``rest``. With class weights ``w_j``, their mean ``m`` and label
smoothing ``e``,

    loss = A softplus(d) - e (1/C) sum_j w_j (l_j - l_y)        A = (1 - e) w_y + e m
    dloss/dl_j = A p_j - e w_j / C                              j other than y
    dloss/dl_y = -A sigmoid(d) + e (m - w_y / C)

which is ``torch.nn.functional.cross_entropy``'s loss, rearranged. (Few scores on a CPU are left to that function itself
and have the digits it has.)

Legend: N rows, D features, C classes.
"""

import math
import os
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ._library import register
from ._runtime import check_floating

# float32 has no smaller number with all its digits; what is below it is zero to an operator that computes in float32.
LEAST = torch.finfo(torch.float32).tiny
# The root of it: the squares of a shorter row are none.
LEAST_NORM = 2.0**-63
LOG2E = math.log2(math.e)


class CrossEntropyOptions(NamedTuple):
    """What ``torch.nn.functional.cross_entropy`` is told beside tensors, and the length below which a row is zero."""

    ignore_index: int
    reduction: str
    label_smoothing: float
    eps: float


# The same in the schema of an operator of torch.library, in the same order.
OPTIONS_SCHEMA = "int ignore_index, str reduction, float label_smoothing, float eps"


def unit_rows(x: Tensor, eps: float) -> Tensor:
    """``x / max(||x||, eps)`` along the last dimension.

    A row shorter than ``eps`` gets a zero gradient. ``torch.nn.functional.normalize`` gives it ``1 / eps``, which turns
    one dead feature vector into a gradient of 1e12.
    """
    squares = x.square().sum(-1, keepdim=True)
    short = squares.detach().sqrt() < eps
    # The root never sees a zero, so no derivative of any order divides by one.
    norm = torch.where(short, 1.0, squares).sqrt()
    return torch.where(short, x.detach() / eps, x / norm)


def check_alpha(alpha: float | Tensor) -> None:
    """Raises ValueError unless ``alpha`` is a finite number > 0 or a 0-d floating-point tensor.

    A tensor's value is not looked at: that would stop the host until the device has computed it.
    """
    if isinstance(alpha, Tensor):
        if alpha.ndim != 0 or not alpha.is_floating_point():
            raise ValueError(f"alpha must be a 0-d floating-point tensor, got {alpha.dtype} {tuple(alpha.shape)}")
    elif not LEAST <= alpha < math.inf:
        raise ValueError(f"alpha must be finite and > 0, got {alpha}")


def bounded(alpha: float | Tensor, dtype: torch.dtype) -> bool:
    """Whether exponentials of cosines times ``alpha``, and sums of them, can neither overflow nor vanish in ``dtype``.

    They lie between ``exp(-alpha)`` and ``exp(alpha)``, and half of a dtype's exponents holds them: 43 in float32.
    """
    if isinstance(alpha, Tensor):
        if alpha.device.type != "cpu":
            return False  # its value is not known here, and asking for it would wait for the device
        alpha = alpha.item()
    return abs(alpha) <= -math.log(torch.finfo(dtype).tiny) / 2


def check_common(
    input: Tensor,
    target: Tensor,
    num_classes: int,
    *,
    alpha: float | Tensor,
    weight: Tensor | None,
    reduction: str,
    label_smoothing: float,
    eps: float,
) -> None:
    """Raises on whatever both operators refuse, before anything is computed.

    Raises:
        ValueError: on shapes, or on an alpha, reduction, label smoothing or eps out of range.
        TypeError: on a target that is not int64 or class weights that are not floating-point.
    """
    check_alpha(alpha)
    if target.shape != input.shape[:1]:
        raise ValueError(f"target must have shape ({input.shape[0]},), one class a row, got {tuple(target.shape)}")
    if target.dtype != torch.int64:
        raise TypeError(f"target must be int64, got {target.dtype}; target.long() converts it")
    if weight is not None:
        if weight.shape != (num_classes,):
            raise ValueError(f"weight must have shape ({num_classes},), one a class, got {tuple(weight.shape)}")
        check_floating("weight", weight)
        if weight.requires_grad and torch.is_grad_enabled():
            raise ValueError("weight, the class weights, has no gradient; pass weight.detach()")
    if num_classes < 1:
        raise ValueError("there must be at least one class, got 0")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    if not LEAST_NORM <= eps < math.inf:
        raise ValueError(
            f"eps must be finite and at least 2**-63 = 1.09e-19, the shortest row float32 knows, got {eps}"
        )
    # A row is divided by its length twice, and zeros times infinity would not be zeros. (Where alpha is learned nobody
    # looks, and then it has diverged.)
    if not isinstance(alpha, Tensor) and alpha / eps**2 > torch.finfo(torch.float32).max / 2:
        raise ValueError(f"alpha / eps**2 must be at most 1.7e38, half of what float32 holds, got {alpha} / {eps}**2")


def checked_target(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """A copy of ``target`` whose values are known to be classes or ``ignore_index``.

    Raises:
        IndexError: naming the first bad row and its value. On a CUDA device the check is asynchronous, a device-side
            assertion, unless ``LIT_L2SOFTMAX_CHECK=1`` asks for this message at the price of a synchronisation.
    """
    checked: Tensor = _check_target_op(target, num_classes, ignore_index)
    return checked


def _in_range(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    return ((target >= 0) & (target < num_classes)) | (target == ignore_index)


def refuse_bad_target(target: Tensor, num_classes: int, ignore_index: int) -> bool:
    """Looks at every target, which synchronises; returns whether any row may be ignored.

    Raises:
        IndexError: naming the first row whose target is neither a class nor ``ignore_index``.
    """
    if not target.numel():
        return False
    least, largest = (bound.item() for bound in torch.aminmax(target))
    if least >= 0 and largest < num_classes:  # two numbers settle the usual case
        return bool(least <= ignore_index <= largest)
    good = _in_range(target, num_classes, ignore_index)
    if not good.all():
        row = int((~good).nonzero()[0, 0])
        raise IndexError(
            f"target[{row}] is {int(target[row])}: "
            f"neither a class in [0, {num_classes}) nor ignore_index ({ignore_index})"
        )
    return True


def names_bad_targets(target: Tensor) -> bool:
    """Whether a bad target is looked for at once and named, or left to :func:`assert_targets` on the device."""
    return not target.is_cuda or os.environ.get("LIT_L2SOFTMAX_CHECK") == "1"


def assert_targets(good: Tensor, num_classes: int, ignore_index: int) -> None:
    """Asserts on the device, without waiting for it, that all of ``good`` ``(N,)`` are true."""
    torch._assert_async(
        good.all(),
        f"a target is neither a class in [0, {num_classes}) nor ignore_index ({ignore_index}); "
        "LIT_L2SOFTMAX_CHECK=1 names it",
    )


def check_targets(target: Tensor, num_classes: int, ignore_index: int) -> None:
    """Refuses a bad target, at once or on the device, as :func:`checked_target` says."""
    if names_bad_targets(target):
        refuse_bad_target(target, num_classes, ignore_index)
    else:
        assert_targets(_in_range(target, num_classes, ignore_index), num_classes, ignore_index)


def _check_target(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    check_targets(target, num_classes, ignore_index)
    return target.clone()


def _check_target_fake(target: Tensor, num_classes: int, ignore_index: int) -> Tensor:  # noqa: ARG001 - the op's schema
    return torch.empty_like(target)


# One opaque operator, so that torch.compile and torch.export keep the check in the graph instead of breaking on it.
_check_target_op = register(
    "check_target(Tensor target, SymInt num_classes, int ignore_index) -> Tensor", _check_target, _check_target_fake
)


ALL = slice(None)


class Targets:
    """The targets of N rows as the PyTorch schedules use them, with the weights a row's loss takes from them.

    Attributes:
        classes: ``(N,)``, each row's class, 0 where it is ignored; in a shard of all, -1 where it has none here.
        here: ``(N,)``, of a shard, whether a row's class is one of its own; else None.
        weight: class weights ``(C,)`` in the dtype computed in, or None.
    """

    def __init__(
        self,
        target: Tensor,
        num_classes: int,
        weight: Tensor | None,
        options: CrossEntropyOptions,
        dtype: torch.dtype,
        sharded: bool = False,
    ) -> None:
        self.num_classes, self.dtype = num_classes, dtype
        self._smoothing, self._reduction = options.label_smoothing, options.reduction
        self.classes, self._counts = target, None
        self.here: Tensor | None = None
        if sharded:
            self._counts = target != options.ignore_index
            self.here = self._counts & (target >= 0) & (target < num_classes)
            self.classes = torch.where(self.here, target, -1)
        elif names_bad_targets(target):
            if refuse_bad_target(target, num_classes, options.ignore_index):
                self._counts = target != options.ignore_index
                self.classes = torch.where(self._counts, target, 0)
        else:
            in_range = _in_range(target, num_classes, options.ignore_index)
            assert_targets(in_range, num_classes, options.ignore_index)
            self._counts = target != options.ignore_index
            # Before the assertion is heard of, a bad target must not have become a bad address.
            self.classes = torch.where(self._counts & in_range, target, 0)
        self.weight = None if weight is None else weight.to(dtype)
        if self.weight is not None:
            self._target_weight = self.weight[self.classes]
            self._mean_weight = self.weight.mean()
            self._scale = (1 - self._smoothing) * self._target_weight + self._smoothing * self._mean_weight

    def losses(self, log_odds: Tensor, target_logit: Tensor, weighted_sum: Tensor | None) -> Tensor:
        """A row's loss ``(N,)`` from ``d``, ``l_y`` and, with label smoothing, ``sum_j w_j l_j``."""
        # Beyond the threshold softplus(d) is d, to the last digit of a float64 too.
        losses = F.softplus(log_odds, threshold=40.0)
        if self.weight is not None:
            losses *= self._scale
        if weighted_sum is not None:
            mean_logit = target_logit if self.weight is None else self._mean_weight * target_logit
            losses -= self._smoothing * (weighted_sum / self.num_classes - mean_logit)
        return losses if self._counts is None else torch.where(self._counts, losses, 0.0)

    def reduced(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and what a mean was divided by, 0-d; ``(0,)`` where nothing was."""
        if self._reduction == "none":
            return losses, losses.new_empty(0)
        if self._reduction == "sum":
            return losses.sum(), losses.new_empty(0)
        if self.weight is None:
            total = losses.new_full((), len(losses)) if self._counts is None else self._counts.sum(dtype=self.dtype)
        else:
            weight = self._target_weight
            total = (weight if self._counts is None else torch.where(self._counts, weight, 0.0)).sum()
        return losses.sum() / total, total

    def upstream(self, grad: Tensor, total: Tensor) -> Tensor:
        """The gradient of each row's loss, ``(N,)``: zero for an ignored row, whatever reaches it."""
        grad = (grad / total if self._reduction == "mean" else grad).expand(len(self.classes))
        return grad if self._counts is None else torch.where(self._counts, grad, 0.0)

    def scaled(self, upstream: Tensor) -> Tensor:
        """``A`` times each row's upstream gradient, ``(N,)``."""
        return upstream if self.weight is None else upstream * self._scale

    def smoothed(self, classes: slice = ALL) -> Tensor | float:
        """``e w_j / C`` of a range of classes; a number without class weights, the same for all."""
        each = self._smoothing / self.num_classes
        return each if self.weight is None else self.weight[classes] * each

    def target_slope(self, log_odds: Tensor) -> Tensor:
        """``dloss/dl_y`` of each row, ``(N,)``, from its ``d``."""
        probability_of_others = torch.sigmoid(log_odds)
        if self.weight is None:
            return self._smoothing * (1 - 1 / self.num_classes) - probability_of_others
        slope = self._mean_weight - self._target_weight / self.num_classes
        return self._smoothing * slope - self._scale * probability_of_others


def loss_shape(target: Tensor, reduction: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the loss and of what a mean was divided by, as :meth:`Targets.reduced` returns them."""
    return (target.shape if reduction == "none" else ()), (() if reduction == "mean" else (0,))

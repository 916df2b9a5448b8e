"""The linear operator with its classes spread over processes, each of which holds a shard of the classifier.

A row's loss needs of every shard only two numbers: the log-sum-exp of its logits there but the target's, and the
target's cosine from the one shard that has it. So one ``all_gather`` of some ``(3, N)`` numbers makes the loss, in the
order of ranks and so with the same bits on every one of them.

The gradients of a row's features and of alpha are linear in what the shards add to ``h`` (see the package), the
projection onto the sphere's tangent included. So each process takes its own share through the backward pass of one
process, and one ``all_reduce`` of ``(N, D)`` numbers and one more adds the shares. A class weight's gradient never
leaves its process.

Source: An et al. 2021, "Partial FC", arXiv:2010.05222, section 3.1, for the split of classes; it exchanges the maximum
and the sum of a row's exponentials one after the other.

Legend: N rows, D features, C classes of all processes, K of this one.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from .._runtime import Impl, check_devices, check_impl, fastest_impl, no_autocast
from .._softmax import (
    CrossEntropyOptions,
    Targets,
    assert_targets,
    check_common,
    names_bad_targets,
    refuse_bad_target,
)
from .margin import with_margin
from .operator import check_classifier, schedule_of
from .problem import Gradients, Kept, Problem, Wanted

Group = dist.ProcessGroup | DeviceMesh | None

_IGNORED, _ELSEWHERE = -100, -1  # in a shard's targets, where a class is counted from the shard's first


class ClassShard(NamedTuple):
    """The classes of one process: ``size`` of them from ``start`` on."""

    start: int
    size: int


def class_shard(num_classes: int, rank: int, world_size: int) -> ClassShard:
    """The shard of a rank, where ``C % world_size`` first ranks have one class more; empty where there are more ranks.

    Raises:
        ValueError: on no classes, no processes, or a rank that is none of them.
    """
    if num_classes < 1 or not 0 <= rank < world_size:
        raise ValueError(f"no shard of {num_classes} classes for rank {rank} of {world_size}")
    each, more = divmod(num_classes, world_size)
    return ClassShard(each * rank + min(rank, more), each + (rank < more))


class _Processes:
    """The processes that share the classes; this one alone where torch.distributed is not at work."""

    def __init__(self, group: Group) -> None:
        self.group = group.get_group() if isinstance(group, DeviceMesh) else group
        self.alone = self.group is None and not (dist.is_available() and dist.is_initialized())
        self.rank = 0 if self.alone else dist.get_rank(self.group)
        self.size = 1 if self.alone else dist.get_world_size(self.group)
        if self.rank < 0:
            raise ValueError("this process is not in the group that shares the classes")

    def gathered(self, tensor: Tensor) -> Tensor:
        """``(size, *)``, what every rank has, in their order."""
        if self.alone:
            return tensor[None]
        out = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(out, tensor.contiguous(), group=self.group)
        return torch.stack(out)

    def added(self, tensor: Tensor) -> Tensor:
        """The sum of what every rank has, in place."""
        if not self.alone:
            dist.all_reduce(tensor, group=self.group)
        return tensor


class _ClassParallel(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        linear_weight: Tensor,
        linear_bias: Tensor | None,
        alpha: float | Tensor,
        target: Tensor,
        num_classes: int,
        numbers: tuple[bool, float, float],
        options: CrossEntropyOptions,
        impl: Impl,
        processes: _Processes,
    ) -> Tensor:
        (N, _), K = input.shape, len(linear_weight)
        start, _ = class_shard(num_classes, processes.rank, processes.size)
        counts = target != options.ignore_index
        here = counts & (target >= start) & (target < start + K)
        local = torch.where(here, target - start, torch.where(counts, _ELSEWHERE, _IGNORED))
        inside = options._replace(ignore_index=_IGNORED)
        problem = _shard_problem(input, linear_weight, local, linear_bias, alpha, numbers, inside)
        dtype = problem.dtype
        with no_autocast(input):
            if N and K:
                known: Kept = schedule_of(impl).forward_rows(problem)
                rows, class_norms = known.rows, known.class_norms
            else:
                rows, class_norms = input.new_zeros(3, N, dtype=dtype), input.new_zeros(K, dtype=dtype)
                torch.linalg.vector_norm(input, dim=1, dtype=dtype, out=rows[0])
                rows[1] = -torch.inf
            bias = torch.zeros_like(rows[0])
            if linear_bias is not None and K:
                bias = torch.where(here, linear_bias.to(dtype)[local.clamp_min(0)], 0.0)
            told = torch.stack([rows[1], torch.where(here, rows[2], 0.0), bias, here.to(dtype)])
            shards = processes.gathered(told)  # (size, 4, N)
            _check(target, shards[:, 3].sum(0) == 1, num_classes, options.ignore_index)
            rest = shards[:, 0].logsumexp(0)
            cosine, bias = shards[:, 1].sum(0), shards[:, 2].sum(0)
            logit = alpha * with_margin(cosine, problem.angular_margin, problem.cosine_margin) + bias
            targets = Targets(local, max(K, 1), None, inside, dtype, sharded=True)
            loss, total = targets.reduced(targets.losses(rest - logit, logit, None))
            # Elsewhere the backward pass knows no bias of the target; a margin, which would mind, has none beside it.
            cosine = torch.where(here, cosine, cosine + bias / alpha)
        tensor = alpha if isinstance(alpha, Tensor) else None
        kept = torch.stack([rows[0], rest, cosine])
        ctx.save_for_backward(input, linear_weight, linear_bias, tensor, local, kept, class_norms, total)
        ctx.alpha, ctx.numbers, ctx.options = None if tensor is not None else alpha, numbers, inside
        ctx.impl, ctx.processes = impl, processes
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if torch.is_grad_enabled():  # with create_graph; torch's once_differentiable would leave them out unsaid
            raise RuntimeError("the class-parallel loss has no second derivatives: create_graph=True cannot be had")
        input, linear_weight, linear_bias, alpha, local, rows, class_norms, total = ctx.saved_tensors
        wants_input, wants_weight, wants_bias, wants_alpha = ctx.needs_input_grad[:4]
        factor = ctx.alpha if alpha is None else alpha
        problem = _shard_problem(input, linear_weight, local, linear_bias, factor, ctx.numbers, ctx.options)
        (N, D), K = input.shape, len(linear_weight)
        with no_autocast(input):
            if N and K:
                wanted = Wanted(wants_input, wants_weight, wants_bias, wants_alpha)
                kept = Kept(total, rows, class_norms)
                gradients: Gradients = schedule_of(ctx.impl).backward(grad, problem, kept, wanted)
            else:
                new = rows.new_zeros
                gradients = Gradients(new(N, D), new(K, D), new(K), new(()))
            shares = torch.cat(
                [
                    gradients.input.flatten() if wants_input else rows.new_empty(0),
                    gradients.alpha.reshape(1) if wants_alpha else rows.new_empty(0),
                ]
            )
            if wants_input or wants_alpha:
                shares = ctx.processes.added(shares)
        return (
            shares[: N * D].view(N, D).to(input.dtype) if wants_input else None,
            gradients.linear_weight.to(linear_weight.dtype) if wants_weight else None,
            gradients.linear_bias.to(linear_bias.dtype) if wants_bias else None,
            shares[-1].to(alpha.dtype) if wants_alpha else None,
            *[None] * 6,
        )


def _shard_problem(
    input: Tensor,
    linear_weight: Tensor,
    local: Tensor,
    linear_bias: Tensor | None,
    alpha: float | Tensor,
    numbers: tuple[bool, float, float],
    options: CrossEntropyOptions,
) -> Problem:
    normalize_weight, angular_margin, cosine_margin = numbers
    return Problem(
        input,
        linear_weight,
        local,
        linear_bias,
        None,
        alpha,
        normalize_weight,
        angular_margin,
        cosine_margin,
        options,
        sharded=True,
    )


def _check(target: Tensor, owned: Tensor, num_classes: int, ignore_index: int) -> None:
    """Refuses a target that no process has: every one comes to the same verdict, so that none waits for another."""
    if names_bad_targets(target):
        refuse_bad_target(target, num_classes, ignore_index)
    else:
        assert_targets(owned | (target == ignore_index), num_classes, ignore_index)


def class_parallel_linear_l2_softmax_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    num_classes: int,
    group: Group = None,
    linear_bias: Tensor | None = None,
    alpha: float | Tensor,
    normalize_weight: bool = False,
    angular_margin: float = 0.0,
    cosine_margin: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    eps: float = 1e-12,
    impl: Impl = "auto",
) -> Tensor:
    """``linear_l2_softmax_cross_entropy`` of a classifier of which every process of a group holds a shard.

    Every process calls it with the same features, targets and options, and its own class weights; every one gets the
    same loss, bit for bit, the whole gradient of features and alpha, and that of its own weights. Two collectives, one
    each way: 4 N numbers gathered, N D + 1 added up, in float32, or float64 where that is computed in. There are no
    second derivatives, class weights of the loss or label smoothing.

    Args:
        input: features, ``(N, D)``, the same in every process.
        linear_weight: this rank's rows, ``(K, D)``, those of ``class_shard(C, rank, world_size)``; K may be 0.
        target: class indices in ``[0, C)`` or ``ignore_index``, ``(N,)``, int64, the same in every process.
        num_classes: C, of all processes.
        group: that shares the classes, or a one-dimensional DeviceMesh; torch.distributed's default group when None,
            and this process alone where there is none.
        linear_bias: this rank's, ``(K,)``; refused with ``normalize_weight``.
        alpha: radius of the sphere, > 0; a 0-d tensor may ask for a gradient, and is the same in every process.
        normalize_weight: whether the rows of ``linear_weight`` are normalised too.
        angular_margin: radians in ``[0, pi)``; needs ``normalize_weight``.
        cosine_margin: subtracted from the target's cosine; needs ``normalize_weight``.
        ignore_index: rows with this target have neither loss nor gradient.
        reduction: ``"mean"`` (over rows that count) | ``"sum"`` | ``"none"``.
        eps: a row shorter than this is divided by it instead, and gets a zero gradient.
        impl: ``"auto"`` (Triton on CUDA, PyTorch's schedule elsewhere and for float64) | ``"triton"`` | ``"torch"``.

    Returns:
        The loss in nats, 0-d, or ``(N,)`` for ``"none"``; float32, float64 for float64 input or weight.

    Raises:
        ValueError: as ``linear_l2_softmax_cross_entropy``, and on a shard of another size than this rank's.
        TypeError: on a dtype that is not floating-point, or a target that is not int64.
        IndexError: in every process, on a target out of range, naming its row (asynchronously on CUDA).
        RuntimeError: from a backward pass with ``create_graph=True``.
    """
    check_classifier(input, linear_weight, linear_bias, normalize_weight, angular_margin, cosine_margin)
    common = {"alpha": alpha, "weight": None, "reduction": reduction, "label_smoothing": 0.0, "eps": eps}
    check_common(input, target, num_classes, **common)  # type: ignore[arg-type]  # of several types
    operator = "class_parallel_linear_l2_softmax_cross_entropy"
    others = {"linear_weight": linear_weight, "target": target, "linear_bias": linear_bias, "alpha": alpha}
    check_devices(input, others, operator=operator)
    check_impl(impl, input, linear_weight, operator=operator)
    if impl == "reference":
        raise ValueError(f"{operator}: its reference is linear_l2_softmax_cross_entropy in one process")
    processes = _Processes(group)
    shard = class_shard(num_classes, processes.rank, processes.size)
    if len(linear_weight) != shard.size:
        raise ValueError(
            f"rank {processes.rank} of {processes.size} has {shard.size} of {num_classes} classes, from "
            f"{shard.start} on, but linear_weight has {len(linear_weight)} rows: class_shard says how they are split"
        )
    loss: Tensor = _ClassParallel.apply(  # type: ignore[no-untyped-call]
        input,
        linear_weight,
        linear_bias,
        alpha if isinstance(alpha, Tensor) else float(alpha),
        target,
        num_classes,
        (normalize_weight, float(angular_margin), float(cosine_margin)),
        CrossEntropyOptions(ignore_index, reduction, 0.0, eps),
        fastest_impl(input, linear_weight) if impl == "auto" else impl,
        processes,
    )
    return loss

"""The L2-constrained softmax of more classes than one process holds.

Every process owns the weights of some classes and has rows of its own. The rows of a class group are put together, all
its processes compute the loss of all of them, each with its classes
(``class_parallel_linear_l2_softmax_cross_entropy``), and each gets the whole gradient of the rows, of which it keeps
its own.

Legend: N rows, D features, C classes, K of this process, W = G x c processes (``class_groups.py``).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .class_groups import ClassGroups
from .initializers import truncated_normal_
from .layers import IGNORED, L2SoftmaxLoss, MostProbable
from .ops import class_parallel_linear_l2_softmax_cross_entropy
from .processes import place
from .seeds import mix

# Classes whose first weights are drawn from one seed: a shard draws the blocks that it has a part of.
BLOCK = 1024
# Scores that are looked at together where the most probable class is looked for: 16 MiB of float32.
SCORES = 2**22


class _Gathered(torch.autograd.Function):
    """The features of a class group side by side."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, groups: ClassGroups, sizes: list[int]) -> Tensor:
        ctx.rows, ctx.over = groups.rows(sizes), groups.over
        return groups.gathered(features, ctx.rows.sizes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # Every process has the whole gradient of all rows and hands back its own part of it. What that comes to in the
        # network is averaged over W processes, of which c together have the gradient of one loss.
        return gradient[ctx.rows.start : ctx.rows.end] * ctx.over, None, None


class ClassParallelL2SoftmaxLoss(L2SoftmaxLoss):
    """``L2SoftmaxLoss`` whose classes are spread over processes; in one process it is that head, with its checkpoints.

    A process calls it with its own rows, as many as it has, none too; all processes must call it. The loss is the mean
    over the rows of its class group, the same in each of its processes, :meth:`counted` of them. Where it is multiplied
    by ``processes.share`` of that number and gradients are averaged over all processes, as DistributedDataParallel
    does, gradients are those of the mean over all rows. That must not average the shards: those of the classes are kept
    out of it (``ClassParallelStrategy``, or :func:`keep_out_of_ddp` in a loop of one's own), and the gradients of
    equal shards are averaged here.

    Which classes are its own a process knows when torch.distributed is at work. Until the head is moved, loaded or
    first used, its weights are of all classes' shape, on the meta device, without memory. Its first weights are a
    function of a number drawn at construction from torch's generator, and of the class: not of how many processes there
    are. ``state_dict`` has this process's shard; what is loaded is all classes', or a shard of the same.

    Args:
        in_features: D.
        num_classes: C, of all processes.
        alpha: as ``L2SoftmaxLoss``'s, but for 0, which is refused.
        learn_alpha: whether alpha is a parameter, every process's the same.
        normalize_weight: as ``L2SoftmaxLoss``'s.
        angular_margin: as ``L2SoftmaxLoss``'s.
        cosine_margin: as ``L2SoftmaxLoss``'s.
        weight_std: as ``L2SoftmaxLoss``'s.
        classes_over: c, how many processes share the classes, a divisor of their number; all when None. With fewer,
            each c of them have a replica.

    Attributes:
        weight: ``(K, D)``, of the classes of ``groups.shard``.
        bias: ``(K,)``, zero at first; None with ``normalize_weight``.

    Raises:
        ValueError: as ``L2SoftmaxLoss``, on an alpha of 0, and on a classes_over below 1; on one that does not divide
            the number of processes where that is known.

    Source: An et al. 2021, "Partial FC", arXiv:2010.05222, section 3.1, for rows gathered and classes split.
    """

    spreads_classes: ClassVar[bool] = True
    _made_on = "meta"
    _groups: ClassGroups | None = None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        alpha: float = 16.0,
        learn_alpha: bool = False,
        normalize_weight: bool = False,
        angular_margin: float = 0.0,
        cosine_margin: float = 0.0,
        weight_std: float | None = None,
        classes_over: int | None = None,
    ) -> None:
        if alpha == 0:
            raise ValueError("alpha=0 is the plain softmax, which L2SoftmaxLoss has and no classes over processes")
        if classes_over is not None and classes_over < 1:
            raise ValueError(f"classes_over must be at least 1, got {classes_over}")
        super().__init__(
            in_features, num_classes, alpha, learn_alpha, normalize_weight, angular_margin, cosine_margin, weight_std
        )
        self.classes_over = classes_over

    # ---- the shard

    def reset_parameters(self) -> None:
        """Draws the weight from its distribution and sets the bias to zero; alpha stays."""
        self._seed = int(torch.randint(2**62, ()))
        if self._groups is not None:
            with torch.no_grad():
                self.weight.copy_(self._drawn(self._groups))
                if self.bias is not None:
                    self.bias.zero_()

    def _drawn(self, groups: ClassGroups) -> Tensor:
        """The first weights of this process's classes, ``(K, D)``, on the CPU."""
        seed = groups.talk.first(self._seed)
        start, size = groups.shard
        weight = torch.empty(size, self.in_features, dtype=self.weight.dtype)
        for block in range(start // BLOCK, -(-(start + size) // BLOCK)):
            first, last = block * BLOCK, min((block + 1) * BLOCK, self.num_classes)
            drawn = torch.empty(last - first, self.in_features, dtype=weight.dtype)
            generator = torch.Generator().manual_seed(mix(seed, "class weights", block))
            if self.weight_std is None:
                bound = math.sqrt(6 / (self.num_classes + self.in_features))  # Glorot's
                drawn.uniform_(-bound, bound, generator=generator)
            else:
                truncated_normal_(drawn, self.weight_std, generator)
            here, end = max(first, start), min(last, start + size)
            weight[here - start : end - start] = drawn[here - first : end - first]
        return weight

    @torch.no_grad()
    def take_share(self) -> ClassGroups:
        """Makes the weights of this process's classes, where that has not been done; all processes must ask.

        A head that was whole before torch.distributed was at work is cut. Parameters stay the objects they are.

        Raises:
            ValueError: on a ``classes_over`` that does not divide the number of processes.
            RuntimeError: where shards were of other processes than there are now.
        """
        if self._groups is not None and self._groups.place == place():
            return self._groups
        if self._groups is not None and not self._groups.alone:
            raise RuntimeError(
                f"this head has the classes of process {self._groups.place.rank} of {self._groups.place.size}, and the "
                f"processes are others now: load all classes' weights into a new head"
            )
        groups = ClassGroups(self.num_classes, self.classes_over)
        if self._groups is None:
            _become(self.weight, self._drawn(groups))
            if self.bias is not None:
                _become(self.bias, self.bias.new_zeros(groups.shard.size, device="cpu"))
        elif not groups.alone:
            for parameter in self.shards().values():
                parameter.data = groups.of_first_replica(groups.mine(parameter).clone())
        if groups.replicas > 1:
            for parameter in self.shards().values():
                parameter.register_post_accumulate_grad_hook(_averaged_by(groups))
        self._groups = groups
        return groups

    def shards(self) -> dict[str, nn.Parameter]:
        """The parameters of which other processes have other rows, by name."""
        return {name: tensor for name, tensor in self.named_parameters() if name in ("weight", "bias")}

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.take_share()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        groups = self.take_share()
        shards = {f"{prefix}{name}" for name in self.shards()}
        mine = {
            name: groups.mine(tensor) if name in shards and len(tensor) == self.num_classes else tensor
            for name, tensor in state_dict.items()
        }
        super()._load_from_state_dict(mine, prefix, *arguments)

    # ---- what a head does

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """Mean loss in nats over the class group of ``features`` ``(N, D)`` with classes ``target`` ``(N,)``, int64.

        Raises:
            IndexError: in every process, on a target out of range in any, naming its row (asynchronously on CUDA).
        """
        groups = self.take_share()
        if groups.place.size == 1:
            return super().forward(features, target)
        told = groups.talk.everyones(len(features), *self._bad(target))
        self._refuse(told)
        sizes = told[:, 0].tolist()
        return class_parallel_linear_l2_softmax_cross_entropy(
            _Gathered.apply(features, groups, sizes),  # type: ignore[no-untyped-call]
            self.weight,
            groups.gathered(target, groups.rows(sizes).sizes),
            num_classes=self.num_classes,
            group=groups.classes,
            linear_bias=self.bias,
            alpha=self.alpha,
            normalize_weight=self.normalize_weight,
            angular_margin=self.angular_margin,
            cosine_margin=self.cosine_margin,
        )

    def _bad(self, target: Tensor) -> tuple[int, int]:
        """The first row whose target is no class, and the target; row -1 where there is none, or a GPU would wait."""
        if target.is_cuda or not len(target):
            return -1, 0
        bad = ((target < 0) | (target >= self.num_classes)) & (target != IGNORED)
        row = int(bad.int().argmax())
        return (row, int(target[row])) if bad[row] else (-1, 0)

    def _refuse(self, told: Tensor) -> None:
        """Raises where a process has said that it has a bad target: in all of them, so that none waits for another."""
        for rank, (_, row, label) in enumerate(told.tolist()):
            if row >= 0:
                raise IndexError(
                    f"target[{row}] of process {rank} is {label}: neither a class in [0, {self.num_classes}) nor "
                    f"ignore_index ({IGNORED})"
                )

    def counted(self, target: Tensor) -> Tensor:
        """How many rows the mean loss is of, those of the class group, 0-d, int64; all its processes must ask."""
        return self.take_share().added_up(super().counted(target))

    @torch.no_grad()
    def most_probable(self, features: Tensor) -> MostProbable:
        """What each of the features ``(N, D)`` is taken for, found without all scores; all processes must ask."""
        groups = self.take_share()
        sizes = groups.talk.everyones(len(features))[:, 0].tolist()
        rows = groups.rows(sizes)
        gathered = groups.gathered(features, rows.sizes)
        start, _ = groups.shard
        highest = self.weight.new_full((len(gathered),), -torch.inf, dtype=_wide(self.weight))
        classes, total = torch.zeros_like(highest, dtype=torch.int64), highest.clone()
        with torch.autocast(gathered.device.type, enabled=False):  # of so many scores half precision makes many equal
            for first, scores in self._tiles(gathered):
                values, found = scores.max(1)
                classes = torch.where(values > highest, start + first + found, classes)
                highest = torch.maximum(highest, values)
                total = torch.logaddexp(total, scores.logsumexp(1))
        everyones = groups.gathered(torch.stack([highest, total])[None], [1] * groups.over)  # (c, 2, N)
        ranks = everyones[:, 0].argmax(0)  # the first of several, which has the first classes
        classes = groups.gathered(classes[None], [1] * groups.over).gather(0, ranks[None])[0]
        probability = (everyones[:, 0].amax(0) - everyones[:, 1].logsumexp(0)).exp()
        return MostProbable(classes[rows.start : rows.end], probability[rows.start : rows.end])

    def _tiles(self, features: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Scores of this process's classes, some ``(N, *)`` after others, each with the first class in the shard."""
        constrained = self.constrain(features)
        width = max(1, SCORES // max(1, len(features)))
        bias = self.bias.split(width) if self.bias is not None else ()
        for number, weight in enumerate(self.weight.split(width) if len(self.weight) else ()):
            weight = F.normalize(weight, dim=-1) if self.normalize_weight else weight
            scores = F.linear(constrained.to(weight.dtype), weight, bias[number] if bias else None)
            yield number * width, scores.to(_wide(scores))

    def logits(self, features: Tensor) -> Tensor:
        """Scores ``(N, C)`` of all classes without a margin; all processes must ask.

        They have a gradient in one process alone, and are as many as they are: :meth:`most_probable` does without them.
        """
        groups = self.take_share()
        if groups.alone:
            return super().logits(features)
        with torch.no_grad():
            rows = groups.rows(groups.talk.everyones(len(features))[:, 0].tolist())
            scores = super().logits(groups.gathered(features, rows.sizes))
            everyones = groups.gathered(scores.T, [shard.size for shard in groups.shards()])
            return everyones.T[rows.start : rows.end]

    def extra_repr(self) -> str:
        """What ``print`` shows between the parentheses."""
        over = "all processes" if self.classes_over is None else f"{self.classes_over} processes"
        return f"{super().extra_repr()}, classes over {over}"


def spread_heads(module: nn.Module) -> dict[str, ClassParallelL2SoftmaxLoss]:
    """The heads in ``module`` whose classes are spread over processes, by name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, ClassParallelL2SoftmaxLoss)}


def shard_names(module: nn.Module) -> dict[str, ClassParallelL2SoftmaxLoss]:
    """The parameters of ``module`` of which this process has a shard, by their names in its ``state_dict``."""
    return {
        f"{prefix}.{name}" if prefix else name: head
        for prefix, head in spread_heads(module).items()
        for name in head.shards()
    }


def shard_owners(module: nn.Module) -> dict[Tensor, ClassParallelL2SoftmaxLoss]:
    """The parameters of ``module`` of which this process has a shard, themselves."""
    return {parameter: head for head in spread_heads(module).values() for parameter in head.shards().values()}


def keep_out_of_ddp(module: nn.Module) -> None:
    """Makes DistributedDataParallel, called on ``module`` afterwards, leave the shards of classes alone."""
    ignored = [*getattr(module, "_ddp_params_and_buffers_to_ignore", ()), *shard_names(module)]
    nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, ignored)


def whole_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes that a checkpoint of all classes has, by the names of ``module.state_dict()``."""
    shards = shard_names(module)
    return {
        name: (shards[name].num_classes, *tensor.shape[1:]) if name in shards else tuple(tensor.shape)
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, Tensor)
    }


def gradient_norm(module: nn.Module, parameters: Iterable[Tensor]) -> Tensor:
    """The Euclidean length of the gradients of ``parameters`` together, 0-d, of all classes' and not of a shard's.

    It is the same in all processes, all of which must ask.
    """
    owners = shard_owners(module)
    ours: list[Tensor] = []
    theirs: dict[ClassParallelL2SoftmaxLoss, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is None:
            continue
        gradient = parameter.grad.coalesce().values() if parameter.grad.is_sparse else parameter.grad
        (theirs.setdefault(owners[parameter], []) if parameter in owners else ours).append(gradient)
    norms = [nn.utils.get_total_norm(ours)] if ours else []
    for head, gradients in theirs.items():
        squares = nn.utils.get_total_norm(gradients).square()
        norms.append(head.take_share().added_up(squares).sqrt())
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def _wide(x: Tensor) -> torch.dtype:
    """What a softmax of ``x`` is computed in."""
    return torch.promote_types(x.dtype, torch.float32)


def _become(parameter: nn.Parameter, tensor: Tensor) -> None:
    """Puts a tensor where a parameter is on the meta device; who has the parameter has the tensor then."""
    torch.utils.swap_tensors(parameter, nn.Parameter(tensor.to(parameter.dtype), parameter.requires_grad))


def _averaged_by(groups: ClassGroups) -> Callable[[Tensor], None]:
    def average(parameter: Tensor) -> None:
        assert parameter.grad is not None
        groups.averaged(parameter.grad)  # of what was averaged before, and so is the same everywhere, it is that again

    return average

"""A loss or a gradient that is no number ends a training before it reaches the weights."""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lit_l2softmax.errors import NonFiniteError
from lit_l2softmax.processes import HostTalk, place

# Numbers. A core's own cache holds a few such gradients, and no more calls lie between one and the step than that.
LARGE = 2**16


class StopOnNonFinite(Callback):
    """Ends a training at the first step whose loss or gradient is inf or NaN, and keeps such weights off the disk.

    On a CPU it looks at a large gradient as soon as that is there, and still in the cache: at the step it would have to
    be fetched again. Small ones it looks at in one go, at the step: apart, each costs more to come to than to
    read. To look on a GPU, a step would have to wait for it: there the first such step is noted on the device,
    and looked up where a training waits anyway, which is before every record, validation and checkpoint. What is kept
    is of the steps before it on either.

    Where several processes train together, losses are their own but gradients everyone's: all of them end at the same
    step, and look at it when the gradients are averaged.

    With half precision's scaled gradients an inf is no mistake: the scaler leaves that step out and scales less.

    Raises:
        NonFiniteError: naming the step and what is not finite in it.
    """

    def __init__(self) -> None:
        self._talk = HostTalk()
        self._losses: list[Tensor] = []
        self._first: Tensor | None = None  # the number of the first such step, 0 for none; on the device
        self._names: dict[Tensor, str] = {}  # of the weights
        self._looks: dict[Tensor, RemovableHandle] = {}  # by weight, of those that are large

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier training."""
        self._forget()
        self._talk = HostTalk()
        self._first = None if pl_module.device.type == "cpu" else torch.zeros((), device=pl_module.device)
        if self._first is None and not _is_scaled(trainer):
            for name, weight in pl_module.named_parameters():
                self._names[weight] = name
                if self._talk.alone and weight.requires_grad and weight.numel() >= LARGE:
                    look = partial(_look, trainer, name)
                    self._looks[weight] = weight.register_post_accumulate_grad_hook(look)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Looks no more."""
        self._forget()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Looks no more: of a training that has failed there is no teardown."""
        self._forget()

    def _forget(self) -> None:
        for look in self._looks.values():
            look.remove()
        self._losses, self._names, self._looks = [], {}, {}

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Looks at the loss of a batch."""
        if self._first is not None or not self._talk.alone:
            self._losses.append(loss.detach())
        else:
            self._look_at_losses(trainer, [loss])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Looks at the gradients of a step, on a CPU at those that were not looked at yet."""
        weights = () if _is_scaled(trainer) else _weights(optimizer)
        if self._first is not None:
            gradients = [_values(weight.grad) for weight in weights if weight.grad is not None]
            self._note(trainer.global_step + 1, self._losses, gradients)
            self._losses = []
            return
        if self._talk.alone:
            self._look_at(trainer, weights)
            return
        self._agree(trainer, weights)

    def _agree(self, trainer: Trainer, weights: Iterable[Tensor]) -> None:
        """Looks at losses and gradients where every process does, and raises in all of them."""
        rank, size = place()
        losses, self._losses = self._losses, []
        said, mine = 0, ""
        try:
            self._look_at(trainer, weights)
        except NonFiniteError as error:
            said, mine = size - rank, str(error)
        try:
            self._look_at_losses(trainer, losses)
        except NonFiniteError as error:  # goes before the gradients that it has spoilt
            said, mine = 2 * size - rank, str(error)
        if found := self._talk.greatest(said):  # the first process's word
            what = "loss" if found >= size else "gradient of a weight"
            others = f"the {what} in step {trainer.global_step + 1:,} is not finite"
            raise NonFiniteError(f"{mine if found == said else others}, in process {-found % size}")

    def _look_at(self, trainer: Trainer, weights: Iterable[Tensor]) -> None:
        for weight in weights:
            if weight not in self._looks and weight.grad is not None:
                _look(trainer, self._names.get(weight, "a weight that is none of the module's"), weight)

    def _look_at_losses(self, trainer: Trainer, losses: Iterable[Tensor]) -> None:
        for loss in losses:
            if loss.numel() == 1 and not math.isfinite(value := loss.item()):  # of another size there is no gradient
                raise NonFiniteError(f"the loss of step {trainer.global_step + 1:,} is {value:g}")

    def _note(self, step: int, losses: list[Tensor], gradients: list[Tensor]) -> None:
        """Notes a step, unless an earlier one is; nothing waits for the device."""
        assert self._first is not None
        # The greatest magnitudes: sums and squares of finite numbers can overflow.
        greatest = torch._foreach_norm(gradients, float("inf")) if gradients else ()
        wrong = ~torch.stack([one.float() for one in (*losses, *greatest)]).isfinite().all()
        if not self._talk.alone:
            everyones = wrong.float()
            dist.all_reduce(everyones, dist.ReduceOp.MAX)
            wrong = everyones > 0
        self._first = torch.where((self._first == 0) & wrong, step, self._first)

    def _look_up(self) -> None:
        if self._first is not None and (step := int(self._first)):
            raise NonFiniteError(f"the loss or a gradient of step {step:,} is not finite")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks up what was noted, where the batch's record waits for the device too."""
        if self._first is not None and trainer._logger_connector.should_update_logs:
            self._look_up()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks up what was noted."""
        self._look_up()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps a checkpoint of weights that are not finite from being written, whatever has made them so."""
        self._look_up()
        # Of classes that are spread over processes each has other weights, and all save together or not at all.
        wrong = [name for name, weight in pl_module.named_parameters() if not _is_finite(weight)]
        if self._talk.greatest(len(wrong)):
            name = wrong[0] if wrong else "another process's share of a weight"
            raise NonFiniteError(f"{name} is not finite after step {trainer.global_step:,}")


def _is_scaled(trainer: Trainer) -> bool:
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def _look(trainer: Trainer, name: str, weight: Tensor) -> None:
    assert weight.grad is not None
    if not _is_finite(_values(weight.grad)):
        raise NonFiniteError(f"the gradient of {name} in step {trainer.global_step + 1:,} is not finite")


def _is_finite(numbers: Tensor) -> bool:
    # By their sum, which reads numbers at the memory's speed and takes none, but can overflow by itself, else by each.
    total = numbers.sum(dtype=torch.promote_types(numbers.dtype, torch.float32)).item()
    return math.isfinite(total) or bool(numbers.isfinite().all())


def _weights(optimizer: Optimizer) -> Iterable[Tensor]:
    return (weight for group in optimizer.param_groups for weight in group["params"])


def _values(gradient: Tensor) -> Tensor:
    return gradient._values() if gradient.is_sparse else gradient

"""A loss or a gradient that is no number ends a training before it reaches the weights."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lit_l2softmax.errors import NonFiniteError


class StopOnNonFinite(Callback):
    """Ends a training at the first step whose loss or gradient is inf or NaN, and keeps such weights off the disk.

    On a CPU it looks before the optimiser steps. To look on a GPU, a step would have to wait for it: there the first
    such step is noted on the device, and looked up where a training waits anyway, which is before every record,
    validation and checkpoint. What is kept is of the steps before it on either.

    With half precision's scaled gradients an inf is no mistake: the scaler leaves that step out and scales less.

    Raises:
        NonFiniteError: naming the step and what is not finite in it.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._first: Tensor | None = None  # the number of the first such step, 0 for none; on the device

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier training."""
        self._losses = []
        self._first = None if pl_module.device.type == "cpu" else torch.zeros((), device=pl_module.device)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Looks at the loss of a batch."""
        if self._first is not None:
            self._losses.append(loss.detach())
        elif not loss.isfinite().all():
            raise NonFiniteError(f"the loss of step {trainer.global_step + 1:,} is {loss.item():g}")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Looks at the gradients of a step."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        weights = [] if scaler is not None else _weights(optimizer)
        gradients = [_values(weight.grad) for weight in weights if weight.grad is not None]
        if self._first is not None:
            self._note(trainer.global_step + 1, self._losses, gradients)
            self._losses = []
        elif not _are_finite(gradients):
            names = (name for name, weight in pl_module.named_parameters() if not _is_finite(weight.grad))
            raise NonFiniteError(
                f"the gradient of {next(names, 'a weight')} in step {trainer.global_step + 1:,} is not finite"
            )

    def _note(self, step: int, losses: list[Tensor], gradients: list[Tensor]) -> None:
        """Notes a step, unless an earlier one is; nothing waits for the device."""
        assert self._first is not None
        # The greatest magnitudes: sums and squares of finite numbers can overflow.
        greatest = torch._foreach_norm(gradients, float("inf")) if gradients else ()
        wrong = ~torch.stack([one.float() for one in (*losses, *greatest)]).isfinite().all()
        self._first = torch.where((self._first == 0) & wrong, step, self._first)

    def _look_up(self) -> None:
        if self._first is not None and (step := int(self._first)):
            raise NonFiniteError(f"the loss or a gradient of step {step:,} is not finite")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks up what was noted, where the batch's record waits for the device too."""
        if trainer._logger_connector.should_update_logs:
            self._look_up()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks up what was noted."""
        self._look_up()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps a checkpoint of weights that are not finite from being written, whatever has made them so."""
        self._look_up()
        for name, weight in pl_module.named_parameters():
            if not _is_finite(weight):
                raise NonFiniteError(f"{name} is not finite after step {trainer.global_step:,}")


def _weights(optimizer: Optimizer) -> Iterable[Tensor]:
    return (weight for group in optimizer.param_groups for weight in group["params"])


def _values(gradient: Tensor) -> Tensor:
    return gradient._values() if gradient.is_sparse else gradient


def _is_finite(tensor: Tensor | None) -> bool:
    return tensor is None or bool(_values(tensor).isfinite().all())


def _are_finite(tensors: list[Tensor]) -> bool:
    """Whether all numbers are: by their sums, which read them at the memory's speed but can overflow, else by each."""
    sums = [one.sum(dtype=torch.promote_types(one.dtype, torch.float32)) for one in tensors]
    return all(sum.isfinite() for sum in sums) or all(map(_is_finite, tensors))

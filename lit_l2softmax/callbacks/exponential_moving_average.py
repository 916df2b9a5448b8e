"""The moving average of the weights that TensorFlow's tutorials evaluate."""

from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

Order = Literal["after", "before"]


class ExponentialMovingAverage(WeightAveraging):
    """Averages a training's parameters as ``tf.train.ExponentialMovingAverage(decay, num_updates=global_step)`` does.

    The average starts from the initial weights. After t earlier steps it moves towards the weights by
    1 - min(decay, (1 + t) / (10 + t)), so that it follows them closely at first. Validations during a training see the
    averages, and so does the module when the training is over; a checkpoint holds them as its weights, and those they
    average as ``current_model_state``, from which a resumed training goes on.

    Args:
        decay: the most that is kept of the average in a step.
        order: whether a step's average is taken after its update or before it. The tutorial leaves that to chance: its
            averaging does not wait for its gradients.

    Raises:
        ValueError: on a decay outside (0, 1).

    Source: tensorflow/models, tutorials/image/cifar10/cifar10.py (2017), ``train``; tensorflow#2131 for the order.
    """

    def __init__(self, decay: float = 0.9999, order: Order = "after") -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of a moving average must be in (0, 1), got {decay}")
        super().__init__()
        self.decay, self.order = decay, order
        self._averages_shown = False  # whether the module holds the averages, and the averaged model the weights

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copies the initial weights when a training begins."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._averages_shown, self._latest_update_step = False, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the averages beside the weights: Lightning copies them before they are moved to their device."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)
        averaged = self._average_model.module
        self._averages: list[Tensor] = list(averaged.parameters())
        self._weights: list[Tensor] = list(pl_module.parameters())
        self._buffers = list(zip(averaged.buffers(), pl_module.buffers(), strict=True))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Averages the weights whose gradients have been taken."""
        if self.order == "before":
            self._update(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Averages the weights that a step has made, if this batch ended one."""
        if self.order == "after" and trainer.global_step > self._latest_update_step:
            self._update(trainer.global_step - 1)
            self._latest_update_step = trainer.global_step

    @torch.no_grad()
    def _update(self, earlier_steps: int) -> None:
        kept = min(self.decay, (1 + earlier_steps) / (10 + earlier_steps))
        torch._foreach_lerp_(self._averages, self._weights, 1 - kept)
        for copied, buffer in self._buffers:  # what a network keeps beside its parameters is never averaged
            copied.copy_(buffer)

    def _show(self, pl_module: LightningModule, averages: bool) -> None:
        if averages != self._averages_shown:
            self._swap_models(pl_module)
            self._averages_shown = averages

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets a training's validation see the averages."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._show(pl_module, averages=True)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the training its weights back."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._show(pl_module, averages=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the averages in the module, and the weights where a last checkpoint finds them."""
        self._show(pl_module, averages=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Puts the averages and the weights into a checkpoint, whichever of them the module holds."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._averages_shown:
            averages, weights = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = averages, weights

"""The moving average of the weights that TensorFlow's tutorials evaluate."""

from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from lit_l2softmax.schedules import averaging_decay

Order = Literal["after", "before"]


class ExponentialMovingAverage(WeightAveraging):
    """Averages a training's parameters as ``tf.train.ExponentialMovingAverage(decay, num_updates=global_step)`` does.

    The average starts from the initial weights. After t earlier steps it moves towards the weights by
    1 - min(decay, (1 + t) / (10 + t)), so that it follows them closely at first. It is kept in float32 at least: half
    types cannot hold what a step of it changes. Validations during a training see the averages, and so does the module
    when the training is over; a checkpoint holds them as its weights, and those they average as
    ``current_model_state``, from which a resumed training goes on.

    Args:
        decay: the most that is kept of the average in a step.
        order: whether a step's average is taken after its update or before it. The tutorial leaves that to chance: its
            averaging does not wait for its gradients.

    Raises:
        ValueError: on a decay outside (0, 1), or another order.

    Source: tensorflow/models, tutorials/image/cifar10/cifar10.py (2017), ``train``; tensorflow#2131 for the order.
    """

    def __init__(self, decay: float = 0.9999, order: Order = "after") -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of a moving average must be in (0, 1), got {decay}")
        if order not in get_args(Order):
            raise ValueError(f"the order of a moving average must be 'after' or 'before', got {order!r}")
        super().__init__()
        self.decay, self.order = decay, order
        self._hidden: list[Tensor] | None = None  # the weights, while the module shows their averages

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copies the initial weights when a training begins."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._hidden, self._latest_update_step = None, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the averages beside the weights: Lightning copies them before it moves and converts those."""
        assert self._average_model is not None
        averaged = self._average_model.to(pl_module.device).module
        self._weights: list[Tensor] = list(pl_module.parameters())
        self._averages: list[Tensor] = list(averaged.parameters())
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.data = average.data.to(torch.promote_types(weight.dtype, torch.float32))
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
        kept = averaging_decay(self.decay, earlier_steps)
        weights = [weight.to(average.dtype) for weight, average in zip(self._weights, self._averages, strict=True)]
        torch._foreach_lerp_(self._averages, weights, 1 - kept)
        for copied, buffer in self._buffers:  # what a network keeps beside its parameters is never averaged
            copied.copy_(buffer)

    @torch.no_grad()
    def _show_averages(self) -> None:
        if self._hidden is None:
            self._hidden = [weight.clone() for weight in self._weights]
            torch._foreach_copy_(self._weights, self._averages)

    @torch.no_grad()
    def _show_weights(self) -> None:
        if self._hidden is not None:
            torch._foreach_copy_(self._weights, self._hidden)
            self._hidden = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets a training's validation see the averages."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._show_averages()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the training its weights back."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._show_weights()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the averages in the module."""
        self._show_averages()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Puts the averages and the weights into a checkpoint, whichever of them the module shows."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._hidden is not None:
            hidden = {id(weight): kept for weight, kept in zip(self._weights, self._hidden, strict=True)}
            for name, weight in pl_module.named_parameters(remove_duplicate=False):
                checkpoint["current_model_state"][name] = hidden[id(weight)]

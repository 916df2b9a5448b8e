"""Every loss of a training step as a moving average, beside what it is."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.processes import average


class SmoothedLosses(Callback):
    """Logs ``train/<name>_smoothed`` for each of the ``losses`` that ``training_step`` returns by name.

    Args:
        decay: what is kept of the average in a step.
        debias: whether the average is divided by 1 - decay ** steps. The tutorial's starts at zero and is not, so its
            first dozens of values are too small.

    Raises:
        ValueError: on a decay outside [0, 1).
        ConfigError: at the first step, where that returns no ``losses``.

    Source: tensorflow/models, tutorials/image/cifar10/cifar10.py (2017), ``_add_loss_summaries``.
    """

    def __init__(self, decay: float = 0.9, debias: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of smoothed losses must be in [0, 1), got {decay}")
        self.decay, self.debias = decay, debias
        self._averages: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        """The averages so far, over all processes."""
        return {"averages": {name: average(one) for name, one in self._averages.items()}, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from them."""
        self._averages, self._steps = state_dict["averages"], state_dict["steps"]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds a batch's losses, and logs the averages where this step's record is kept."""
        if not outputs:
            return  # a training step that was skipped
        if "losses" not in outputs:
            raise ConfigError(f"SmoothedLosses: {type(pl_module).__name__}.training_step returns no 'losses' by name")
        logged = {}
        for name, loss in outputs["losses"].items():
            self._averages[name] = self.decay * self._averages.get(name, 0.0) + (1 - self.decay) * loss
            self._steps[name] = self._steps.get(name, 0) + 1
            share = 1 - self.decay ** self._steps[name] if self.debias else 1.0
            logged[f"train/{name}_smoothed"] = self._averages[name] / share
        if trainer._logger_connector.should_update_logs:
            pl_module.log_dict(logged, sync_dist=True)

"""A resumed training takes its options from the configuration, not from the checkpoint."""

import inspect
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class ConfiguredOptimizer(Callback):
    """Puts the configured options of optimisers and schedules back after a checkpoint has restored their state.

    PyTorch keeps options (learning rate, momentum, gamma) and progress (moments, step counts) in one state, so a
    restored checkpoint silently overrules the command line. Progress stays restored: a learning rate that a schedule
    had brought to a tenth of its start is a tenth of the new start.
    """

    def __init__(self) -> None:
        self._starts_before: list[list[float]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The learning rates this training was configured to start from."""
        return {"starts": [[_start(group) for group in groups] for groups in self._groups]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remembers those of the training that is resumed."""
        self._starts_before = state_dict["starts"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers what was configured; the optimisers' state is restored after this."""
        self._groups = [
            [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]
        self._schedules = [_options(config.scheduler) for config in trainer.lr_scheduler_configs]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts it back."""
        if self._starts_before is None:
            return
        for optimizer, configured, starts in zip(trainer.optimizers, self._groups, self._starts_before, strict=True):
            for group, options, start in zip(optimizer.param_groups, configured, starts, strict=True):
                progress = group["lr"] / start if start else 1.0
                group.update(options)
                group["lr"] = _start(options) * progress
        for config, options in zip(trainer.lr_scheduler_configs, self._schedules, strict=True):
            vars(config.scheduler).update(options)


def _start(group: dict[str, Any]) -> float:
    return float(group.get("initial_lr", group["lr"]))


def _options(scheduler: Any) -> dict[str, Any]:
    """What a schedule was constructed with, as far as it keeps it, and the learning rates it starts from."""
    names = {*inspect.signature(type(scheduler)).parameters, "base_lrs"} - {"optimizer", "last_epoch"}
    return {name: value for name, value in vars(scheduler).items() if name in names}

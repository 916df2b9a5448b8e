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

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers what was configured; the checkpoint is restored after this."""
        self._groups = [
            [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]
        self._schedules = [_options(config.scheduler) for config in trainer.lr_scheduler_configs]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts it back."""
        for optimizer, configured_groups in zip(trainer.optimizers, self._groups, strict=True):
            for group, configured in zip(optimizer.param_groups, configured_groups, strict=True):
                progress = group["lr"] / group["initial_lr"] if group.get("initial_lr") else 1.0
                group.update(configured)
                group["lr"] = group.get("initial_lr", group["lr"]) * progress
        for config, options in zip(trainer.lr_scheduler_configs, self._schedules, strict=True):
            vars(config.scheduler).update(options)


def _options(scheduler: Any) -> dict[str, Any]:
    """What a schedule was constructed with, as far as it keeps it, and the learning rates it starts from."""
    names = {*inspect.signature(type(scheduler)).parameters, "base_lrs"} - {"optimizer", "last_epoch"}
    return {name: value for name, value in vars(scheduler).items() if name in names}

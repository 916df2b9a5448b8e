"""Pictures of what a regression of a few numbers has learned."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lit_l2softmax import plots_of_regressions as plots
from lit_l2softmax.errors import ConfigError
from lit_l2softmax.loggers import RunWandbLogger

from .evaluating import evaluating


class FittedPlane(Callback):
    """Draws the training points and the plane through the origin that ``network.weight`` ``(D,)`` is."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks whether there is such a weight."""
        _weight(pl_module, self)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves ``plots/fitted_plane.png``."""
        if (path := _path(trainer, "fitted_plane")) is not None:
            weight = _weight(pl_module, self).detach().cpu()
            plots.save_fitted_plane(path, *_training_points(trainer), weight, f"after {trainer.global_step:,} steps")
            _record(trainer, path)


class Descent(Callback):
    """Draws the objective against ``network.weight``, a single number, with the way of the training on it."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers where the weight starts."""
        if (weight := _weight(pl_module, self)).numel() != 1:
            raise ConfigError(f"Descent draws a single weight, this network has {weight.numel()}")
        self._weights = [weight.detach().clone()]
        self._rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remembers the learning rate of the step."""
        self._rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remembers where the step led."""
        self._weights.append(_weight(pl_module, self).detach().clone())

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Saves ``plots/descent.png``."""
        if (path := _path(trainer, "descent")) is None:
            return
        inputs, targets = _training_points(trainer)
        weight, end = _weight(pl_module, self), self._weights[-1]

        def objective(values: Tensor) -> Tensor:
            losses = []
            for value in values:
                weight.copy_(value)
                losses.append(pl_module.objective(pl_module(inputs), targets)["loss"])
            weight.copy_(end)
            return torch.stack(losses)

        title = f"{trainer.global_step:,} steps of {type(trainer.optimizers[0]).__name__}"
        with evaluating(trainer, pl_module):
            plots.save_descent(path, torch.cat(self._weights), torch.tensor(self._rates), objective, title)
        _record(trainer, path)


class DecisionBorder(Callback):
    """Draws training points of two classes in the plane and the line where the output is at a level.

    Args:
        level: of the line; .5 lies half way between the targets 0 and 1.
    """

    def __init__(self, level: float = 0.5) -> None:
        self.level = level

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves ``plots/border.png``."""
        if (path := _path(trainer, "border")) is None:
            return
        inputs, targets = _training_points(trainer)
        with evaluating(trainer, pl_module):
            values = pl_module(plots.grid().to(pl_module.device)).float().cpu()
        title = f"output {self.level:g} after {trainer.global_step:,} steps"
        plots.save_borders(path, inputs, targets, [(title, values)], self.level)
        _record(trainer, path)


def _weight(module: LightningModule, asking: Callback) -> Tensor:
    weight = getattr(getattr(module, "network", None), "weight", None)
    if not isinstance(weight, Tensor):
        raise ConfigError(f"{type(asking).__name__} draws network.weight, which this network has not")
    return weight


def _path(trainer: Trainer, name: str) -> Path | None:
    if not trainer.loggers or not trainer.is_global_zero:
        return None
    return Path(trainer.log_dir or trainer.default_root_dir) / "plots" / f"{name}.png"


def _training_points(trainer: Trainer) -> tuple[Tensor, Tensor]:
    inputs, targets = trainer.datamodule.train  # type: ignore[attr-defined]  # its connector's
    return inputs, targets


def _record(trainer: Trainer, path: Path) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, RunWandbLogger):
            logger.log_pictures(f"plots/{path.stem}", [str(path)], [path.stem], trainer.global_step)

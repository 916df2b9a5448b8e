"""Pictures of what a regression of a few numbers has learned.

They are drawn when a training is over and its last checkpoint is saved.
"""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lit_l2softmax import plots_of_regressions as plots
from lit_l2softmax.errors import ConfigError
from lit_l2softmax.loggers import RunWandbLogger

from .evaluating import as_the_network_sees, evaluating
from .record_folder import record_folder


class FittedPlane(Callback):
    """Draws the training points and the plane through the origin that ``network.weight`` ``(D,)`` is."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks whether there is such a weight."""
        _weight(pl_module, self)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves ``plots/fitted_plane.png``."""
        if (path := _path(trainer, "fitted_plane")) is not None:
            weight = _weight(pl_module, self).detach().cpu()
            plots.save_fitted_plane(path, *_training_points(trainer), weight, f"after {trainer.global_step:,} steps")
            _record(trainer, path)


class Descent(Callback):
    """Draws the objective against ``network.weight`` ``(1,)``, with the way of the training on it."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks whether there is such a weight."""
        if (weight := _weight(pl_module, self)).numel() != 1:
            raise ConfigError(f"Descent draws a single weight, this network has {weight.numel()}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers where the weight starts, or goes on from."""
        self._first = trainer.global_step
        self._weights = [_weight(pl_module, self).detach().clone()]
        self._rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Remembers the learning rate of the step."""
        self._rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remembers where the step led, if this batch ended one."""
        if len(self._rates) == len(self._weights):
            self._weights.append(_weight(pl_module, self).detach().clone())

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Saves ``plots/descent.png``."""
        if (path := _path(trainer, "descent")) is None:
            return
        inputs, targets = (as_the_network_sees(trainer, pl_module, part) for part in _training_points(trainer))
        weight, end = _weight(pl_module, self), self._weights[-1]

        def objective(values: Tensor) -> Tensor:
            losses = []
            with evaluating(trainer, pl_module):
                for value in values:
                    weight.copy_(value)
                    losses.append(pl_module.objective(pl_module(inputs), targets)["loss"])
                weight.copy_(end)
            return torch.stack(losses).float().cpu()

        weights = torch.cat(self._weights).float().cpu()
        title = f"{len(self._rates):,} steps of {type(trainer.optimizers[0]).__name__}"
        plots.save_descent(path, weights, torch.tensor(self._rates), objective, title, self._first)
        _record(trainer, path)


class DecisionBorder(Callback):
    """Draws training points of two classes in the plane and the line where the output is at a level.

    Args:
        level: of the line; .5 lies half way between the targets 0 and 1.
    """

    def __init__(self, level: float = 0.5) -> None:
        self.level = level

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks whether the network takes points of the plane, and whether the data are such points."""
        inputs, _ = _training_points(trainer)
        if inputs.shape[1:] != (2,):
            raise ConfigError(f"DecisionBorder draws points of the plane, these inputs are {tuple(inputs.shape)}")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves ``plots/border.png``."""
        if (path := _path(trainer, "border")) is None:
            return
        inputs, targets = _training_points(trainer)
        grid = as_the_network_sees(trainer, pl_module, plots.grid())
        with evaluating(trainer, pl_module):
            values = pl_module(grid).float().cpu()
        title = f"output {self.level:g} after {trainer.global_step:,} steps"
        plots.save_borders(path, inputs, targets, [(title, values)], self.level)
        _record(trainer, path)


def _weight(module: LightningModule, asking: Callback) -> Tensor:
    weight = getattr(getattr(module, "network", None), "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 1:
        raise ConfigError(f"{type(asking).__name__} draws network.weight, a row of numbers, which this network has not")
    return weight


def _path(trainer: Trainer, name: str) -> Path | None:
    folder = record_folder(trainer)
    return None if folder is None else folder / "plots" / f"{name}.png"


def _training_points(trainer: Trainer) -> tuple[Tensor, Tensor]:
    data: Any = getattr(trainer, "datamodule", None)
    if not hasattr(data, "train"):
        raise ConfigError(f"{type(data).__name__} has no training points that could be drawn")
    inputs, targets = data.train
    return inputs, targets


def _record(trainer: Trainer, path: Path) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, RunWandbLogger):
            logger.log_pictures(f"plots/{path.stem}", [str(path)], [path.stem], trainer.global_step)

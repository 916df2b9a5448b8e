"""The lines a tutorial prints while it trains, in its own words."""

import string
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.messages import nearest_or_all

from .evaluating import evaluating

OF_TRAINING = {"step": 0, "epoch": 0, "learning_rate": 0.0, "loss_on_all": 0.0}
OF_STEP = OF_TRAINING | {"batch": 0, "loss": 0.0, "accuracy": 0.0}


class TutorialLines(Callback):
    """Prints a line every so many steps, its fields filled in.

    A line is a format string. ``{step}``, ``{epoch}`` and ``{batch}`` count from 0; ``{loss}`` is the training batch's,
    before the step's update, and ``{accuracy}`` too, measured without dropout; ``{learning_rate}`` is the next step's;
    ``{loss_on_all}`` is the objective of all training rows after the update; and ``{network.weight}`` is the parameter
    of that name after the update, which takes a format such as ``:.6f`` where it is one number.

    Args:
        line: what is printed.
        every_n_steps: steps from one line to the next; the first is that of step 0.
        each_epoch: whether steps are counted anew in each epoch.
        last: is printed when the training is over; nothing when None.

    Raises:
        ValueError: on a number of steps below 1 or a line that is no format string.
        ConfigError: when a training begins, on a field that does not exist or not in that format, or ``loss_on_all`` of
            a module without ``objective``.
    """

    def __init__(self, line: str, every_n_steps: int, each_epoch: bool = False, last: str | None = None) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps, self.each_epoch = every_n_steps, each_epoch
        self.line, self.last = _Line(line), None if last is None else _Line(last)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tries the lines."""
        self.line.check(pl_module, OF_STEP)
        if self.last is not None:
            self.last.check(pl_module, OF_TRAINING)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures what the update is going to change."""
        count = batch_idx if self.each_epoch else trainer.global_step
        self._step = trainer.global_step if count % self.every_n_steps == 0 else None
        if self._step is not None and "accuracy" in self.line.fields:
            self._accuracy = _accuracy(trainer, pl_module, batch)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Prints the line of this step, if it has one and the batch ended it."""
        if self._step is None or trainer.global_step == self._step:
            return
        values = _values(trainer, pl_module, self.line.fields) | {"step": self._step, "batch": batch_idx}
        if "loss" in self.line.fields:
            values["loss"] = float(outputs["loss"])
        if "accuracy" in self.line.fields:
            values["accuracy"] = self._accuracy
        _print(self.line.filled(values))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the last line."""
        if self.last is not None:
            _print(self.last.filled(_values(trainer, pl_module, self.last.fields)))


class _Line(string.Formatter):
    """A format string in which a dot belongs to a field's name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.fields = {name for _, name, _, _ in self.parse(text) if name is not None}

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return kwargs[field_name], field_name

    def filled(self, values: Mapping[str, Any]) -> str:
        return self.vformat(self.text, (), values)

    def check(self, module: LightningModule, known: Mapping[str, Any]) -> None:
        values = {**known, **_parameters(module)}
        for name in self.fields:
            if name not in values:
                raise ConfigError(f"TutorialLines: there is no field {name!r} here{nearest_or_all(name, values)}")
        if "loss_on_all" in self.fields and not hasattr(module, "objective"):
            raise ConfigError(f"TutorialLines: {type(module).__name__} has no objective for 'loss_on_all'")
        try:
            self.filled(values)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"TutorialLines: {self.text!r} cannot be filled in: {error}") from error


def _parameters(module: LightningModule) -> dict[str, Any]:
    """Each parameter as a number where it is one, else as numpy prints it."""
    values = {name: weight.detach().cpu() for name, weight in module.named_parameters()}
    return {name: value.item() if value.numel() == 1 else value.numpy() for name, value in values.items()}


def _values(trainer: Trainer, module: LightningModule, fields: set[str]) -> dict[str, Any]:
    values = {
        **_parameters(module),
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
        "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
    }
    if "loss_on_all" in fields:
        values["loss_on_all"] = _loss_on_all(trainer, module)
    return values


@rank_zero_only
def _print(line: str) -> None:
    print(line, flush=True)


def _accuracy(trainer: Trainer, module: LightningModule, batch: tuple[Tensor, Tensor]) -> float:
    with evaluating(trainer, module):
        right = module.predict_step(batch, 0)["prediction"] == batch[1]
    return float(right.float().mean())


def _loss_on_all(trainer: Trainer, module: Any) -> float:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]  # its connector's
    batches = [data.transfer_batch_to_device(batch, module.device, 0) for batch in data.train_dataloader()]
    inputs, targets = (
        torch.cat(part) for part in zip(*(data.on_after_batch_transfer(b, 0) for b in batches), strict=True)
    )
    with evaluating(trainer, module):
        return float(module.objective(module(inputs), targets)["loss"])

"""The lines a tutorial prints while it trains, in its own words."""

import string
from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.messages import nearest_or_all
from lit_l2softmax.processes import average, share, weighted

from .evaluating import as_the_network_sees, evaluating

OF_TRAINING = {"step": 0, "epoch": 0, "learning_rate": 0.0, "loss_on_all": 0.0}
OF_STEP = OF_TRAINING | {"batch": 0, "loss": 0.0, "accuracy": 0.0}


class TutorialLines(Callback):
    """Prints a line every so many steps, its fields filled in.

    A line is a format string. ``{step}``, ``{epoch}`` and ``{batch}`` count from 0; ``{loss}`` is the training batch's,
    before the step's update, and so is, where there are classes, ``{accuracy}``, measured without dropout;
    ``{learning_rate}`` is the next step's; ``{loss_on_all}`` is the objective, after the update, of all training rows,
    taken at once and so better few; and ``{network.weight}`` is the parameter of that name after the update, which
    takes a format such as ``:.6f`` where it is one number. Of batches whose gradients are accumulated the last one
    speaks.

    Args:
        line: what is printed.
        every_n_steps: steps from one line to the next; the first is that of step 0.
        each_epoch: whether steps are counted anew in each epoch.
        last: is printed when the training is over; nothing when None.

    Raises:
        ValueError: on a number of steps below 1 or a line that is no format string.
        ConfigError: when a training begins, on a field that does not exist or not in that format, or ``loss_on_all`` of
            a module without ``objective`` or data without ``train``.
    """

    prints_progress = True

    def __init__(self, line: str, every_n_steps: int, each_epoch: bool = False, last: str | None = None) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps, self.each_epoch, self._first = every_n_steps, each_epoch, 0
        self.line, self.last = _Line(line), None if last is None else _Line(last)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tries the lines."""
        self.line.check(trainer, pl_module, OF_STEP)
        if self.last is not None:
            self.last.check(trainer, pl_module, OF_TRAINING)

    def state_dict(self) -> dict[str, int]:
        """The first step of the epoch, which a training that goes on in its middle would not know."""
        return {"first": self._first}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on in that epoch."""
        self._first = state_dict["first"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the epoch's first step."""
        self._first = trainer.global_step if self.each_epoch else 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures what the update is going to change."""
        step = trainer.global_step
        self._step = step if (step - self._first) % self.every_n_steps == 0 else None
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
            # Lightning divides the other one where it accumulates.
            values["loss"] = float(average(outputs["losses"]["loss"]))
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

    def check(self, trainer: Trainer, module: LightningModule, known: Mapping[str, Any]) -> None:
        values = {**known, **_parameters(module, dict(module.named_parameters()))}
        if getattr(module, "num_classes", None) is None:
            values.pop("accuracy", None)
        for name in self.fields:
            if name not in values:
                raise ConfigError(f"TutorialLines: there is no field {name!r} here{nearest_or_all(name, values)}")
        data = getattr(trainer, "datamodule", None)
        if "loss_on_all" in self.fields and not (hasattr(module, "objective") and hasattr(data, "train")):
            names = f"{type(module).__name__} or {type(data).__name__}"
            raise ConfigError(f"TutorialLines: {names} has no objective or no training rows for 'loss_on_all'")
        try:
            self.filled(values)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ConfigError(f"TutorialLines: {self.text!r} cannot be filled in: {error}") from error


def _parameters(module: LightningModule, names: Iterable[str]) -> dict[str, Any]:
    """Parameters as numbers where each is one, else as numpy, which has no bfloat16, prints them."""
    values = {name: module.get_parameter(name).detach().cpu() for name in names}
    values = {name: value.float() if value.itemsize < 4 else value for name, value in values.items()}
    return {name: value.item() if value.numel() == 1 else value.numpy() for name, value in values.items()}


def _values(trainer: Trainer, module: LightningModule, fields: set[str]) -> dict[str, Any]:
    known = dict(module.named_parameters())
    values = {
        **_parameters(module, fields & known.keys()),
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
    return float(average(weighted(right.float().mean(), share(len(right), right.device))))


def _loss_on_all(trainer: Trainer, module: Any) -> float:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]  # its connector's
    rows = tuple(as_the_network_sees(trainer, module, part) for part in data.train)
    inputs, targets = data.on_after_batch_transfer(rows, 0)
    with evaluating(trainer, module):
        return float(module.objective(module(inputs), targets)["loss"])

"""The training procedure of a regression: any network with one output a row, any loss of outputs and targets."""

from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from .errors import DataError
from .penalties import WeightPenalty, penalised
from .processes import place, share, weighted


class LitRegression(LightningModule):
    """Trains ``loss(network(inputs), targets)``; calling it returns the outputs.

    The optimiser is the command line's ``--optimizer`` and ``--lr_scheduler``; Python users assign
    ``configure_optimizers`` or subclass.

    Args:
        network: maps a batch of inputs to ``(N,)`` or ``(N, 1)``.
        loss: a module of outputs and targets, both ``(N,)`` and of the outputs' dtype, such as ``torch.nn.MSELoss``.
        penalty: is added to the loss that is minimised.
        num_classes: C, where the targets are classes 0 to C - 1 taken for numbers: the class that is nearest to an
            output is then its prediction, and accuracy is measured. None where targets are just numbers.

    Attributes:
        validation_metrics: what a checkpoint can be selected by, and which of its extremes is the best.
        says: what ``predict_step`` returns by name, in words.

    Raises:
        ValueError: where the network has another number of outputs than one, num_classes is below 2 or a penalised
            weight does not exist.

    Metrics: every ``log_every_n_steps`` steps ``train/loss``, ``train/learning_rate`` and, of classes,
    ``train/accuracy``; with a penalty also ``train/data_loss`` and ``train/penalty/*``, whose sum is the loss.
    ``val/*`` and ``test/*`` are means over all rows, also of a loss that training sums up, without a penalty;
    ``*/images``, or what the data's ``row_name`` says, is how many those are.
    """

    says: ClassVar[dict[str, str]] = {
        "output": "of the network",
        "prediction": "the number of the nearest class; where there are no classes, the output",
    }

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        penalty: WeightPenalty | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if (given := getattr(network, "out_features", 1)) != 1:
            raise ValueError(f"the network gives {given} outputs, a regression wants one")
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.network, self.loss, self.num_classes = network, loss, num_classes
        if penalty is not None:
            penalty.check(self)
        self.penalty = penalty
        self.validation_metrics = {"val/loss": "min"}
        if num_classes is not None:
            self.validation_metrics["val/accuracy"] = "max"
            self.accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs ``(N,)``, float32 at least, of a batch of inputs."""
        outputs: Tensor = self.network(inputs)
        return outputs.reshape(inputs.shape[0]).to(torch.promote_types(outputs.dtype, torch.float32))

    def objective(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """What is minimised, as ``loss``, behind the parts it is the sum of where there is a penalty; 0-d each.

        Raises:
            DataError: on a target that is none of the classes, where there are classes; on a CUDA device this is an
                assertion there, which waits for nothing.
        """
        return penalised("data_loss", self._data_loss(outputs, targets), self.penalty, self)

    def _data_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self._check(targets)
        loss: Tensor = self.loss(outputs, targets.to(outputs.dtype))
        return loss

    @property
    def _sums(self) -> bool:
        return getattr(self.loss, "reduction", "mean") == "sum"

    def _check(self, targets: Tensor) -> None:
        if self.num_classes is None or not len(targets):
            return
        least, greatest = targets.aminmax()
        message = f"a label is none of the {self.num_classes} classes"
        if targets.is_cuda:
            inside = (least >= 0) & (greatest < self.num_classes)
            torch._assert_async(inside, message)  # asked on the device, or every step would wait for it
        elif least < 0 or greatest >= self.num_classes:
            raise DataError(f"{message}: labels lie between {least:g} and {greatest:g}")

    def _classes(self, outputs: Tensor) -> Tensor:
        assert self.num_classes is not None
        return outputs.round().clamp(0, self.num_classes - 1).long()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        """The ``loss`` of a batch, and by name, detached, all ``losses`` that are added up in it."""
        inputs, targets = batch
        outputs = self(inputs)
        loss = self._data_loss(outputs, targets)
        if (size := place().size) > 1:
            # Their average is what is minimised: of sums the sum, of means the mean over all rows.
            loss = loss * size if self._sums else weighted(loss, share(len(targets), outputs.device))
        objective = penalised("data_loss", loss, self.penalty, self)
        losses = {name: term.detach() for name, term in objective.items()}
        # As in LitClassification: a logging call costs more than a step of a small network.
        if self.trainer._logger_connector.should_update_logs:
            self.log("train/loss", losses["loss"], prog_bar=True, sync_dist=True)
            figures = {f"train/{name}": term for name, term in losses.items() if name != "loss"}
            if self.num_classes is not None:
                right = (self._classes(outputs) == targets).float().mean()
                figures["train/accuracy"] = weighted(right, share(len(targets), outputs.device))
            figures["train/learning_rate"] = torch.as_tensor(self.trainer.optimizers[0].param_groups[0]["lr"])
            self.log_dict(figures, sync_dist=True)
        return {"loss": objective["loss"], "losses": losses}

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        inputs, targets = batch
        outputs: Tensor = self(inputs)
        rows = len(targets)
        loss = self._data_loss(outputs, targets)
        if not rows:  # another process has the rows of this batch
            loss = torch.zeros_like(loss)
        elif self._sums:
            loss = loss / rows
        self.log(f"{stage}/loss", loss, on_epoch=True, prog_bar=True, batch_size=rows, sync_dist=True)
        if self.num_classes is not None:
            if rows:
                self.accuracy.update(self._classes(outputs), targets.long())
            self.log(f"{stage}/accuracy", self.accuracy, on_epoch=True, prog_bar=True)
        row = getattr(getattr(self.trainer, "datamodule", None), "row_name", "image")
        self.log(f"{stage}/{row}s", float(rows), on_epoch=True, reduce_fx="sum", sync_dist=True)
        return outputs

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Adds a batch to ``val/*``, or to what the data say they validate on; returns its outputs ``(N,)``."""
        data = getattr(self.trainer, "datamodule", None)
        return self._evaluate(batch, getattr(data, "validation_name", "val"))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Adds a batch to ``test/*``; returns its outputs ``(N,)``."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """What the network says.

        Returns:
            ``output`` ``(N,)``, and ``prediction`` ``(N,)``: the nearest class, int64, or the output itself.
        """
        inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
        outputs = self(inputs)
        return {"output": outputs, "prediction": outputs if self.num_classes is None else self._classes(outputs)}

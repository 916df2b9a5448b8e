"""The training procedure of a classifier: any network that gives features, any head that gives a loss and logits."""

from typing import Any, ClassVar, Protocol, cast

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from .callbacks import MistakeReport


class Head(Protocol):
    """What ``layers`` promises of its heads; N rows, D features, C classes."""

    num_classes: int
    alpha: float | Tensor

    def __call__(self, features: Tensor, target: Tensor) -> Tensor: ...
    def constrain(self, features: Tensor) -> Tensor: ...
    def logits(self, features: Tensor) -> Tensor: ...


class LitClassification(LightningModule):
    """Trains ``head(network(images), labels)`` and measures accuracy by the head's logits.

    The optimiser is the command line's ``--optimizer`` and ``--lr_scheduler``; Python users assign
    ``configure_optimizers`` or subclass.

    Args:
        network: maps a batch of inputs to features ``(N, D)``.
        head: a module that keeps the promises of :class:`Head`.

    Attributes:
        validation_metrics: what a checkpoint can be selected by, and which of its extremes is the best.

    Metrics: every ``log_every_n_steps`` steps ``train/loss`` and ``train/accuracy`` of the batch,
    ``train/feature_norm`` (the mean length of its features before the constraint), ``train/alpha`` and
    ``train/learning_rate``; ``val/*`` and ``test/*`` are means over all samples, ``*/images`` how many those are.
    """

    validation_metrics: ClassVar[dict[str, str]] = {"val/accuracy": "max", "val/loss": "min"}

    def __init__(self, network: nn.Module, head: nn.Module) -> None:
        super().__init__()
        if (given := getattr(network, "out_features", None)) != (wanted := getattr(head, "in_features", given)):
            raise ValueError(f"the network gives {given} features, the head wants {wanted}")
        self.network = network
        self.head = head
        self.val_accuracy = MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)
        self.test_accuracy = MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)

    @property
    def num_classes(self) -> int:
        """C."""
        return self._head.num_classes

    @property
    def _head(self) -> Head:
        return cast(Head, self.head)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The mean loss of a batch."""
        images, labels = batch
        features = self.network(images)
        loss = self._head(features, labels)
        # A logging call costs a tenth of a step of a small network, so only steps whose record is kept make one. Which
        # these are is for Lightning to say: after a resumption its count of batches and global_step may differ.
        if self.trainer._logger_connector.should_update_logs:
            self._record(features.detach(), labels, loss.detach())
        return loss

    @torch.no_grad()
    def _record(self, features: Tensor, labels: Tensor, loss: Tensor) -> None:
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict(
            {
                "train/accuracy": (self._head.logits(features).argmax(1) == labels).float().mean(),
                "train/feature_norm": features.float().norm(dim=1).mean(),
                "train/alpha": torch.as_tensor(self._head.alpha),
                "train/learning_rate": torch.as_tensor(self.trainer.optimizers[0].param_groups[0]["lr"]),
            }
        )

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str, accuracy: Metric) -> Tensor:
        images, labels = batch
        features = self.network(images)
        logits = self._head.logits(features)
        accuracy.update(logits, labels)
        self.log(f"{stage}/loss", self._head(features, labels), on_epoch=True, prog_bar=True, batch_size=len(labels))
        self.log(f"{stage}/accuracy", accuracy, on_epoch=True, prog_bar=True)
        self.log(f"{stage}/images", float(len(labels)), on_epoch=True, reduce_fx="sum")
        return logits

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Adds a batch to ``val/loss`` and ``val/accuracy``."""
        self._evaluate(batch, "val", self.val_accuracy)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Adds a batch to ``test/loss`` and ``test/accuracy``; returns its logits ``(N, C)``."""
        return self._evaluate(batch, "test", self.test_accuracy)

    def configure_callbacks(self) -> list[Callback]:
        """What belongs to every classification."""
        return [MistakeReport()]

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """What the classifier sees and what it says.

        Returns:
            ``features`` ``(N, D)`` after the head's constraint, ``probability`` ``(N, C)`` and ``prediction`` ``(N,)``,
            int64.
        """
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        features = self.network(images)
        probability = self._head.logits(features).softmax(1)
        return {
            "features": self._head.constrain(features),
            "probability": probability,
            "prediction": probability.argmax(1),
        }

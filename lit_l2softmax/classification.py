"""The training procedure of a classifier: any network that gives features, any head that gives a loss and logits."""

from typing import Any, ClassVar, Literal, Protocol, cast

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn
from torchmetrics.classification import BinaryCalibrationError, MulticlassAccuracy

from .callbacks import ExponentialMovingAverage, MistakeReport
from .class_parallel_strategy import ClassParallelStrategy
from .errors import ConfigError, DataError
from .layers import IGNORED, MostProbable, most_probable
from .penalties import WeightPenalty, penalised
from .processes import place, share, weighted


class Head(Protocol):
    """What ``layers`` promises of its heads; N rows, D features, C classes."""

    num_classes: int
    alpha: float | Tensor
    spreads_classes: ClassVar[bool]

    def __call__(self, features: Tensor, target: Tensor) -> Tensor: ...
    def constrain(self, features: Tensor) -> Tensor: ...
    def logits(self, features: Tensor) -> Tensor: ...
    def most_probable(self, features: Tensor) -> MostProbable: ...
    def counted(self, target: Tensor) -> Tensor: ...


class LitClassification(LightningModule):
    """Trains ``head(network(images), labels)`` and measures accuracy by the head's logits, which calling it returns.

    The optimiser is the command line's ``--optimizer`` and ``--lr_scheduler``; Python users assign
    ``configure_optimizers`` or subclass.

    Args:
        network: maps a batch of inputs to features ``(N, D)``.
        head: a module that keeps the promises of :class:`Head`.
        penalty: is added to the loss that is minimised, as weight decay is in TensorFlow's tutorials.
        ema_decay: what is evaluated is the moving average of the weights, see ``ExponentialMovingAverage``; the weights
            themselves when None.
        ema_order: whether the average of a step is taken after its update or before it.
        compile_network: ``torch.compile``'s mode for the network, ``"reduce-overhead"`` being CUDA graphs; the names of
            weights in checkpoints stay.

    Attributes:
        validation_metrics: what a checkpoint can be selected by, and which of its extremes is the best.
        says: what ``predict_step`` returns by name, in words.

    Raises:
        ValueError: where the head does not fit the network, or a penalised weight does not exist.

    Metrics: every ``log_every_n_steps`` steps ``train/loss`` and ``train/accuracy`` of the batch,
    ``train/feature_norm`` (the mean length of its features before the constraint), ``train/alpha`` and
    ``train/learning_rate``; with a penalty also ``train/cross_entropy`` and ``train/penalty/*``, whose sum is the loss.
    ``val/*`` and ``test/*`` are means over all samples, without a penalty, ``*/images`` how many those are;
    ``*/calibration_error`` is how far the probability of what is predicted is from the share that is right, both of
    fifteen equal bins of that probability, weighted by their samples (arXiv:1706.04599). Data that validate on
    something else say so by a ``validation_name``, which is then the metrics'.
    """

    validation_metrics: ClassVar[dict[str, str]] = {"val/accuracy": "max", "val/loss": "min"}
    says: ClassVar[dict[str, str]] = {
        "features": "what the classifier sees, behind the constraint",
        "probability": "of each class",
        "prediction": "the number of the most probable class",
    }

    def __init__(
        self,
        network: nn.Module,
        head: nn.Module,
        penalty: WeightPenalty | None = None,
        ema_decay: float | None = None,
        ema_order: Literal["after", "before"] = "after",
        compile_network: Literal["default", "reduce-overhead", "max-autotune"] | None = None,
    ) -> None:
        super().__init__()
        if (given := getattr(network, "out_features", None)) != (wanted := getattr(head, "in_features", given)):
            raise ValueError(f"the network gives {given} features, the head wants {wanted}")
        self.network = network
        self.head = head
        if penalty is not None:
            penalty.check(self)
        self.penalty = penalty
        self.ema_decay, self.ema_order = ema_decay, ema_order
        self.configure_callbacks()  # refuses a decay before anything is made
        if compile_network is not None:
            network.compile(mode=compile_network)
        self.accuracy = MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)
        # That of the classes predicted, of which nothing but their probability is asked, and whether they are right.
        self.calibration_error = BinaryCalibrationError(n_bins=15, validate_args=False)

    @property
    def num_classes(self) -> int:
        """C."""
        return self._head.num_classes

    @property
    def class_names(self) -> list[str]:
        """What the classes are called: by the data of the trainer, else by their numbers."""
        data = getattr(self._trainer, "datamodule", None)
        return list(getattr(data, "class_names", None) or map(str, range(self.num_classes)))

    @property
    def _head(self) -> Head:
        return cast(Head, self.head)

    def _loss(self, features: Tensor, labels: Tensor) -> Tensor:
        try:
            return self._head(features, labels)
        except IndexError as error:  # the operators' word and torch's
            raise DataError(f"a label is none of the {self.num_classes} classes: {error}") from error

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, C)`` of a batch of inputs."""
        return self._head.logits(self.network(images))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        """The mean ``loss`` of a batch, and by name, detached, all ``losses`` that are added up in it."""
        images, labels = batch
        features = self.network(images)
        loss = self._loss(features, labels)
        if place().size > 1:
            loss = weighted(loss, share(self._head.counted(labels), labels.device))
        objective = penalised("cross_entropy", loss, self.penalty, self)
        losses = {name: term.detach() for name, term in objective.items()}
        # A logging call costs a tenth of a step of a small network, so only steps whose record is kept make one. Which
        # these are is for Lightning to say: after a resumption its count of batches and global_step may differ.
        if self.trainer._logger_connector.should_update_logs:
            self._record(features.detach(), labels, losses)
        return {"loss": objective["loss"], "losses": losses}

    @torch.no_grad()
    def _record(self, features: Tensor, labels: Tensor, losses: dict[str, Tensor]) -> None:
        self.log("train/loss", losses["loss"], prog_bar=True, sync_dist=True)
        mine = share((labels != IGNORED).sum(), labels.device)
        right = (self._head.most_probable(features).classes == labels)[labels != IGNORED]
        self.log("train/accuracy", weighted(right.float().mean(), mine), prog_bar=True, sync_dist=True)
        self.log_dict(
            {f"train/{name}": term for name, term in losses.items() if name != "loss"}
            | {
                "train/feature_norm": weighted(features.float().norm(dim=1)[labels != IGNORED].mean(), mine),
                "train/alpha": torch.as_tensor(self._head.alpha),
                "train/learning_rate": torch.as_tensor(self.trainer.optimizers[0].param_groups[0]["lr"]),
            },
            sync_dist=True,
        )

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        images, labels = batch
        features = self.network(images)
        loss = self._loss(features, labels)
        # Of classes that are spread over processes there are too many for a score of each.
        logits = None if self._head.spreads_classes else self._head.logits(features)
        classes, probability = self._head.most_probable(features) if logits is None else most_probable(logits)
        if len(labels):
            self.accuracy.update(classes, labels)
            # torchmetrics gives a probability of exactly 1 a bin of its own.
            self.calibration_error.update(probability.float().clamp_max(1 - 2**-24), classes == labels)
        else:  # other processes have the rows of this batch
            loss = torch.zeros_like(loss)
        self.log(f"{stage}/loss", loss, on_epoch=True, prog_bar=True, batch_size=len(labels), sync_dist=True)
        self.log(f"{stage}/accuracy", self.accuracy, on_epoch=True, prog_bar=True)
        self.log(f"{stage}/calibration_error", self.calibration_error, on_epoch=True)
        self.log(f"{stage}/images", float(len(labels)), on_epoch=True, reduce_fx="sum", sync_dist=True)
        return classes if logits is None else logits

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Adds a batch to ``val/loss`` and ``val/accuracy``, or to the data's ``validation_name``; as a test step's."""
        data = getattr(self.trainer, "datamodule", None)
        return self._evaluate(batch, getattr(data, "validation_name", "val"))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Adds a batch to ``test/loss`` and ``test/accuracy``; returns its logits ``(N, C)``, of a head whose classes
        are spread over processes the classes predicted, ``(N,)``.
        """
        return self._evaluate(batch, "test")

    def configure_callbacks(self) -> list[Callback]:
        """What belongs to every classification, and the average of the weights where one is asked for."""
        callbacks: list[Callback] = [] if self._head.spreads_classes else [MistakeReport()]  # which wants logits
        if self.ema_decay is not None:
            callbacks.append(ExponentialMovingAverage(self.ema_decay, self.ema_order))
        return callbacks

    def setup(self, stage: str) -> None:
        """Refuses to train shards of classes as if they were the same weights."""
        strategy = self.trainer.strategy
        if (
            self._head.spreads_classes
            and self.trainer.world_size > 1
            and not isinstance(strategy, ClassParallelStrategy)
        ):
            raise ConfigError("the head's classes are spread over processes: --trainer.strategy=class_parallel")

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

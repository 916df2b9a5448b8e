"""The accuracy that Paddle's tutorial evaluates: a mean of means."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.processes import share, weighted


class UnweightedAccuracy(Callback):
    """Logs ``*/accuracy_unweighted``, in which a batch counts as much as any other, however few rows it has.

    It is for comparing with the tutorial's ``evaluation``; ``*/accuracy`` counts rows. It wants a module whose steps of
    validation and test return logits ``(N, C)``, and batches of inputs and labels.

    Raises:
        ConfigError: at the first batch, where they return something else.

    Source: Paddle, "zero-basis deep learning", section 2.5, ``evaluation``.
    """

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a batch of the validation."""
        data = getattr(trainer, "datamodule", None)
        _add(pl_module, getattr(data, "validation_name", "val"), outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a batch of the test."""
        _add(pl_module, "test", outputs, batch)


def _add(module: LightningModule, stage: str, logits: Tensor, batch: tuple[Tensor, Tensor]) -> None:
    if logits.ndim != 2:
        raise ConfigError(f"UnweightedAccuracy wants logits, {type(module).__name__} gives a number a row")
    right = (logits.argmax(1) == batch[1]).float()
    accuracy = weighted(right.mean(), share(len(right), right.device))  # of the batch of all processes
    module.log(f"{stage}/accuracy_unweighted", accuracy, on_epoch=True, batch_size=1, sync_dist=True)

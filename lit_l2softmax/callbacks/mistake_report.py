"""What a test says beyond one number: the confusion matrix and the worst mistakes, in W&B and as pictures."""

from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from lit_l2softmax import plots
from lit_l2softmax.loggers import RunWandbLogger


class MistakeReport(Callback):
    """Draws the confusion matrix and the images whose true class got the least probability.

    It wants a module whose ``test_step`` returns the logits, ``(N, C)``, and whose ``class_names`` are C words, and
    batches of images and labels. Pictures go to ``plots/`` of the run; a trainer without a record gets none.

    Args:
        mistakes: how many images are shown at most.
    """

    def __init__(self, mistakes: int = 16) -> None:
        self.mistakes = mistakes

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        self._labels: list[Tensor] = []
        self._predictions: list[Tensor] = []
        self._worst: list[tuple[float, int, int, Tensor]] = []  # probability of the label, label, prediction, image

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps a batch's classes and its worst mistakes."""
        images, labels = batch
        predictions = outputs.argmax(1)
        self._labels.append(labels.cpu())
        self._predictions.append(predictions.cpu())
        (wrong,) = (predictions != labels).nonzero(as_tuple=True)
        right = outputs[wrong].float().softmax(1).gather(1, labels[wrong, None])[:, 0]
        for probability, row in zip(right.tolist(), wrong.tolist(), strict=True):
            self._worst.append((probability, int(labels[row]), int(predictions[row]), images[row].float().cpu()))
        self._worst = sorted(self._worst, key=lambda mistake: mistake[0])[: self.mistakes]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the pictures and logs both to W&B."""
        if not trainer.loggers or not trainer.is_global_zero:
            return
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "plots"
        labels, predictions = torch.cat(self._labels), torch.cat(self._predictions)
        names: list[str] = cast(Any, pl_module).class_names
        counts = multiclass_confusion_matrix(predictions, labels, len(names))
        wrong = int((labels != predictions).sum())
        plots.save_confusion_matrix(
            folder / "confusion_matrix.png", counts, names, f"{wrong:,} of {len(labels):,} test images are mistaken"
        )
        captions = [
            f"{names[label]},\ntaken for {names[taken]}\np({names[label]}) = {p:.3f}"
            for p, label, taken, _ in self._worst
        ]
        if self._worst:
            images = torch.stack([image for *_, image in self._worst])
            plots.save_grid(
                folder / "mistakes.png", images, captions, "test images whose class got the least probability"
            )
        for logger in trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                logger.log_confusion("test/confusion_matrix", labels.tolist(), predictions.tolist(), names)
                if self._worst:
                    arrays = [plots.displayable(image).movedim(0, -1).squeeze(-1).numpy() for *_, image in self._worst]
                    logger.log_pictures("test/mistakes", arrays, captions)

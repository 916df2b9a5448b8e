"""What a test says beyond one number: each class's accuracy, the confusion matrix and the worst mistakes."""

import math
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lit_l2softmax import mistakes, plots
from lit_l2softmax.loggers import RunWandbLogger
from lit_l2softmax.processes import gathered, in_order

from .record_folder import record_folder

_Mistaken = tuple[float, int, int, Tensor]  # probability of the label, label, prediction, image


class MistakeReport(Callback):
    """Draws the confusion matrix and the images whose true class got the least probability.

    It also records each class's accuracy, ``test/class_accuracy/<name>``, and leaves what its pictures show as files.
    Of more than 100 classes there is neither a matrix nor a figure for each, but the file of what was taken for what.

    It wants a module whose ``test_step`` returns the logits, ``(N, C)``, and whose ``class_names`` are C words, and
    batches of images and labels. Files and pictures go to ``plots/`` beside the trainer's record, which in a run is the
    run's folder; a trainer without a record gets none.

    Args:
        mistakes: how many images are shown at most.
    """

    MATRIX_CLASSES = 100

    def __init__(self, mistakes: int = 16) -> None:
        self.most = mistakes

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        self._labels: list[Tensor] = []
        self._predictions: list[Tensor] = []
        self._worst: list[_Mistaken] = []

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
        self._worst = _worst(self._worst)[: self.most]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes files and pictures, and logs what they show."""
        labels, predictions = (torch.cat(in_order(kept)) for kept in (self._labels, self._predictions))
        self._worst = _worst([one for process in gathered(self._worst) for one in process])[: self.most]
        if (folder := record_folder(trainer)) is None:
            return
        names: list[str] = cast(Any, pl_module).class_names
        confused = mistakes.confusion(labels, predictions, names)
        worst = [
            mistakes.Mistake(names[label], names[taken], probability, mistakes.thumbnail(image))
            for probability, label, taken, image in self._worst
        ]
        mistakes.write(folder, confused, worst)
        captions = [f"{one.true},\ntaken for {one.predicted}\np({one.true}) = {one.probability:.3f}" for one in worst]
        if worst:
            images = torch.stack([image for *_, image in self._worst])
            plots.save_grid(
                folder / "plots" / "mistakes.png", images, captions, "test images whose class got the least probability"
            )
        few = len(names) <= self.MATRIX_CLASSES
        if few:
            self._log_classes(trainer, confused)
            wrong = int((labels != predictions).sum())
            plots.save_confusion_matrix(
                folder / "plots" / "confusion_matrix.png",
                confused.matrix(),
                names,
                f"{wrong:,} of {len(labels):,} test images are mistaken",
            )
        for logger in trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                if few:
                    logger.log_confusion("test/confusion_matrix", labels.tolist(), predictions.tolist(), names)
                if worst:
                    arrays = [plots.pixels(image) for *_, image in self._worst]
                    logger.log_pictures("test/mistakes", arrays, captions)

    def _log_classes(self, trainer: Trainer, confused: mistakes.Confusion) -> None:
        recognised = zip(confused.names, confused.recognised(), strict=True)
        shares = {f"test/class_accuracy/{name}": right / images for name, (right, images) in recognised if images}
        for logger in trainer.loggers:
            logger.log_metrics(shares, trainer.global_step)


def _worst(mistaken: list[_Mistaken]) -> list[_Mistaken]:
    """By the probability of the label; what is not a number comes first."""
    return sorted(mistaken, key=lambda one: -1.0 if math.isnan(one[0]) else one[0])

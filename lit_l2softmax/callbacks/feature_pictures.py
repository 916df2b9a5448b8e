"""Where a classifier of two features puts the test images, and how long the features of easy and of hard ones are."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lit_l2softmax import plots_of_features as plots
from lit_l2softmax.errors import ConfigError
from lit_l2softmax.features import QUANTILES, angles, ease_names, lengths_by_ease
from lit_l2softmax.loggers import RunWandbLogger
from lit_l2softmax.processes import in_order

from .evaluating import evaluating
from .record_folder import record_folder


class FeaturePictures(Callback):
    """Draws the test images' features in the plane, and measures how tight their classes are.

    ``plots/features.png`` shows the features as the classifier sees them, on their ring where there is a constraint;
    ``plots/feature_norms.png`` how long they are before it, by the probability of an image's own class. A CSV file of
    the same name has the numbers of each. Recorded are ``test/within_class_angle`` and ``test/between_class_angle``,
    degrees (``features.Angles``), and ``test/angular_spread``, their ratio: the smaller, the tighter.

    It wants a module with a ``network`` and a ``head`` of two features.

    Args:
        images: how many images the first file holds and the picture shows, from the first on.

    Raises:
        ConfigError: at the start, on a head of other than two features.
    """

    def __init__(self, images: int = 2000) -> None:
        self.images = images

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Looks whether the features are of the plane."""
        wanted = getattr(getattr(pl_module, "head", None), "in_features", None)
        if wanted != 2:
            raise ConfigError(f"FeaturePictures draws features of the plane, this head takes {wanted}")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        self._kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # features, constrained, of its class, labels

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps a batch's features."""
        images, labels = batch
        head, network = (cast(Any, getattr(pl_module, name)) for name in ("head", "network"))
        with evaluating(trainer, pl_module):
            features = network(images)
            mine = head.logits(features).float().softmax(1).gather(1, labels[:, None])[:, 0]
            kept = features, head.constrain(features), mine, labels
        self._kept.append(cast(tuple[Tensor, Tensor, Tensor, Tensor], tuple(part.cpu() for part in kept)))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records how tight the classes are."""
        self._tested = [torch.cat(in_order(part)) for part in zip(*self._kept, strict=True)]
        features, _, _, labels = self._tested
        found = angles(features, labels)
        pl_module.log_dict(
            {
                "test/within_class_angle": found.within,
                "test/between_class_angle": found.between,
                "test/angular_spread": found.within / found.between,
            },
            sync_dist=True,
        )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes files and pictures."""
        if (folder := record_folder(trainer)) is None:
            return
        features, constrained, mine, labels = self._tested
        folder /= "plots"
        folder.mkdir(exist_ok=True)
        names: list[str] = cast(Any, pl_module).class_names
        called = [names[label] for label in labels[: self.images].tolist()]
        points = constrained[: self.images].double().numpy()
        rows = ((name, *(f"{number:.5g}" for number in point)) for name, point in zip(called, points, strict=True))
        _write(folder / plots.FEATURES_FILE, ("label", "x", "y"), rows)
        title = f"features of {len(called):,} test images"
        plots.save_features(folder / "features.png", points, called, names, title)

        groups = dict(zip(ease_names(), lengths_by_ease(features, mine), strict=True))
        _write(
            folder / plots.NORMS_FILE,
            ("probability", "images", *(f"q{quantile:g}" for quantile in QUANTILES)),
            ((name, of.images, *(f"{x:.5g}" for x in of.quantiles)) for name, of in groups.items() if of.images),
        )
        lengths = {f"{name}\n({of.images:,})": [of.quantiles] for name, of in groups.items() if of.images}
        plots.save_norms(folder / "feature_norms.png", lengths, "lengths before the head's constraint (images)")
        for logger in trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                pictures = [str(folder / f"{name}.png") for name in ("features", "feature_norms")]
                logger.log_pictures("test/features", pictures, ["features", "their lengths"], trainer.global_step)


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])

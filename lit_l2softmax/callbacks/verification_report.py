"""What a verification says beyond a few numbers: its ROC, and the cosines that it is of."""

import csv
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_l2softmax import plots_of_verification as plots
from lit_l2softmax.loggers import RunWandbLogger

from .record_folder import record_folder


class VerificationReport(Callback):
    """Draws ``plots/verification.png`` after a test and leaves its curve as ``plots/roc.csv``, TAR against FAR.

    It wants a module that has a ``curve`` and ``counts`` when a test is over. Files go beside the trainer's record,
    which in a run is the run's folder; a trainer without a record gets none, and neither does a test of features that
    are no numbers.
    """

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes file and picture."""
        tested = cast(Any, pl_module)
        folder = record_folder(trainer)
        if folder is None or tested.curve is None:
            return
        folder /= "plots"
        data = getattr(getattr(trainer, "datamodule", None), "title", "the test images")
        picture = folder / "verification.png"
        plots.save_verification(picture, tested.curve, tested.counts, f"pairs of {data}")
        with (folder / plots.ROC_FILE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["far", "tar"])
            writer.writerows((f"{far:.6g}", f"{tar:.6g}") for far, tar in zip(*plots.points(tested.curve), strict=True))
        for logger in trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                logger.log_pictures("test/verification", [str(picture)], [picture.stem], trainer.global_step)

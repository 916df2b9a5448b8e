"""The weights a training ends with, whatever it validated on the way."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer


class FinalCheckpoint(Callback):
    """Saves a checkpoint when training ends.

    ``ModelCheckpoint`` saves at validations only, so steps after the last one, or a training shorter than one interval,
    would leave nothing.

    Args:
        path: of the file, replaced if a validation has written it already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the file."""
        trainer.save_checkpoint(self.path)

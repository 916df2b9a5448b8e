"""The state a training has reached, whatever it selects on the way."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn


class LastCheckpoint(Checkpoint):
    """Saves a checkpoint at each validation of a training and when it ends.

    ``ModelCheckpoint`` saves its last one only where it saves a best one: a training that selects nothing, or has
    stopped improving, or is shorter than one interval, would leave nothing of its newest state.

    Args:
        path: of the file, replaced each time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the file after a validation of a training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the file."""
        trainer.save_checkpoint(self.path)

"""Progress on a terminal: Lightning's bar, less what says nothing here."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class TerminalProgress(RichProgressBar):
    """Lightning's bar, an epoch at a time, whose epochs are counted from one."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The metrics of the bar, without the end of the run's name that Lightning puts among them."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        # Lightning writes "Epoch 0/-2" where the number of steps is given and that of epochs is not.
        limit = self.trainer.max_epochs
        text = f"epoch {current_epoch + 1}" + (f" of {limit}" if limit is not None and limit > 0 else "")
        return text.ljust(len(self.validation_description))  # or the bars would jump when a validation begins

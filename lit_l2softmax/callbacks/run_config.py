"""What a run was told, kept with everything it leaves."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_l2softmax.loggers import RunWandbLogger
from lit_l2softmax.whole_files import write_whole


class RunConfig(Callback):
    """Writes the run's configuration into its folder and into every checkpoint, so that either alone can be used.

    Args:
        path: of the file, written when training is set up.
        key: of a checkpoint's dictionary.
        config: YAML, a plain string, which ``weights_only`` loading accepts.
    """

    def __init__(self, path: Path, key: str, config: str) -> None:
        self.path, self.key, self.config = path, key, config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes the file once the data are there, and tells W&B which they are."""
        if stage == "fit" and trainer.is_global_zero:
            write_whole(self.path, self.config)
            for logger in trainer.loggers:
                if isinstance(logger, RunWandbLogger):
                    logger.log_config({"data/source": _source(trainer)})

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration to the checkpoint, with the source that the data came from and what they held out."""
        held_out = getattr(trainer.datamodule, "held_out", None)  # type: ignore[attr-defined]  # its connector's
        checkpoint[self.key] = {"config": self.config, "data_source": _source(trainer), "held_out": held_out}


def _source(trainer: Trainer) -> str | None:
    source: str | None = getattr(trainer.datamodule, "resolved_source", None)  # type: ignore[attr-defined]  # its connector's
    return source

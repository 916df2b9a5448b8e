"""Where what a callback writes belongs."""

from pathlib import Path

from lightning.pytorch import Trainer


def record_folder(trainer: Trainer) -> Path | None:
    """The folder beside the trainer's record, which in a run is the run's.

    Every process has to ask, for the first tells the others; None in those, which write nothing, and where a trainer
    keeps no record.
    """
    if not trainer.loggers:
        return None
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    return folder if trainer.is_global_zero else None

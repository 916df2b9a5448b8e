"""What a run records beside its checkpoints."""

from .metrics_csv import RunCSVLogger
from .wandb_run import RunWandbLogger

__all__ = ["RunCSVLogger", "RunWandbLogger"]

"""What a run records beside its checkpoints."""

from .metrics_csv import RunCSVLogger
from .wandb_run import RunWandbLogger, WandbOptions

__all__ = ["RunCSVLogger", "RunWandbLogger", "WandbOptions"]

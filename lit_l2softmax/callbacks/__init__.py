"""What a trainer may do beside training."""

from .final_checkpoint import FinalCheckpoint
from .plain_progress import PlainProgress
from .run_config import RunConfig

__all__ = ["FinalCheckpoint", "PlainProgress", "RunConfig"]

"""What a trainer may do beside training."""

from .configured_optimizer import ConfiguredOptimizer
from .final_checkpoint import FinalCheckpoint
from .mistake_report import MistakeReport
from .plain_progress import PlainProgress
from .run_config import RunConfig
from .terminal_progress import TerminalProgress

__all__ = ["ConfiguredOptimizer", "FinalCheckpoint", "MistakeReport", "PlainProgress", "RunConfig", "TerminalProgress"]

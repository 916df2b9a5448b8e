"""What a trainer may do beside training."""

from .configured_optimizer import ConfiguredOptimizer
from .exponential_moving_average import ExponentialMovingAverage
from .last_checkpoint import LastCheckpoint
from .mistake_report import MistakeReport
from .network_summaries import NetworkSummaries
from .plain_progress import PlainProgress
from .run_config import RunConfig
from .smoothed_losses import SmoothedLosses
from .terminal_progress import TerminalProgress

__all__ = [
    "ConfiguredOptimizer",
    "ExponentialMovingAverage",
    "LastCheckpoint",
    "MistakeReport",
    "NetworkSummaries",
    "PlainProgress",
    "RunConfig",
    "SmoothedLosses",
    "TerminalProgress",
]

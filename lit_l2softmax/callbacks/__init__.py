"""What a trainer may do beside training."""

from .configured_optimizer import ConfiguredOptimizer
from .exponential_moving_average import ExponentialMovingAverage
from .feature_pictures import FeaturePictures
from .last_checkpoint import LastCheckpoint
from .mistake_report import MistakeReport
from .network_summaries import NetworkSummaries
from .plain_progress import PlainProgress
from .regression_pictures import DecisionBorder, Descent, FittedPlane
from .run_config import RunConfig
from .smoothed_losses import SmoothedLosses
from .step_randomness import StepRandomness
from .stop_on_non_finite import StopOnNonFinite
from .stop_signals import DieOfSigterm, StopSignals
from .terminal_progress import TerminalProgress
from .training_monitor import TrainingMonitor
from .tutorial_lines import TutorialLines
from .unweighted_accuracy import UnweightedAccuracy
from .verification_report import VerificationReport

__all__ = [
    "ConfiguredOptimizer",
    "DecisionBorder",
    "Descent",
    "DieOfSigterm",
    "ExponentialMovingAverage",
    "FeaturePictures",
    "FittedPlane",
    "LastCheckpoint",
    "MistakeReport",
    "NetworkSummaries",
    "PlainProgress",
    "RunConfig",
    "SmoothedLosses",
    "StepRandomness",
    "StopOnNonFinite",
    "StopSignals",
    "TerminalProgress",
    "TrainingMonitor",
    "TutorialLines",
    "UnweightedAccuracy",
    "VerificationReport",
]

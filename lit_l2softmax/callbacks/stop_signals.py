"""SIGTERM and Ctrl-C: a training ends with its step, and what it has reached is saved."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lit_l2softmax.processes import HostTalk, place


class StopSignals(Checkpoint):
    """Ends a training that is asked to stop, behind its step and the validation that follows it, and saves its state.

    A second Ctrl-C ends it at once. Where several processes train together, they end behind the same step, whichever of
    them was asked. Lightning alone saves nothing, and calls what SIGTERM has ended a success.

    Args:
        path: of the checkpoint.

    Attributes:
        asked: the signal that asked, None where none has, or none that all processes know of yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._heard: int | None = None
        self._agreed: int | None = None
        self._alone = True
        self._saved = False

    @property
    def asked(self) -> int | None:
        return self._heard if self._alone else self._agreed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens, in Lightning's place, until the training ends and Lightning gives signals back to whom they were."""
        self._heard, self._agreed, self._saved = None, None, False
        self._talk = HostTalk()
        self._alone = self._talk.alone
        if threading.current_thread() is threading.main_thread():  # no other may
            self._interrupt = signal.getsignal(signal.SIGINT)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._ask)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self._heard = number
        signal.signal(signal.SIGINT, self._interrupt)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tells Lightning, which looks when all is done that belongs to the batch, if the batch ended a step."""
        self._agree()
        self._tell(trainer, self.asked is not None and not trainer.fit_loop._should_accumulate())

    def _agree(self) -> None:
        if not self._alone:
            self._agreed = self._talk.greatest(self._heard or 0) or None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the validation end: in the middle of one there is nothing that a training could go on from."""
        self._tell(trainer, False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what Lightning knows how to go on from behind a validation, and tells it."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self._agree()
        if self.asked is not None:
            trainer.save_checkpoint(self.path)
            self._saved = True
        self._tell(trainer, self.asked is not None)

    def _tell(self, trainer: Trainer, stop: bool) -> None:
        trainer._signal_connector.received_sigterm = stop

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves where the training ends because it was asked to, unless a validation has ended there."""
        if isinstance(exception, SIGTERMException) and not self._saved:
            trainer.save_checkpoint(self.path)


class DieOfSigterm(Callback):
    """Lets SIGTERM end a process among several that validate or test: nothing is lost, and the others end with it.

    Lightning's own answer is a word to all the others, in the middle of whatever else they tell each other.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does so for a validation that is none of a training."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._let()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does so for a test."""
        self._let()

    def _let(self) -> None:
        if place().size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""Progress for a log file: one plain line a validation, or a tenth of a training or an epoch without one."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class PlainProgress(Callback):
    """Prints the step, the newest metrics and the speed; what a progress bar becomes where there is no terminal."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._since, self._from_step = time.perf_counter(), trainer.global_step
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # its connector's
        self._spoken_for = any(getattr(callback, "prints_progress", False) for callback in callbacks)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Prints a line every tenth of the steps where neither a validation nor a tutorial's own lines will."""
        if not trainer.enable_validation and trainer.max_steps > 0 and not self._spoken_for:
            every = max(1, trainer.max_steps // 10)
            if trainer.global_step % every == 0:
                self._print(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints a line an epoch where there is neither a number of steps nor a validation."""
        if not trainer.enable_validation and trainer.max_steps < 0:
            self._print(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints a line after each validation of a training."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._print(trainer)

    @rank_zero_only
    def _print(self, trainer: Trainer) -> None:
        now, step = time.perf_counter(), trainer.global_step
        if step == self._from_step:
            return  # batches whose gradients are still being accumulated
        speed = (step - self._from_step) / (now - self._since)
        self._since, self._from_step = now, step
        total = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
        metrics = (f"{name} {float(value):.4f}" for name, value in trainer.progress_bar_metrics.items())
        print("  ".join([f"step {step}{total}", *metrics, f"{speed:.1f} steps/s"]), flush=True)

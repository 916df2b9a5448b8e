"""What a training costs and how it moves: rows a second, the gradient's length, a GPU's memory."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer


class TrainingMonitor(Callback):
    """Records three figures with the others of a step, every ``log_every_n_steps`` steps.

    - ``train/images_per_second``, or what the data's ``row_name`` says: rows trained on since the last record over the
      time since then, with what the data and other callbacks take. A validation is left out, with what follows it until
      the next batch is there, and so is the first batch, which compiles and allocates. Of all processes together.
    - ``train/gradient_norm``: the Euclidean length of all the optimiser's gradients together, before they are clipped.
    - ``train/gpu_memory_mib``: the most that this process's tensors have held of the GPU's memory at once, in MiB; none
      on a CPU.

    Lightning's ThroughputMonitor waits for the GPU after every batch; this waits where a record does so anyway.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._warm = self._stepped = False
        self._since: float | None = None  # when counting went on; None while something else is done
        self._seconds, self._rows, self._batches = 0.0, 0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier training."""
        self._forget()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Goes on counting after a validation, or begins with the second batch."""
        if self._since is None and self._warm:
            self._since = time.perf_counter()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Records the gradient's length."""
        self._stepped = True
        if not _is_recorded(trainer):
            return
        weights = (weight for group in optimizer.param_groups for weight in group["params"])
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        dense = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
        norm = torch.nn.utils.get_total_norm(dense)
        # A fused optimiser takes the scale of half precision off its gradients itself, later.
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            norm = norm / scaler.get_scale()
        pl_module.log("train/gradient_norm", norm)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a batch, and records the speed and what the GPU holds."""
        self._warm = True
        if self._since is not None:
            self._rows += (rows := _rows(batch)) or 0
            self._batches += rows is not None
        stepped, self._stepped = self._stepped, False
        if not stepped or not _is_recorded(trainer):  # of batches whose gradients are added up, the last one's record
            return
        device = pl_module.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what has been asked for is not done yet, and the record waits for it too
            pl_module.log("train/gpu_memory_mib", torch.cuda.max_memory_allocated(device) / 2**20)
        if self._since is None or not self._batches:
            return
        now = time.perf_counter()
        name = getattr(getattr(trainer, "datamodule", None), "row_name", "image")
        speed = self._rows / (self._seconds + now - self._since)
        pl_module.log(f"train/{name}s_per_second", speed, reduce_fx="sum", sync_dist=True)
        self._since, self._seconds, self._rows, self._batches = now, 0.0, 0, 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock until the next batch is trained on."""
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._since = None


def _is_recorded(trainer: Trainer) -> bool:
    recorded: bool = trainer._logger_connector.should_update_logs
    return recorded


def _rows(batch: Any) -> int | None:
    """The rows of a batch, None where it does not say; no rows where other processes have them."""
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    return len(first) if isinstance(first, Tensor) and first.ndim else None

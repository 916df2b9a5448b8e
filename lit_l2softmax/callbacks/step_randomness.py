"""Dropout and whatever else a step draws, as a function of (seed, step)."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_l2softmax.processes import place
from lit_l2softmax.seeds import mix


class StepRandomness(Callback):
    """Seeds torch's generators at each training batch, so that a resumed training draws what it would have drawn.

    What was drawn before, in another process or by a validation, changes nothing. Processes that train together draw
    each their own.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds the generators of the CPU and of the module's device."""
        others = [rank] if (rank := place().rank) else []
        seed = mix(self.seed, "step", trainer.global_step, batch_idx, *others)
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(seed)

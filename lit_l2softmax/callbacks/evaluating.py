"""A look at a module in the middle of its training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import LightningModule, Trainer


@contextmanager
def evaluating(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Evaluation mode, without gradients, in the training's precision; the module's modes are left as they were."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        # To compile another graph for this would cost more than it saves.
        with torch.no_grad(), trainer.precision_plugin.forward_context(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for part, training in modes.items():
            part.training = training

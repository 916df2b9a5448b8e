"""A look at a module in the middle of its training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor


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


def as_the_network_sees(trainer: Trainer, module: LightningModule, inputs: Tensor) -> Tensor:
    """Inputs on the module's device, in the dtype of the training's precision, as its loops give them."""
    converted: Tensor = trainer.precision_plugin.convert_input(inputs.to(module.device))
    return converted

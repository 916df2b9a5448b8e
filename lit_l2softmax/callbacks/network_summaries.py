"""What goes on inside a network while it trains: histograms and images in W&B."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_l2softmax import plots
from lit_l2softmax.errors import ConfigError
from lit_l2softmax.loggers import RunWandbLogger
from lit_l2softmax.messages import nearest_or_all

from .evaluating import evaluating

BINS = 64


class NetworkSummaries(Callback):
    """Records, every so many steps, the distribution of activations, weights and gradients, and some input images.

    It asks for a module that maps images to logits and has ``class_names``, and for batches of images and labels.
    Activations are those of the step's batch, in evaluation mode, before the step; ``sparsity/*`` is the share of zeros
    among them. A summary waits for the device. A run without W&B records nothing and pays nothing.

    Args:
        rectified_layers: names of submodules that a ReLU follows; what is recorded is the ReLU's result, as in the
            tutorial. The logits are always recorded.
        every_n_steps: optimiser steps from one summary to the next; the first is that of step 0.
        images: how many input images are shown.

    Raises:
        ValueError: on numbers below 1.
        ConfigError: when a training begins, on a layer that the module does not have.

    Source: tensorflow/models, tutorials/image/cifar10/cifar10.py (2017), ``_activation_summary`` and ``train``.
    """

    def __init__(self, rectified_layers: Sequence[str] = (), every_n_steps: int = 100, images: int = 3) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("images", images)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.rectified_layers, self.every_n_steps, self.images = list(rectified_layers), every_n_steps, images

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the layers."""
        self._latest = -1  # the step that was recorded last
        modules = dict(pl_module.named_modules())
        for name in self.rectified_layers:
            if name not in modules:
                hint = nearest_or_all(name, filter(None, modules))
                raise ConfigError(f"rectified_layers: there is no layer {name!r}{hint}")
        self._layers = {name: modules[name] for name in self.rectified_layers}

    def _loggers(self, trainer: Trainer) -> list[RunWandbLogger]:
        """Who records this step; nobody, mostly."""
        if trainer.global_step % self.every_n_steps:
            return []
        return [logger for logger in trainer.loggers if isinstance(logger, RunWandbLogger)]

    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        """Records the batch, what the layers make of it, and the weights."""
        step = trainer.global_step
        if step == self._latest or not (loggers := self._loggers(trainer)):
            return  # batches whose gradients are accumulated have one step
        self._latest = step
        images, labels = batch
        with evaluating(trainer, pl_module):
            activations = _activations(pl_module, self._layers, images)
        sparsity = {f"sparsity/{name}": float((values == 0).float().mean()) for name, values in activations.items()}
        histograms = {f"activations/{name}": _histogram(values) for name, values in activations.items()}
        histograms |= {f"weights/{name}": _histogram(weight) for name, weight in pl_module.named_parameters()}
        pictures = [plots.pixels(image) for image in images[: self.images]]
        names = cast(Any, pl_module).class_names
        captions = [names[label] for label in labels[: self.images].tolist()]
        for logger in loggers:
            logger.log_metrics(sparsity, step)
            logger.log_histograms(histograms, step)
            logger.log_pictures("train/images", pictures, captions, step)

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Records the gradients."""
        if loggers := self._loggers(trainer):
            gradients = {name: weight.grad for name, weight in pl_module.named_parameters() if weight.grad is not None}
            histograms = {f"gradients/{name}": _histogram(gradient) for name, gradient in gradients.items()}
            for logger in loggers:
                logger.log_histograms(histograms, trainer.global_step)


def _activations(module: LightningModule, layers: dict[str, nn.Module], images: Tensor) -> dict[str, Tensor]:
    """The layers' rectified outputs and the logits."""
    outputs: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output.relu()}))
        for name, layer in layers.items()
    ]
    try:
        outputs["logits"] = module(images)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _histogram(values: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How many finite values lie in each of ``BINS`` bins, and the bins' edges."""
    values = values.float()
    finite = values[values.isfinite()]
    low, high = (float(limit) for limit in finite.aminmax()) if finite.numel() else (0.0, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(finite, BINS, low, high)
    return counts.cpu().numpy(), np.linspace(low, high, BINS + 1, dtype=np.float32)

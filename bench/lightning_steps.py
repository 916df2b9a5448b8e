"""Training steps through Lightning's Trainer as providers, and what it takes for two losses to be the same."""

import itertools
import time

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lit_l2softmax.loggers import RunCSVLogger

UNTIMED_STEPS = 10  # of a fit: its first ones allocate


class Clock(Callback):
    """Reads the clock when the untimed steps are over and when the fit is; keeps the first loss."""

    def __init__(self, untimed_steps):
        self.untimed_steps = untimed_steps

    def on_train_start(self, trainer, pl_module):
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 1:
            self.first_loss = outputs["loss"]
        if trainer.global_step == self.untimed_steps:
            self.start = time.perf_counter()
        if trainer.global_step == trainer.max_steps:
            self.seconds = time.perf_counter() - self.start


class Fitted:
    """A module, what its ``configure_optimizers`` returns, and its data; each fit is a new trainer that goes on."""

    def __init__(self, module, configured, data, options, folder, callbacks=()):
        module.configure_optimizers = lambda: configured
        self.module, self.data, self.options, self.callbacks = module, data, options, callbacks
        self.folders = (folder / str(number) for number in itertools.count())

    def fit(self, steps, untimed_steps=UNTIMED_STEPS):
        """Trains; returns the clock."""
        clock = Clock(untimed_steps)
        options = {
            **self.options,
            "max_steps": untimed_steps + steps,
            "max_epochs": -1,
            "limit_val_batches": 0,
            "accelerator": "cpu",
            "logger": RunCSVLogger(next(self.folders)),
            "callbacks": [clock, *self.callbacks],
            # Checkpoints are written at validations, not at steps; but a callback that could save wants it allowed.
            "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in self.callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        Trainer(**options).fit(self.module, datamodule=self.data)
        return clock

    def __call__(self, calls):
        """The seconds of ``calls`` steps in the middle of a training."""
        return self.fit(calls).seconds


def check_same_gradients(ours, our_loss, plain, plain_loss, name, terms):
    """The gate: in float64 a batch's loss and every gradient of two modules are the same but for rounding.

    ``name`` makes the plain module's name of a parameter out of ours. In a sum of n terms of random sign the error
    grows as sqrt(n) u, and the sum is sqrt(n) times smaller than its terms together, so n u bounds the relative error
    of a tensor's norm; ``terms`` is n, of the longest sums together with the errors of all products before them.
    """
    bound = terms * torch.finfo(torch.float64).eps / 2
    assert abs(our_loss - plain_loss) <= bound * plain_loss
    names, weights = zip(*ours.named_parameters(), strict=True)
    expected = torch.autograd.grad(plain_loss, [plain.get_parameter(name(one)) for one in names])
    for one, gradient, theirs in zip(names, torch.autograd.grad(our_loss, weights), expected, strict=True):
        assert torch.linalg.vector_norm(gradient - theirs) <= bound * torch.linalg.vector_norm(theirs), one

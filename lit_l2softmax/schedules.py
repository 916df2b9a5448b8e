"""Schedules that PyTorch does not have: of a learning rate, and of how much a moving average keeps."""

import math

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


def averaging_decay(decay: float, earlier_updates: int) -> float:
    """``min(decay, (1 + t) / (10 + t))``: what a moving average keeps of itself in an update after t earlier ones.

    So it follows closely at first, and is not held back by where it started.

    Source: ``tf.train.ExponentialMovingAverage(decay, num_updates=t)``.
    """
    return min(decay, (1 + earlier_updates) / (10 + earlier_updates))


class ExponentialDecay(LRScheduler):
    """``tf.train.exponential_decay``: after t steps, the start times ``decay_rate ** (t / decay_steps)``.

    It counts optimiser steps, and the command line calls it after each.

    Args:
        optimizer: whose groups' learning rates are the starts.
        decay_steps: steps for one factor of ``decay_rate``.
        decay_rate: the factor.
        staircase: whether t / decay_steps is rounded down, so that the rate falls at once every ``decay_steps``.
        last_epoch: t, for a training that is resumed; -1 for one that begins.

    Raises:
        ValueError: where ``decay_steps`` is below 1 or ``decay_rate`` is not positive and finite.
    """

    interval = "step"

    def __init__(
        self,
        optimizer: Optimizer,
        decay_steps: int,
        decay_rate: float = 0.1,
        staircase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if decay_steps < 1 or not 0 < decay_rate < math.inf:
            raise ValueError(
                f"decay_steps must be at least 1 and decay_rate positive and finite, got {decay_steps} and {decay_rate}"
            )
        self.decay_steps, self.decay_rate, self.staircase = decay_steps, decay_rate, staircase
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rates of this step, one a group, in closed form, so that no error adds up."""
        exponent = self.last_epoch // self.decay_steps if self.staircase else self.last_epoch / self.decay_steps
        return [base * self.decay_rate**exponent for base in self.base_lrs]

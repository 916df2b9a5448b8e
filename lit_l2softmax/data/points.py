"""The points of System 3, drawn by rules that are known, so that fresh ones can be had to test on.

Source: Cao Jian, PKU, "neural network optimisation", opt4_1 to opt4_8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from .batches import Batches, batch_loader
from .raw_inputs import RawInputs

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
Source = Literal["yoghurt", "dots", "parabola"]


def yoghurt(random: np.random.RandomState, size: int) -> Points:
    """Two inputs ``(N, 2)`` in [0, 1), and the day's sale ``(N,)``: their sum, up to .05 off."""
    inputs = random.rand(size, 2)
    noise = random.rand(size) / 10 - 0.05  # drawn when all inputs have been
    return inputs, inputs[:, 0] + inputs[:, 1] + noise


def dots(random: np.random.RandomState, size: int) -> Points:
    """Normal points ``(N, 2)``, and 1 (red) for those less than sqrt(2) from the origin, 0 (blue) for the others."""
    inputs = random.randn(size, 2)
    return inputs, (np.square(inputs).sum(1) < 2).astype(np.float64)


def parabola(_random: np.random.RandomState, size: int) -> Points:
    """Inputs 1 and targets -1, of which a single weight w has the squared error (w + 1)^2; nothing is random."""
    return np.ones((size, 1)), -np.ones(size)


@dataclass(frozen=True)
class Rule:
    """How many points the source draws, from which seed, and how.

    Attributes:
        draw: makes inputs ``(N, D)`` and targets ``(N,)``.
        size: N of the source.
        seed: of the source's ``numpy.random.RandomState``.
        num_classes: C, where targets are classes.
    """

    draw: Callable[[np.random.RandomState, int], Points]
    size: int
    seed: int
    num_classes: int | None = None


RULES: dict[Source, Rule] = {
    "yoghurt": Rule(yoghurt, 32, 23455),
    "dots": Rule(dots, 300, 2, num_classes=2),
    "parabola": Rule(parabola, 1, 0),
}


class PointsData(LightningDataModule):
    """The source's points to train on, float32, and fresh points of the same rule to validate and to test on.

    Training batches are the points one after another, again and again, as in the source.

    Args:
        source: ``"yoghurt"``, 32 points; ``"dots"``, 300 points, 188 of them red; ``"parabola"``, a single one.
        batch_size: rows in a training batch.
        fresh: how many points there are to validate on, and as many others to test on; 0 for the training points
            themselves, the source's only ones. They depend on the rule alone, so that runs can be compared.
        shuffle: whether training points are permuted anew each epoch instead, an incomplete last batch left out.
        seed: of the permutations; the command line sets it to ``seed_everything``.
        predict_points: how many test points, from the first on, ``predict`` predicts.

    Attributes:
        row_name: what a row is called in print and in metrics.

    Raises:
        ValueError: on another source, a size below 1, a negative ``fresh``, or a batch of more points than there are.
    """

    row_name = "point"

    def __init__(
        self,
        source: Source,
        batch_size: int,
        fresh: int = 20_000,
        shuffle: bool = False,
        seed: int = 0,
        predict_points: int = 4,
    ) -> None:
        super().__init__()
        if source not in RULES:
            raise ValueError(f"source must be {', '.join(map(repr, RULES))}, got {source!r}")
        self.rule = RULES[source]
        if not 1 <= batch_size <= self.rule.size:
            raise ValueError(f"batch_size must be at least 1 and at most {self.rule.size}, got {batch_size}")
        if predict_points < 1:
            raise ValueError(f"predict_points must be at least 1, got {predict_points}")
        if fresh < 0:
            raise ValueError(f"fresh must be 0 or the number of points to test on, got {fresh}")
        self.source, self.batch_size, self.fresh, self.shuffle, self.seed = source, batch_size, fresh, shuffle, seed
        self.predict_points = predict_points
        self.num_classes = self.rule.num_classes

    @property
    def title(self) -> str:
        """What the data are called in print."""
        return f"{self.source} drawn afresh" if self.fresh else f"{self.source}, the training points themselves"

    @property
    def raw_inputs(self) -> RawInputs:
        """What an exported network takes: points as they are."""
        width = self.rule.draw(np.random.RandomState(0), 1)[0].shape[1]
        return RawInputs(
            "points",
            torch.float32,
            (width,),
            f"the inputs of {self.source}",
            "nothing",
            lambda points, dtype: points.to(dtype),
        )

    def setup(self, stage: str) -> None:
        """Draws the points."""
        self.train = self._drawn(self.rule.size, self.rule.seed)
        if self.fresh:
            # A sequence is a seed of its own: no point of the source is drawn again.
            self.validation, self.test = (self._drawn(self.fresh, [self.rule.seed, part]) for part in (1, 2))
        else:
            self.validation = self.test = self.train

    def _drawn(self, size: int, seed: int | list[int]) -> tuple[Tensor, Tensor]:
        inputs, targets = self.rule.draw(np.random.RandomState(seed), size)
        return torch.from_numpy(inputs).float(), torch.from_numpy(targets).float()

    def train_dataloader(self) -> Batches:
        """Batches of the source's points."""
        incomplete: Literal["drop", "keep"] = "drop" if self.shuffle else "keep"
        return batch_loader(*self.train, self.batch_size, shuffle=self.shuffle, incomplete=incomplete, seed=self.seed)

    def val_dataloader(self) -> Batches:
        """All points to validate on, at once."""
        return batch_loader(*self.validation, len(self.validation[1]))

    def test_dataloader(self) -> Batches:
        """All points to test on, at once."""
        return batch_loader(*self.test, len(self.test[1]))

    def predict_dataloader(self) -> Batches:
        """The first ``predict_points`` test points with their targets."""
        inputs, targets = (part[: self.predict_points] for part in self.test)
        return batch_loader(inputs, targets, self.predict_points)

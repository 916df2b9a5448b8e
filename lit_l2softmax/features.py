"""Where a classifier puts its features: how tight its classes are, and how long the features of easy and hard images.

Legend: N images, D features, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

# An image is the easier, the more probable its own class: the borders of the groups that lengths are compared between.
EASE = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Angles:
    """How classes lie as seen from the origin, in degrees.

    Attributes:
        within: the mean angle between an image's features and the mean direction of its class.
        between: the mean over classes of the angle from its mean direction to the nearest other one.
    """

    within: float
    between: float

    @property
    def spread(self) -> float:
        """``within`` over ``between``; not a number where every class lies in one direction."""
        return self.within / self.between if self.between else math.nan


@dataclass(frozen=True)
class Lengths:
    """The lengths of the features of some images.

    Attributes:
        images: how many those are.
        quantiles: of their features' lengths, at ``QUANTILES``.
    """

    images: int
    quantiles: list[float]


def angles(features: Tensor, labels: Tensor) -> Angles:
    """The angles of features ``(N, D)`` of classes ``(N,)``, of which there are two or more; not a number of such ones.

    The mean direction is that of the mean of features of length 1.
    """
    unit = F.normalize(features.double(), dim=1)
    _, classes = labels.unique(return_inverse=True)
    sums = torch.zeros(int(classes.max()) + 1, unit.shape[1], dtype=unit.dtype).index_add_(0, classes, unit)
    directions = F.normalize(sums, dim=1)
    apart = _degrees(directions @ directions.T).fill_diagonal_(180)
    return Angles(float(_degrees((unit * directions[classes]).sum(1)).mean()), float(apart.min(1).values.mean()))


def _degrees(cosines: Tensor) -> Tensor:
    return cosines.clamp(-1, 1).arccos().rad2deg()


def lengths_by_ease(features: Tensor, probability: Tensor) -> list[Lengths]:
    """The lengths of features ``(N, D)`` between each two of ``EASE``, the hardest images first, then those of all.

    ``probability`` ``(N,)`` is that of an image's own class; one that lies on a border is of the easier group, and 1 of
    the last.
    """
    lengths = features.double().norm(dim=1)
    group = torch.bucketize(probability.double(), torch.tensor(EASE[1:-1], dtype=torch.float64), right=True)
    groups = [lengths[group == number] for number in range(len(EASE) - 1)]
    return [_lengths(of) for of in (*groups, lengths)]


def _lengths(of: Tensor) -> Lengths:
    if not len(of):
        return Lengths(0, [float("nan")] * len(QUANTILES))
    return Lengths(len(of), of.quantile(torch.tensor(QUANTILES, dtype=of.dtype)).tolist())


def ease_names() -> Sequence[str]:
    """What the groups of ``lengths_by_ease`` are called."""
    between = [f"{low:g} to {high:g}" for low, high in pairwise(EASE)]
    return [*between, "all"]

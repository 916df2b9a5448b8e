"""Verification: are two images of one class? What a threshold on the cosine of their features accepts.

A *genuine* pair is of one class, an *impostor* pair of two. A threshold accepts the pairs whose cosine is not below it:
FAR is the share of impostors that it accepts, TAR the share of genuine pairs. Every pair is counted, once; what is kept
of it is its cosine to the nearest multiple of 2^-20, so that the memory, 34 MB for the counts and less than 100 for a
block of pairs, does not grow with their number, and the figures are exact for cosines so rounded.

Legend: N images, D features, B = 2^21 + 1 multiples of 2^-20 from -1 to 1, T thresholds at which a count changes.

Source: the terms are those of ISO/IEC 19795-1; TAR at a FAR as in arXiv:1703.09507, section 5.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

FINENESS = 2**20  # cosines that are told apart between 0 and 1
BLOCK = 2**21  # pairs that are looked at together


@dataclass(frozen=True)
class PairCounts:
    """How many pairs have each cosine.

    Attributes:
        genuine: ``(B,)``, int64, by cosine from -1 to 1.
        impostor: the same of the pairs of two classes.
    """

    genuine: Tensor
    impostor: Tensor


@dataclass(frozen=True)
class Roc:
    """What each threshold accepts, from one above every cosine, which accepts nothing, down to the least cosine.

    Attributes:
        far: ``(T + 1,)``, float64, never falling.
        tar: the same of the genuine pairs.
        genuine_pairs: how many there are.
        impostor_pairs: how many there are.
    """

    far: NDArray[np.float64]
    tar: NDArray[np.float64]
    genuine_pairs: int
    impostor_pairs: int

    @property
    def area(self) -> float:
        """How probable it is that a genuine pair has the greater cosine of one of each; a tie counts half."""
        return float((np.diff(self.far) * (self.tar[1:] + self.tar[:-1])).sum() / 2)

    @property
    def equal_error_rate(self) -> float:
        """The FAR that equals the share of genuine pairs rejected; between two thresholds, on the line between them."""
        excess = self.far + self.tar - 1  # from -1 to 1
        behind = int(np.argmax(excess >= 0))
        before = behind - 1
        way = -excess[before] / (excess[behind] - excess[before])
        return float(self.far[before] + way * (self.far[behind] - self.far[before]))

    def tar_at(self, far: float) -> float:
        """The greatest TAR of a threshold whose FAR is not above ``far``; nothing is interpolated."""
        return float(self.tar[np.searchsorted(self.far, far, side="right") - 1])


def count_pairs(features: Tensor, labels: Tensor) -> PairCounts:
    """The cosines of all pairs of images, counted.

    Args:
        features: ``(N, D)``; the cosine with a row of zeros is 0.
        labels: ``(N,)``, integers.

    Raises:
        ValueError: where a feature is not a number, naming its row.
    """
    bad = (~features.isfinite()).any(1).nonzero()
    if len(bad):
        raise ValueError(f"the features of image {int(bad[0])} are not finite")
    unit = F.normalize(features.cpu().double(), dim=1)
    labels = labels.cpu()
    counts = torch.zeros(2, 2 * FINENESS + 1, dtype=torch.int64)
    rows = max(1, BLOCK // max(1, len(labels)))
    for first in range(0, len(labels), rows):
        cosines = unit[first : first + rows] @ unit[first:].T
        places = ((cosines.clamp_(-1, 1) + 1) * FINENESS).round_().long()
        same = labels[first : first + rows, None] == labels[first:]
        once = torch.ones_like(same).triu_(1)  # neither an image with itself, nor a pair from its other end
        for kind, chosen in enumerate((once & same, once & ~same)):
            counts[kind] += torch.bincount(places[chosen], minlength=counts.shape[1])
    return PairCounts(*counts)


def roc(counts: PairCounts) -> Roc:
    """The curve of counted pairs.

    Raises:
        ValueError: where there is no genuine pair, or no impostor.
    """
    from sklearn.metrics import roc_curve  # a second of import, which a training need not wait for

    genuine, impostor = (int(kind.sum()) for kind in (counts.genuine, counts.impostor))
    if not genuine or not impostor:
        raise ValueError(f"a curve needs pairs of one class and of two, got {genuine:,} and {impostor:,}")
    (places,) = (counts.genuine + counts.impostor).nonzero(as_tuple=True)
    weights = torch.cat([counts.genuine[places], counts.impostor[places]])
    far, tar, _ = roc_curve(
        np.repeat([1, 0], len(places)),
        places.repeat(2).numpy(),
        sample_weight=weights.numpy(),
        drop_intermediate=False,
    )
    return Roc(far, tar, genuine, impostor)

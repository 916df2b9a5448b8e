"""The training procedure of a classifier that is tested by verification: pairs of images of classes it never saw."""

from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import Tensor

from .callbacks import MistakeReport, VerificationReport
from .classification import LitClassification
from .errors import DataError
from .processes import in_order
from .roc import PairCounts, Roc, count_pairs, roc


class LitVerification(LitClassification):
    """Trains and validates as ``LitClassification`` does; its test compares images in pairs by their features' cosine.

    The features are the network's, before the head's constraint, which no cosine depends on. The classes of the test
    images need be none of the classifier's: only whether two are the same is asked.

    Attributes:
        counts: the pairs of the last test by their cosines; None where the features were not numbers.
        curve: what its thresholds accept; None where ``counts`` is.

    Raises:
        DataError: from a test whose images make no pair of one class, or none of two.

    Metrics: ``train/*`` and ``val/*`` are ``LitClassification``'s. ``test/eer``, the equal error rate; ``test/auc``,
    the area below the ROC; ``test/tar_at_far_1e-1`` and on to ``1e-4``, each where that FAR is of 30 impostor pairs or
    more (Doddington's rule of 30, which takes pairs for independent; they share images and classes, so it is the least
    that can be asked); ``test/images``. They are not a number where a feature is none. An interval is that over seeds,
    each with classes of its own, which ``sweep`` gives: one over the images of a single test would be that of its few
    classes alone, and millions of pairs would make it look certain.
    """

    FARS: ClassVar[tuple[float, ...]] = (1e-1, 1e-2, 1e-3, 1e-4)
    LEAST_IMPOSTORS: ClassVar[int] = 30

    def on_test_epoch_start(self) -> None:
        """Forgets an earlier test."""
        self.counts: PairCounts | None = None
        self.curve: Roc | None = None
        self._features: list[Tensor] = []
        self._labels: list[Tensor] = []

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Keeps the features of a batch; returns them, ``(N, D)``."""
        images, labels = batch
        features: Tensor = self.network(images)
        self._features.append(features.float().cpu())
        self._labels.append(labels.cpu())
        self.log("test/images", float(len(labels)), on_epoch=True, reduce_fx="sum", sync_dist=True)
        return features

    def on_test_epoch_end(self) -> None:
        """Compares every two images and records what that shows."""
        features, labels = (torch.cat(in_order(kept)) for kept in (self._features, self._labels))
        self._features.clear()
        self._labels.clear()
        _, sizes = labels.unique(return_counts=True)
        genuine = int((sizes * (sizes - 1) // 2).sum())
        impostors = len(labels) * (len(labels) - 1) // 2 - genuine
        if not genuine or not impostors:
            raise DataError(
                f"{len(labels):,} test images of {len(sizes)} classes make {genuine:,} pairs of one class and "
                f"{impostors:,} of two; a verification needs both"
            )
        if features.isfinite().all():
            self.counts = count_pairs(features, labels)
            self.curve = roc(self.counts)
        fars = [far for far in self.FARS if far * impostors >= self.LEAST_IMPOSTORS]
        figures = {"eer": np.nan, "auc": np.nan} | {f"tar_at_far_{power(far)}": np.nan for far in fars}
        if (curve := self.curve) is not None:
            figures = {"eer": curve.equal_error_rate, "auc": curve.area}
            figures |= {f"tar_at_far_{power(far)}": curve.tar_at(far) for far in fars}
        self.log_dict({f"test/{name}": value for name, value in figures.items()}, sync_dist=True)

    def configure_callbacks(self) -> list[Callback]:
        """As ``LitClassification``'s, with the report of a verification in place of that of mistakes."""
        others = [callback for callback in super().configure_callbacks() if not isinstance(callback, MistakeReport)]
        return [VerificationReport(), *others]


def power(far: float) -> str:
    """A FAR in a figure's name, ``1e-3``."""
    return np.format_float_scientific(far, trim="-", exp_digits=1)

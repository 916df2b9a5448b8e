"""Digits of which some classes are held out of training, for a test that never asks which class an image is of."""

from collections.abc import Sequence
from typing import Literal

import torch

from lit_l2softmax.errors import DataError
from lit_l2softmax.seeds import mix

from .batches import Batches, batch_loader
from .digits import Split
from .mnist import MNISTData

DIGITS = 10


class HeldOutDigitsData(MNISTData):
    """``MNISTData`` that trains and validates on some of the ten classes and tests on the images of the others.

    Labels of what trains and validates are renumbered 0 to C - 1 in the order of the digits; those of the test split
    stay the digits' own, and are none of the classifier's classes. Prediction takes the test images of the classes that
    were trained, which no other split has.

    Args:
        root: as ``MNISTData``'s.
        source: as ``MNISTData``'s.
        held_out: the digits that are held out, or how many, which are then drawn by the seed: runs of several seeds
            speak of several sets of classes, and runs of one seed are held out the same.
        batch_size: rows in a training batch.
        eval_batch_size: rows in a validation, test or prediction batch.
        validation: how many of the training images, the first ones, are set aside; those of the trained classes among
            them validate. Of scikit-learn's digits, any number sets 200 aside.
        seed: of the permutations and of the classes held out; the command line sets it to ``seed_everything``.
        predict_images: how many test images of the trained classes ``predict`` classifies.

    Attributes:
        held_out: the digits that are held out, in order.
        class_names: the digits that are trained, in the order of their new numbers.
        num_classes: C, how many those are.

    Raises:
        ValueError: where fewer than two classes are held out, or fewer than two left to train; on a size below 1.
        DataError: as ``MNISTData``.
    """

    def __init__(
        self,
        root: str | None = None,
        source: Literal["auto", "mnist", "digits"] = "auto",
        held_out: int | list[int] = 5,
        batch_size: int = 128,
        eval_batch_size: int = 1000,
        validation: int = 5000,
        seed: int = 0,
        predict_images: int = 4,
    ) -> None:
        if validation < 1:
            raise ValueError(f"validation must be at least 1: nothing but training images validates, got {validation}")
        super().__init__(
            root,
            source,
            batch_size,
            eval_batch_size,
            validation=validation,
            seed=seed,
            predict_images=predict_images,
        )
        self.held_out = _chosen(held_out, seed)
        self._trained = [digit for digit in range(DIGITS) if digit not in self.held_out]
        self.class_names = tuple(map(str, self._trained))
        self.num_classes = len(self._trained)

    @property
    def title(self) -> str:
        """What the data are called in print."""
        return f"{super().title}, classes {', '.join(map(str, self.held_out))} held out of training"

    def _splits(self) -> tuple[Split, Split, Split]:
        train, validation, test = super()._splits()
        self._trained_test = self._renumbered(test)
        images, labels = test
        of_others = torch.isin(labels, torch.tensor(self.held_out))
        validation = self._renumbered(validation)
        if not len(validation[1]):
            raise DataError(f"validation={self.validation_images} sets no image of a trained class aside: take more")
        return self._renumbered(train), validation, (images[of_others], labels[of_others])

    def _renumbered(self, split: Split) -> Split:
        """The images of the trained classes, with labels 0 to C - 1."""
        images, labels = split
        mine = torch.isin(labels, torch.tensor(self._trained))
        return images[mine], torch.searchsorted(torch.tensor(self._trained), labels[mine])

    def predict_dataloader(self) -> Batches:
        """The first ``predict_images`` test images of the trained classes, with their new labels."""
        images, labels = (part[: self.predict_images] for part in self._trained_test)
        return batch_loader(images, labels, self.eval_batch_size)


def _chosen(held_out: int | Sequence[int], seed: int) -> list[int]:
    """The digits that are held out, in order."""
    if isinstance(held_out, int):
        count = held_out
        generator = torch.Generator().manual_seed(mix(seed, "held out classes"))
        digits = torch.randperm(DIGITS, generator=generator)[: max(count, 0)].tolist()
    else:
        digits = list(held_out)
        count = len(digits)
        if len(set(digits)) < count or not set(digits) <= set(range(DIGITS)):
            raise ValueError(f"held_out must be digits from 0 to 9, each once, got {digits}")
    if not 2 <= count <= DIGITS - 2:
        raise ValueError(f"held_out must leave two classes or more on either side, got {count} of {DIGITS}")
    return sorted(digits)

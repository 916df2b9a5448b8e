"""MNIST with its canonical split, or, said aloud, the digits that scikit-learn carries."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lit_l2softmax.errors import DataError
from lit_l2softmax.processes import from_first

from . import digits, mnist_files
from .batches import Batches, Incomplete, batch_loader
from .downloads import UnreachableError, UnwritableError, cache_folder, data_root
from .pictures import Ink, read_digit, read_digit_as_tutorial
from .raw_inputs import RawInputs


class MNISTData(LightningDataModule):
    """Handwritten digits as images ``(N, 1, 28, 28)``, float32 in [darkest, 1], and labels ``(N,)``, int64.

    55,000 images train (rows 5000..59999 of the training file), its first 5,000 validate, 10,000 test, as in
    tensorflow.examples' input_data; or, without validation, all 60,000 train, and what is watched on the way are the
    test images, by their own name. Everything stays
    in memory as uint8, batches are drawn by tensor indexing, and the order of an epoch is a function of (seed, epoch).

    Args:
        root: folder of the official files; ``$LIT_L2SOFTMAX_DATA`` when None, else the user's cache folder. The folder
            itself, ``mnist`` and ``MNIST/raw`` in it are looked into.
        source: ``"mnist"`` insists on MNIST; ``"digits"`` is scikit-learn's 8x8 digits, enlarged; ``"auto"`` takes
            MNIST if it is there or can be downloaded, and the digits, with a warning, if not.
        batch_size: rows in a training batch.
        eval_batch_size: rows in a validation, test or prediction batch.
        shuffle: whether training rows are permuted anew each epoch; an incomplete last batch is then left out.
        stream: whether an incomplete last batch is completed with the first rows of the next epoch, which then begins
            behind them, as in tensorflow.examples' next_batch.
        validation: how many of the training images, the first ones, are kept from training to validate on. Of the
            digits, any number keeps 200.
        darkest: the value of a black pixel; a white one is 1.
        tutorial_pictures: whether one's own pictures are read as the tutorial of System 5 reads them: squeezed into the
            square, and from 0 to 1 whatever the training's images were.
        seed: of the permutations; the command line sets it to ``seed_everything``.
        predict_images: how many test images, from the first on, ``predict`` classifies.

    Attributes:
        resolved_source: ``"mnist"`` or ``"digits"``, known once ``prepare_data`` or ``setup`` has run.

    Raises:
        ValueError: on a size below 1, a validation split that leaves nothing, or a darkest that is not below 1.
        DataError: from ``prepare_data`` and ``setup``, on files that are damaged or, with ``source="mnist"``, missing.
    """

    num_classes = 10

    def __init__(
        self,
        root: str | None = None,
        source: Literal["auto", "mnist", "digits"] = "auto",
        batch_size: int = 128,
        eval_batch_size: int = 1000,
        shuffle: bool = True,
        stream: bool = False,
        validation: int = 5000,
        darkest: float = 0.0,
        tutorial_pictures: bool = False,
        seed: int = 0,
        predict_images: int = 4,
    ) -> None:
        super().__init__()
        for name, value in (
            ("batch_size", batch_size),
            ("eval_batch_size", eval_batch_size),
            ("predict_images", predict_images),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= validation < 60_000:
            raise ValueError(f"validation must leave some of the 60,000 training images to train on, got {validation}")
        if not -math.inf < darkest < 1:
            raise ValueError(f"darkest must be a number below 1, the value of white, got {darkest}")
        self.root = data_root(root)
        self.source = source
        self.batch_size, self.eval_batch_size, self.shuffle, self.seed = batch_size, eval_batch_size, shuffle, seed
        self.stream, self.darkest, self.validation_images = stream, darkest, validation
        self.tutorial_pictures, self.predict_images = tutorial_pictures, predict_images
        self.resolved_source: Literal["mnist", "digits"] | None = None

    @property
    def title(self) -> str:
        """What the data are called in print."""
        return "scikit-learn's digits, NOT MNIST" if self.resolved_source == "digits" else "MNIST"

    @property
    def validation_name(self) -> str:
        """What figures of the validation batches are called: they are test images where none is kept from training."""
        return "val" if self.validation_images else "test"

    def own_images(self, paths: Sequence[Path], ink: Ink) -> Tensor:
        """A person's own pictures of a digit each, ``(N, 1, 28, 28)``, float32, as the network wants them.

        Raises:
            DataError: naming the picture that cannot be used.
        """
        if self.tutorial_pictures:
            if ink == "light":
                raise DataError("tutorial mode reads dark ink on white alone: leave --ink light out")
            return torch.stack([read_digit_as_tutorial(path) for path in paths])
        # What holds the ink of a training image; the enlarged digits fill theirs.
        box = 28 if self.source == "digits" else 20
        ink_amounts = torch.stack([read_digit(path, ink=ink, box=box) for path in paths])
        return ink_amounts * (1 - self.darkest) + self.darkest

    @property
    def raw_inputs(self) -> RawInputs:
        """What an exported network takes: images as bytes."""
        return RawInputs(
            "images",
            torch.uint8,
            (1, 28, 28),
            "grey, a light digit on a dark ground, in the middle, as in MNIST",
            f"pixels from 0 to 255 become {self.darkest:g} to 1",
            self._scaled,
        )

    def _scaled(self, pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        return pixels.to(dtype).div_(255 / (1 - self.darkest)).add_(self.darkest)

    def prepare_data(self) -> None:
        """Finds or downloads the files and verifies them, once in a process."""
        if self.resolved_source is None:
            self.resolved_source = self._resolve()

    def _resolve(self) -> Literal["mnist", "digits"]:
        if self.source == "digits":
            return "digits"
        try:
            self._paths = mnist_files.obtain(self.root)
        except (UnreachableError, UnwritableError) as error:
            # A folder that somebody named and that cannot be written is a mistake; the cache folder is nobody's choice.
            named = self.root != cache_folder()
            if self.source == "mnist" or (named and isinstance(error, UnwritableError)):
                raise
            rank_zero_warn(f"training on scikit-learn's 8x8 digits instead of MNIST: {error}")
            return "digits"
        return "mnist"

    def setup(self, stage: str) -> None:
        """Reads the files into memory, once."""
        if hasattr(self, "train"):
            return
        first = from_first(self.resolved_source)
        if first is not None and self.resolved_source != first:
            self.source, self.resolved_source = first, None  # what the first process trains on, or nothing
        if self.resolved_source is None:  # another process of this machine has prepared the data
            self.resolved_source = self._resolve()
        self.train, self.validation, self.test = self._splits()
        if (self.shuffle or self.stream) and self.batch_size > len(self.train[1]):
            raise DataError(f"a batch of {self.batch_size:,} is more than the {len(self.train[1]):,} training images")

    def _splits(self) -> tuple[digits.Split, digits.Split, digits.Split]:
        """What trains, validates and tests, read from the files that were found."""
        if self.resolved_source == "mnist":
            images, labels, test_images, test_labels = (
                mnist_files.read(self._paths[file.name], file) for file in mnist_files.FILES
            )
            kept = self.validation_images
            return (images[kept:], labels[kept:]), (images[:kept], labels[:kept]), (test_images, test_labels)
        train, validation, test = digits.load_digits()
        if not self.validation_images:
            images, labels = (torch.cat(parts) for parts in zip(train, validation, strict=True))
            train = images, labels
        return train, validation, test

    def train_dataloader(self) -> Batches:
        """Batches of the training split."""
        incomplete: Incomplete = "complete" if self.stream else "drop" if self.shuffle else "keep"
        return batch_loader(*self.train, self.batch_size, shuffle=self.shuffle, incomplete=incomplete, seed=self.seed)

    def val_dataloader(self) -> Batches:
        """Batches, in order, of the images kept from training, or of the test split where there are none."""
        return batch_loader(*(self.validation if self.validation_images else self.test), self.eval_batch_size)

    def test_dataloader(self) -> Batches:
        """Batches of the test split, in order."""
        return batch_loader(*self.test, self.eval_batch_size)

    def predict_dataloader(self) -> Batches:
        """The first ``predict_images`` test images with their labels."""
        images, labels = (part[: self.predict_images] for part in self.test)
        return batch_loader(images, labels, self.eval_batch_size)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Pixels 0..255 become darkest..1 on the device that trains, which then receives a quarter of the bytes."""
        images, labels = batch
        images = self._scaled(images)
        if self.trainer is not None:
            # Lightning has converted the batch to the precision of the training before, when it was bytes.
            images = self.trainer.precision_plugin.convert_input(images)
        return images, labels

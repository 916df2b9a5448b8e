"""MNIST with its canonical split, or, said aloud, the digits that scikit-learn carries."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from lit_l2softmax.errors import DataError

from . import digits, mnist_files
from .batches import batch_loader
from .downloads import UnreachableError, UnwritableError, cache_folder, data_root
from .pictures import Ink, read_digit

Batches = DataLoader[tuple[Tensor, Tensor]]

VALIDATION = 5000  # the first rows of the training file, as in tensorflow.examples' input_data


class MNISTData(LightningDataModule):
    """Handwritten digits as images ``(N, 1, 28, 28)``, float32 in [0, 1], and labels ``(N,)``, int64.

    55,000 images train (rows 5000..59999 of the training file), its first 5,000 validate, 10,000 test. Everything stays
    in memory as uint8, batches are drawn by tensor indexing, and the order of an epoch is a function of (seed, epoch).

    Args:
        root: folder of the official files; ``$LIT_L2SOFTMAX_DATA`` when None, else the user's cache folder. The folder
            itself, ``mnist`` and ``MNIST/raw`` in it are looked into.
        source: ``"mnist"`` insists on MNIST; ``"digits"`` is scikit-learn's 8x8 digits, enlarged; ``"auto"`` takes
            MNIST if it is there or can be downloaded, and the digits, with a warning, if not.
        batch_size: rows in a training batch.
        eval_batch_size: rows in a validation, test or prediction batch.
        shuffle: whether training rows are permuted anew each epoch; an incomplete last batch is then left out.
        seed: of the permutations; the command line sets it to ``seed_everything``.
        predict_images: how many test images, from the first on, ``predict`` classifies.

    Attributes:
        resolved_source: ``"mnist"`` or ``"digits"``, known once ``prepare_data`` or ``setup`` has run.

    Raises:
        ValueError: on a size below 1.
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
        self.root = data_root(root)
        self.source = source
        self.batch_size, self.eval_batch_size, self.shuffle, self.seed = batch_size, eval_batch_size, shuffle, seed
        self.predict_images = predict_images
        self.resolved_source: Literal["mnist", "digits"] | None = None

    @property
    def title(self) -> str:
        """What the data are called in print."""
        return "scikit-learn's digits, NOT MNIST" if self.resolved_source == "digits" else "MNIST"

    def own_images(self, paths: Sequence[Path], ink: Ink) -> Tensor:
        """A person's own pictures of a digit each, ``(N, 1, 28, 28)``, float32, as the network wants them.

        Raises:
            DataError: naming the picture that cannot be used.
        """
        box = (
            28 if self.source == "digits" else 20
        )  # holds the ink of a training image; the enlarged digits fill theirs
        return torch.stack([read_digit(path, ink=ink, box=box) for path in paths])

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
        if self.resolved_source is None:  # another process of this machine has prepared the data
            self.resolved_source = self._resolve()
        if self.resolved_source == "mnist":
            images, labels, test_images, test_labels = (
                mnist_files.read(self._paths[file.name], file) for file in mnist_files.FILES
            )
            self.train = images[VALIDATION:], labels[VALIDATION:]
            self.validation = images[:VALIDATION], labels[:VALIDATION]
            self.test = test_images, test_labels
        else:
            self.train, self.validation, self.test = digits.load_digits()
        if self.shuffle and self.batch_size > len(self.train[1]):
            raise DataError(f"a batch of {self.batch_size:,} is more than the {len(self.train[1]):,} training images")

    def train_dataloader(self) -> Batches:
        """Batches of the training split."""
        return batch_loader(*self.train, self.batch_size, shuffle=self.shuffle, drop_last=self.shuffle, seed=self.seed)

    def val_dataloader(self) -> Batches:
        """Batches of the validation split, in order."""
        return batch_loader(*self.validation, self.eval_batch_size)

    def test_dataloader(self) -> Batches:
        """Batches of the test split, in order."""
        return batch_loader(*self.test, self.eval_batch_size)

    def predict_dataloader(self) -> Batches:
        """The first ``predict_images`` test images with their labels."""
        images, labels = (part[: self.predict_images] for part in self.test)
        return batch_loader(images, labels, self.eval_batch_size)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Pixels 0..255 become 0..1 on the device that trains, which then receives a quarter of the bytes."""
        images, labels = batch
        images = images.to(torch.float32).div_(255)
        if self.trainer is not None:
            # Lightning has converted the batch to the precision of the training before, when it was bytes.
            images = self.trainer.precision_plugin.convert_input(images)
        return images, labels

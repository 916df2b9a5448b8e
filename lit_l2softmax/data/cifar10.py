"""CIFAR-10 as System 2 sees it: distorted crops to train on, the middle of each test image."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lit_l2softmax.errors import DataError

from . import cifar10_files
from .batches import Batches, batch_loader
from .distortions import EvaluationInputs, TrainingInputs, middle, standardized
from .downloads import data_root
from .pictures import Ink, read_photograph
from .raw_inputs import RawInputs

Source = Literal["cifar10", "cifar10-unverified"]

SIDE = 24  # of 32 pixels; the source crops without padding


class CIFAR10Data(LightningDataModule):
    """Photographs of ten classes as standardised images ``(N, 3, 24, 24)``, float32, and labels ``(N,)``, int64.

    50,000 images train, 10,000 test. They stay in memory as uint8, on the device that trains, where whole batches are
    cropped, mirrored and standardised. The order of an epoch is a function of (seed, epoch), what is drawn for an image
    of (seed, epoch, image). The source instead draws from a queue of some 20,000 images that 16 threads fill.

    Args:
        root: folder that holds ``cifar-10-batches-bin`` or ``cifar-10-binary.tar.gz``, or that receives them;
            ``$LIT_L2SOFTMAX_DATA`` when None, else the user's cache folder.
        source: ``"cifar10"`` insists on files that bear the stamp of an unpacking from the official archive,
            ``"cifar10-unverified"`` on files without it; ``"auto"`` takes what is there.
        batch_size: images in a training batch.
        eval_batch_size: images in a test or prediction batch; of many more, what a layer gives leaves a CPU's cache.
        validation: how many of the training images, the last ones, are kept from training to validate on. With none,
            a training is watched on the test images, whose figures are then called ``test``, and nothing may be
            selected by them.
        brightness: the largest random shift of an image's levels, of 255; the standardisation behind it undoes any.
        wrap_test: whether the last test batch is filled up with the first test images, as the source's queue does:
            10,112 images in batches of 128.
        seed: of permutations and distortions; the command line sets it to ``seed_everything``.
        predict_images: how many test images, from the first on, ``predict`` classifies.

    Attributes:
        resolved_source: ``"cifar10"`` or ``"cifar10-unverified"``, known once ``prepare_data`` or ``setup`` has run.

    Raises:
        ValueError: on a size below 1, or a brightness that is negative or not finite.
        DataError: from ``prepare_data`` and ``setup``, on files that are missing, damaged, or not what ``source`` says.

    Source: tensorflow/models, tutorials/image/cifar10/cifar10_input.py (2017).
    """

    num_classes = len(cifar10_files.CLASSES)
    class_names = cifar10_files.CLASSES

    def __init__(
        self,
        root: str | None = None,
        source: Literal["auto", "cifar10", "cifar10-unverified"] = "auto",
        batch_size: int = 128,
        eval_batch_size: int = 250,
        validation: int = 0,
        brightness: float = 0.0,
        wrap_test: bool = False,
        seed: int = 0,
        predict_images: int = 4,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("predict_images", predict_images, 1),
            ("validation", validation, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 <= brightness < math.inf:
            raise ValueError(f"brightness must be 0 or a finite positive number, got {brightness}")
        self.root = data_root(root)
        self.source = source
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.validation_images, self.brightness, self.wrap_test = validation, brightness, wrap_test
        self.predict_images = predict_images
        self.resolved_source: Source | None = None

    @property
    def title(self) -> str:
        """What the data are called in print."""
        return "CIFAR-10" + (" (unverified files)" if self.resolved_source == "cifar10-unverified" else "")

    @property
    def validation_name(self) -> str:
        """What figures of the validation batches are called: they are test images where none is kept from training."""
        return "val" if self.validation_images else "test"

    @property
    def raw_inputs(self) -> RawInputs:
        """What an exported network takes: photographs as bytes."""
        return RawInputs(
            "images",
            torch.uint8,
            (3, 32, 32),
            "red, green and blue planes",
            f"the middle {SIDE} x {SIDE} pixels, less their mean over all three planes, over their deviation",
            lambda pixels, dtype: standardized(middle(pixels, SIDE).to(dtype)),
        )

    def prepare_data(self) -> None:
        """Finds, or downloads and unpacks, the files, once in a process."""
        if self.resolved_source is not None:
            return
        self._folder = cifar10_files.obtain(self.root)
        found: Source = "cifar10" if cifar10_files.is_verified(self._folder) else "cifar10-unverified"
        if self.source not in ("auto", found):
            way_out = "delete it, the archive is unpacked" if self.source == "cifar10" else "name another --data.root"
            raise DataError(f"{self._folder} is {found}, and --data.source asks for {self.source}; {way_out}")
        self.resolved_source = found

    def setup(self, stage: str) -> None:
        """Reads the files into the memory of the device that trains, once."""
        if hasattr(self, "train"):
            return
        self.prepare_data()  # another process of this machine may have prepared the data
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        images, labels = (part.to(device) for part in cifar10_files.read(self._folder, cifar10_files.TRAIN))
        training = len(labels) - self.validation_images
        if self.batch_size > training:
            raise DataError(f"a batch of {self.batch_size:,} is more than the {max(training, 0):,} training images")
        self.train = images[:training], labels[:training]
        self.validation = images[training:], labels[training:]
        test_images, test_labels = (part.to(device) for part in cifar10_files.read(self._folder, cifar10_files.TEST))
        if self.wrap_test:
            total = -(-len(test_labels) // self.eval_batch_size) * self.eval_batch_size
            wrapped = torch.arange(total, device=device) % len(test_labels)
            test_images, test_labels = test_images[wrapped], test_labels[wrapped]
        self.test = test_images, test_labels

    def train_dataloader(self) -> Batches:
        """Distorted batches of the training split; an incomplete last one is left out."""
        images, labels = self.train
        inputs = TrainingInputs(len(labels), SIDE, self.brightness, self.seed)
        return batch_loader(
            images, labels, self.batch_size, shuffle=True, incomplete="drop", seed=self.seed, inputs=inputs
        )

    def val_dataloader(self) -> Batches:
        """Batches, in order, of the images kept from training, or of the test split where there are none."""
        return self._evaluated(*(self.validation if self.validation_images else self.test))

    def test_dataloader(self) -> Batches:
        """Batches of the test split, in order."""
        return self._evaluated(*self.test)

    def predict_dataloader(self) -> Batches:
        """The first ``predict_images`` test images with their labels."""
        images, labels = (part[: self.predict_images] for part in self.test)
        return self._evaluated(images, labels)

    def _evaluated(self, images: Tensor, labels: Tensor) -> Batches:
        return batch_loader(images, labels, self.eval_batch_size, inputs=EvaluationInputs(SIDE))

    def own_images(self, paths: Sequence[Path], ink: Ink) -> Tensor:
        """A person's own photographs ``(N, 3, 24, 24)``, float32, as the network wants them.

        Raises:
            DataError: naming the photograph that cannot be used; on any ``ink`` but ``"auto"``, for they have none.
        """
        if ink != "auto":
            raise DataError("--ink is for drawings of digits; photographs are taken as they are")
        photographs = torch.stack([read_photograph(path, side=32) for path in paths])
        return EvaluationInputs(SIDE)(photographs, torch.arange(len(paths)), 0)

"""Images of as many identities as are asked for, none of which is stored: numbers that stand for faces.

    image = 2 (A f + strength B p) + noise e

``f`` ``(F,)`` is the face, drawn for an identity; ``p`` ``(F,)`` what a pose, a light, an age would be, ``e`` ``(P,)``
what a camera adds, both drawn for an image; all normal of deviation 1. ``A`` and ``B`` ``(P, F)`` are the same for all,
their columns orthogonal and of length 1, so that a network can tell a face from a pose, and must learn which is which.

Legend: N images of a split, B of a batch, P = 256 pixels, F = 64 numbers of a face or a pose, C identities to train.

Source: none, ours. What it is for is the size of a training: WebFace260M (arXiv:2103.04098) has four million
identities and cannot be had by everybody.
"""

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from lit_l2softmax.seeds import mix

from .batches import Batches, batch_loader
from .raw_inputs import RawInputs

SIDE, FACTORS = 16, 64
PIXELS = SIDE * SIDE
SCALE = (PIXELS / FACTORS) ** 0.5  # gives a face's pixels a deviation of 1


class SyntheticFaces:
    """Makes images of identities by number.

    What is drawn for a face is a function of (seed, identity) alone, and what is drawn for an image of (seed, split,
    epoch, its position): not of the batch that it falls into or of the process that makes it.

    Args:
        split: whose images they are; those of another are others.
        strength: of poses against faces.
        noise: deviation of what the camera adds to a pixel.
        seed: of everything.
        again: whether each epoch has other images.
    """

    def __init__(self, split: str, strength: float, noise: float, seed: int, *, again: bool = False) -> None:
        self.split, self.strength, self.noise, self.seed, self.again = split, strength, noise, seed, again
        drawn = _normal(mix(seed, "mixing"), 0, PIXELS * 2 * FACTORS).reshape(PIXELS, 2 * FACTORS)
        orthogonal, _ = np.linalg.qr(drawn.astype(np.float64))
        self._mixing = torch.from_numpy(SCALE * orthogonal.T).float()  # (2 F, P)

    def __call__(self, identities: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """The batch ``(B, 1, 16, 16)``, float32, of the split's identities ``(N,)`` at ``positions`` ``(B,)``."""
        faces = mix(self.seed, "face")
        images = mix(self.seed, self.split, epoch if self.again else 0)
        parts = np.empty((len(positions), 2 * FACTORS + PIXELS), np.float32)
        chosen = identities[positions].tolist()
        for part, identity, position in zip(parts, chosen, positions.tolist(), strict=True):
            part[:FACTORS] = _normal(faces, identity, FACTORS)
            part[FACTORS:] = _normal(images, position, FACTORS + PIXELS)
        factors, camera = torch.from_numpy(parts).split([2 * FACTORS, PIXELS], 1)
        factors[:, FACTORS:] *= self.strength
        batch: Tensor = factors @ self._mixing + self.noise * camera
        return batch.view(-1, 1, SIDE, SIDE)


def _normal(key: int, number: int, size: int) -> NDArray[np.float32]:
    """Draws that are a function of two numbers."""
    philox = np.random.Philox(key=np.array([key, number], np.uint64))
    return np.random.Generator(philox).standard_normal(size, np.float32)


class SyntheticFacesData(LightningDataModule):
    """Trains and validates on images of C identities, the classes 0 to C - 1, and tests on images of others.

    Every epoch has other images to train on. Each process makes the rows that it trains on, batch by batch; what is
    kept is a number for each image of an epoch.

    Args:
        identities: C, how many are trained.
        images: of each identity in an epoch.
        held_out: how many other identities are tested, numbered from C on.
        test_images: of each of them.
        batch_size: rows in a training batch, of all processes together.
        eval_batch_size: rows in a validation, test or prediction batch.
        validation: how many images validate, of as many trained identities, evenly chosen.
        strength: of what differs between the images of an identity, its pose, against what does not, its face.
        noise: deviation of what a camera adds to each pixel, of faces whose deviation is 1.
        seed: of faces, images and permutations; the command line sets it to ``seed_everything``.
        predict_images: how many of the validation images ``predict`` classifies.

    Attributes:
        num_classes: C.

    Raises:
        ValueError: on fewer than two identities on either side, on a size below 1 or more validation images than
            identities, on a negative strength or noise.
    """

    def __init__(
        self,
        identities: int,
        images: int = 1,
        held_out: int = 500,
        test_images: int = 4,
        batch_size: int = 64,
        eval_batch_size: int = 500,
        validation: int = 1000,
        strength: float = 2.0,
        noise: float = 2.0,
        seed: int = 0,
        predict_images: int = 4,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("identities", identities, 2),
            ("images", images, 1),
            ("held_out", held_out, 2),
            ("test_images", test_images, 2),
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("validation", validation, 1),
            ("predict_images", predict_images, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if validation > identities:
            raise ValueError(f"validation must be at most {identities}, the number of identities, got {validation}")
        if batch_size > identities * images:
            raise ValueError(f"batch_size must be at most {identities * images}, an epoch's images, got {batch_size}")
        for name, number in (("strength", strength), ("noise", noise)):
            if not 0 <= number < float("inf"):
                raise ValueError(f"{name} must be 0 or a finite positive number, got {number}")
        self.num_classes, self.images = identities, images
        self.held_out_identities, self.test_images = held_out, test_images
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.validation_images, self.predict_images = validation, predict_images
        self.strength, self.noise = strength, noise

    @property
    def title(self) -> str:
        """What the data are called in print."""
        return f"synthetic faces, {self.held_out_identities:,} identities held out of training on {self.num_classes:,}"

    @property
    def raw_inputs(self) -> RawInputs:
        """What an exported network takes: pixels as they are."""
        return RawInputs(
            "images",
            torch.float32,
            (1, SIDE, SIDE),
            "synthetic faces",
            "nothing",
            lambda images, dtype: images.to(dtype),
        )

    def setup(self, stage: str) -> None:
        """Numbers the images of each split by their identities."""
        trained = torch.arange(self.num_classes)
        self.train = trained.repeat(self.images)
        self.validation = trained[: self.validation_images] * self.num_classes // self.validation_images
        held_out = torch.arange(self.num_classes, self.num_classes + self.held_out_identities)
        self.test = held_out.repeat_interleave(self.test_images)

    def _batches(self, split: str, identities: Tensor, size: int, *, train: bool = False) -> Batches:
        inputs = SyntheticFaces(split, self.strength, self.noise, self.seed, again=train)
        return batch_loader(
            identities,
            identities,
            size,
            shuffle=train,
            incomplete="drop" if train else "keep",
            seed=self.seed,
            inputs=inputs,
        )

    def train_dataloader(self) -> Batches:
        """Batches of the trained identities, in another order and of other images in each epoch."""
        return self._batches("train", self.train, self.batch_size, train=True)

    def val_dataloader(self) -> Batches:
        """Images of trained identities that no epoch has."""
        return self._batches("validation", self.validation, self.eval_batch_size)

    def test_dataloader(self) -> Batches:
        """Images of the identities that are held out, one identity after another."""
        return self._batches("test", self.test, self.eval_batch_size)

    def predict_dataloader(self) -> Batches:
        """The first ``predict_images`` validation images with their identities."""
        return self._batches("validation", self.validation[: self.predict_images], self.eval_batch_size)

"""TensorFlow's image distortions for whole batches, on whatever device the images are.

Source: tensorflow/models, tutorials/image/cifar10/cifar10_input.py (2017): ``distorted_inputs`` and ``inputs``, and the
``tf.image`` functions they call.

Legend: N images of a split, B of a batch, C colours, H x W pixels, levels from 0 to 255.
"""

from functools import lru_cache

import torch
from torch import Tensor

from lit_l2softmax.seeds import mix


def adjusted_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """``tf.image.adjust_contrast``: ``(B, C, H, W)`` spread around the mean of each channel by ``factor`` ``(B,)``."""
    mean = images.mean((2, 3), keepdim=True)
    return torch.lerp(mean, images, factor[:, None, None, None])


def standardized(images: Tensor) -> Tensor:
    """``tf.image.per_image_standardization``: each of ``(B, C, H, W)`` less its mean, over its deviation.

    One mean and one deviation are an image's, over its colours too. A deviation below that of a single pixel's
    difference of one is taken for that, which leaves an image of one colour at zero.
    """
    variance, mean = torch.var_mean(images, (1, 2, 3), correction=0, keepdim=True)
    pixels = images[0].numel()
    return (images - mean) / variance.sqrt().clamp_min(pixels**-0.5)


def middle(images: Tensor, side: int) -> Tensor:
    """The middle ``(B, C, side, side)`` of each of ``(B, C, H, W)``, square; a view."""
    first = (images.shape[-1] - side) // 2
    return images[..., first : first + side, first : first + side]


class TrainingInputs:
    """Random crops, mirrored or not, of random contrast, each standardised.

    What is drawn for an image is a function of (seed, epoch, its position in the split) alone: not of the batch that it
    falls into, of the device, or of what was drawn before.

    Args:
        size: N.
        side: of a crop; without padding, as in the source.
        brightness: the largest shift of all levels of an image. The source draws one of up to 63 and then subtracts the
            image's mean, which undoes it.
        seed: of the draws.

    Source: ``distorted_inputs``: random_crop, random_flip_left_right, random_brightness(63), random_contrast(.2, 1.8),
    per_image_standardization.
    """

    def __init__(self, size: int, side: int, brightness: float, seed: int) -> None:
        self.size, self.side, self.brightness, self.seed = size, side, brightness, seed
        self._draws_of = lru_cache(maxsize=1)(self._draw)

    def _draw(self, epoch: int, offsets: int, device: torch.device) -> tuple[Tensor, ...]:
        """For every image its crop's top and left, whether it is mirrored, its contrast, its shift, each ``(N,)``."""
        generator = torch.Generator().manual_seed(mix(self.seed, "distortion", epoch))
        top, left = torch.randint(offsets, (2, self.size), generator=generator)
        mirrored, contrast, shift = torch.rand(3, self.size, generator=generator)
        draws = top, left, mirrored < 0.5, 0.2 + 1.6 * contrast, self.brightness * (2 * shift - 1)
        return tuple(draw.to(device) for draw in draws)

    def __call__(self, images: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """The batch ``(B, C, side, side)``, float32, of the split ``(N, C, H, W)`` at ``positions`` ``(B,)``."""
        draws = self._draws_of(epoch, images.shape[-1] - self.side + 1, images.device)
        top, left, mirrored, contrast, shift = (draw[positions] for draw in draws)
        crops = images.unfold(2, self.side, 1).unfold(3, self.side, 1)  # a view, (N, C, tops, lefts, side, side)
        batch = crops[positions, :, top, left].float()
        batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
        if self.brightness:
            batch = batch + shift[:, None, None, None]
        return standardized(adjusted_contrast(batch, contrast))


class EvaluationInputs:
    """The middle of each image, standardised.

    Args:
        side: of the middle.

    Source: ``inputs``: resize_image_with_crop_or_pad, per_image_standardization.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, images: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """The batch ``(B, C, side, side)``, float32, of the split ``(N, C, H, W)`` at ``positions`` ``(B,)``."""
        return standardized(middle(images, self.side)[positions].float())

"""A person's own pictures, brought into the shape that the networks were trained on.

Photographs are cut to a square and scaled. Digits are prepared as MNIST's were (LeCun et al. 1998, "Gradient-Based
Learning Applied to Document Recognition", section III.A): light ink on a dark ground, scaled into a box, its centre of
mass in the middle of 28x28 pixels.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lit_l2softmax.errors import DataError

Ink = Literal["auto", "dark", "light"]
Grey = NDArray[np.float32]

SIDE = 28
MOST_PIXELS = 50_000_000
LEAST_CONTRAST = 0.15  # of the range from black to white; the noise of paper and sensors stays below
LOOK_SIDE = 112  # a larger picture is averaged down to this before its contrast is judged, which takes its noise away
_MANY_BITS = ("I", "F")  # Pillow's modes of 16 and 32 bits
FAINT = 0.25  # of the darkest ink: what is fainter is ground


def read_digit(path: Path, *, ink: Ink = "auto", box: int = 20) -> Tensor:
    """One digit, ``(1, 28, 28)``, float32 in [0, 1], 1 being ink.

    Args:
        path: any format that Pillow reads; colour, grey, palette, 16 bits, with or without transparency.
        ink: whether the digit is darker or lighter than its ground; ``"auto"`` looks at the picture's border.
        box: side of the square that the digit is scaled into; 20 in MNIST.

    Raises:
        DataError: naming the picture, where it cannot be read, is blank, animated or enormous.
    """
    return torch.from_numpy(_centred(_ink(_grey(path), path, ink), box))[None]


def read_digit_as_tutorial(path: Path) -> Tensor:
    """One digit, ``(1, 28, 28)``, float32 in [0, 1], as the tutorial of System 5 reads it: dark ink on white alone.

    The whole picture is squeezed into the square, wherever the digit lies on it and whatever is transparent.

    Raises:
        DataError: naming the picture, where it cannot be read, is animated or enormous.

    Source: Paddle, "zero-basis deep learning", section 2.5, ``load_image``; its ANTIALIAS is Pillow's LANCZOS.
    """
    grey = _opened(path).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(1 - np.asarray(grey, dtype=np.float32) / 255)[None]


def read_photograph(path: Path, *, side: int) -> Tensor:
    """The middle square of a picture scaled to ``(3, side, side)``, uint8; what is transparent becomes white.

    Raises:
        DataError: naming the picture, where it cannot be read, is animated or enormous.
    """
    picture = _opened(path)
    if picture.mode.startswith(_MANY_BITS):
        picture = Image.fromarray(np.round(255 * _normalised(picture, path)).astype(np.uint8))
    visible = picture.convert("RGBA")
    colours = Image.alpha_composite(Image.new("RGBA", visible.size, "white"), visible).convert("RGB")
    square = ImageOps.fit(colours, (side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(square).copy()).movedim(-1, 0).contiguous()


def _opened(path: Path) -> Image.Image:
    """The picture, turned as its camera says."""
    try:
        with Image.open(path) as picture:
            if (frames := getattr(picture, "n_frames", 1)) > 1:
                raise DataError(f"{path} is animated ({frames} frames); save the frame you mean as a picture")
            if picture.width * picture.height > MOST_PIXELS:
                raise DataError(
                    f"{path} is enormous ({picture.width} x {picture.height} pixels); "
                    f"scale it down to {MOST_PIXELS:,} pixels or fewer"
                )
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} is enormous; scale it down to {MOST_PIXELS:,} pixels or fewer") from error
    except FileNotFoundError as error:
        raise DataError(f"the picture {path} does not exist") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not a picture in a format that can be read") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for a damaged file
        raise DataError(f"the picture {path} is damaged or cannot be read: {error}") from error


def _normalised(picture: Image.Image, path: Path) -> Grey:
    """A grey picture of 16 or 32 bits in [0, 1], its lightest pixel at 1."""
    values = np.asarray(picture, dtype=np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"the picture {path} holds values that are not numbers")
    return np.asarray(np.clip(values, 0, None) / max(float(values.max()), 1e-12), np.float32)


def _grey(path: Path) -> Grey:
    """Luminance in [0, 1], transparency laid on a ground that the visible part stands out from."""
    upright = _opened(path)
    if upright.mode.startswith(_MANY_BITS):
        return _normalised(upright, path)
    luminance_and_alpha = np.asarray(upright.convert("RGBA").convert("LA"), dtype=np.float32) / 255
    luminance, opacity = luminance_and_alpha[..., 0], luminance_and_alpha[..., 1]
    visible = float((luminance * opacity).sum() / max(float(opacity.sum()), 1e-12))
    ground = 1.0 if visible < 0.5 else 0.0
    return np.asarray(luminance * opacity + ground * (1 - opacity), np.float32)


def _ink(grey: Grey, path: Path, ink: Ink) -> Grey:
    """How much ink there is in each pixel, in [0, 1]."""
    look = Image.fromarray(grey)
    look.thumbnail((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BOX)
    darkest, lightest = (float(value) for value in np.percentile(np.asarray(look), (0.02, 99.98)))
    if ink == "auto":
        ground = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
        dark = ground - darkest > lightest - ground
    else:
        dark = ink == "dark"
        ground = float(np.percentile(grey, 90 if dark else 10))
    contrast = ground - darkest if dark else lightest - ground
    if contrast < LEAST_CONTRAST:
        wanted = "darker" if dark else "lighter"
        raise DataError(
            f"the picture {path} is blank: nothing on it is clearly {wanted} than its ground; crop it to the digit"
        )
    amount = ((ground - grey) if dark else (grey - ground)) / contrast
    return np.where(amount < FAINT, 0, np.clip(amount, 0, 1)).astype(np.float32)


def _centred(ink: Grey, box: int) -> Grey:
    """The digit in a box of its own, the box placed so that the ink's centre of mass is the middle."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    digit = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = box / max(digit.size)
    size = max(1, round(digit.width * scale)), max(1, round(digit.height * scale))
    small = np.clip(np.asarray(digit.resize(size, Image.Resampling.LANCZOS)), 0, 1)
    height, width = small.shape
    total = small.sum()
    centre_row = float((small.sum(1) * np.arange(height)).sum() / total)
    centre_column = float((small.sum(0) * np.arange(width)).sum() / total)
    top = min(max(round((SIDE - 1) / 2 - centre_row), 0), SIDE - height)
    left = min(max(round((SIDE - 1) / 2 - centre_column), 0), SIDE - width)
    framed = np.zeros((SIDE, SIDE), np.float32)
    framed[top : top + height, left : left + width] = small
    return framed

"""Pictures show what they are given: looked at pixel by pixel."""

import numpy as np
import torch
from PIL import Image

from lit_l2softmax import plots


def ink(path):
    """How much of the picture is not white."""
    return float((np.asarray(Image.open(path).convert("L")) < 250).mean())


def test_a_grid_shows_every_image_under_its_caption(tmp_path):
    path = tmp_path / "plots" / "grid.png"
    images = torch.zeros(10, 1, 28, 28)
    images[:, :, :14] = 1
    plots.save_grid(path, images, [f"image {n}" for n in range(10)], "ten images")
    # Half of each image is black; ten squares of 1.2 inches in a picture of 12 x 4.3 inches.
    assert 0.08 < ink(path) < 0.4
    one = tmp_path / "plots" / "one.png"
    plots.save_grid(one, images[:1], ["only"], "one image")
    assert ink(one) > 0.05


def test_a_grid_takes_colour_and_bytes(tmp_path):
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = 255
    plots.save_grid(tmp_path / "grid.png", images, ["a", "b"], "red")
    pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB")).astype(int)
    assert ((pixels[..., 0] > 200) & (pixels[..., 1] < 50)).mean() > 0.1


def test_a_confusion_matrix_colours_mistakes_and_not_what_is_right(tmp_path):
    counts = torch.tensor([[90, 0, 0], [0, 80, 30], [0, 0, 70]])
    plots.save_confusion_matrix(tmp_path / "matrix.png", counts, "thirty mistakes")
    pixels = np.asarray(Image.open(tmp_path / "matrix.png").convert("RGB")).astype(int)
    dark_orange = (pixels[..., 0] > 100) & (pixels[..., 2] < 60)
    assert 0.02 < dark_orange.mean() < 0.12  # one of nine fields, of a picture that is more than the matrix

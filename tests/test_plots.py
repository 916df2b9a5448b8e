"""Pictures show what they are given: looked at pixel by pixel."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
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


def test_every_image_and_every_caption_is_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "imshow", lambda self, pixels, **options: drawn.append((pixels.max(), options)))
    monkeypatch.setattr(Axes, "set_title", lambda self, text, **_: drawn.append(text))
    images = torch.arange(1.0, 11)[:, None, None, None].expand(10, 1, 8, 8) / 20
    plots.save_grid(tmp_path / "grid.png", images, [f"image {n}" for n in range(10)], "ten images")
    assert [entry[0] for entry in drawn[::2]] == pytest.approx([n / 20 for n in range(1, 11)])
    assert all((entry[1]["vmin"], entry[1]["vmax"]) == (0, 1) for entry in drawn[::2])
    assert drawn[1::2] == [f"image {n}" for n in range(10)]


@pytest.mark.parametrize("caption", ["$\\frac$ price.webp", "数字.png"])
def test_any_name_can_be_a_caption(tmp_path, caption):
    plots.save_grid(tmp_path / "grid.png", torch.zeros(1, 1, 8, 8), [caption], "one")


def test_the_matrixs_axes_say_which_is_which(tmp_path, monkeypatch):
    texts, labels, ticks = [], {}, {}
    monkeypatch.setattr(Axes, "set_xticks", lambda self, positions, names, **_: ticks.update(x=list(names)))
    monkeypatch.setattr(Axes, "set_yticks", lambda self, positions, names, **_: ticks.update(y=list(names)))
    monkeypatch.setattr(Axes, "text", lambda self, x, y, text, **_: texts.append((x, y, text)))
    monkeypatch.setattr(Axes, "set", lambda self, **options: labels.update(options))
    plots.save_confusion_matrix(
        tmp_path / "matrix.png", torch.tensor([[9, 2], [0, 7]]), ["cat", "automobile"], "two mistakes"
    )
    assert ticks == {"x": ["cat", "automobile"], "y": ["cat", "automobile"]}
    assert (1, 0, "2") in texts  # true class 0, in the first row, taken for 1, in the second column
    assert (labels["xlabel"], labels["ylabel"]) == ("predicted", "true")


def test_a_grid_takes_colour_and_bytes(tmp_path):
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = 255
    plots.save_grid(tmp_path / "grid.png", images, ["a", "b"], "red")
    pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB")).astype(int)
    assert ((pixels[..., 0] > 200) & (pixels[..., 1] < 50)).mean() > 0.1


def test_a_confusion_matrix_colours_mistakes_and_not_what_is_right(tmp_path):
    counts = torch.tensor([[90, 0, 0], [0, 80, 30], [0, 0, 70]])
    plots.save_confusion_matrix(tmp_path / "matrix.png", counts, "012", "thirty mistakes")
    pixels = np.asarray(Image.open(tmp_path / "matrix.png").convert("RGB")).astype(int)
    dark_orange = (pixels[..., 0] > 100) & (pixels[..., 2] < 60)
    assert 0.02 < dark_orange.mean() < 0.12  # one of nine fields, of a picture that is more than the matrix


def test_what_is_displayed_lies_between_zero_and_one():
    levels = torch.tensor([[0.0, 0.25], [0.5, 0.9]])
    assert torch.equal(plots.displayable(levels), levels)  # as it is: black stays black where nothing is
    assert torch.equal(plots.displayable(levels.bfloat16()), levels.bfloat16().float())
    assert torch.equal(plots.displayable(torch.tensor([[0, 51]], dtype=torch.uint8)), torch.tensor([[0.0, 0.2]]))
    for beyond in (torch.tensor([[-3.0, -1.0, 5.0]]), torch.tensor([[0.0, 0.5, 2.0]])):
        assert torch.equal(plots.displayable(beyond), torch.tensor([[0.0, 0.25, 1.0]]))
    assert torch.equal(plots.displayable(torch.full((2, 2), -7.0)), torch.zeros(2, 2))

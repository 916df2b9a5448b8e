"""The pictures a run leaves, drawn without a display."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor


def save_grid(path: Path, images: Tensor, captions: Sequence[str], title: str) -> None:
    """Saves images ``(N, 1, H, W)`` or ``(N, 3, H, W)``, each under its caption, as one picture."""
    columns = min(len(captions), 8)
    rows = -(-len(captions) // columns)
    lines = 1 + max(caption.count("\n") for caption in captions)
    figure = Figure(figsize=(max(1.5 * columns, 3.5), (1.6 + 0.15 * lines) * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    for axis, image, caption in zip(axes, images, captions, strict=False):
        axis.imshow(displayable(image).movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(caption, fontsize=8, parse_math=False)  # a dollar in a file's name is no formula
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def displayable(image: Tensor) -> Tensor:
    """An image of any shape and dtype on the CPU, float32 in [0, 1]; one with values outside, as a network is given
    it when each image is standardised, is stretched from its least value to its greatest.
    """
    levels = image.cpu().float()
    if not image.is_floating_point():
        return levels / 255
    low, high = levels.aminmax()
    if low >= 0 and high <= 1:
        return levels
    return (levels - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)


def pixels(image: Tensor) -> NDArray[np.uint8]:
    """What is displayed of an image ``(C, H, W)``, levels of 0 to 255, ``(H, W, C)`` or, of one channel, ``(H, W)``.

    W&B cuts other types down to these levels, and all that is below 1 to black.
    """
    levels = (displayable(image) * 255).round().to(torch.uint8)
    return levels.movedim(0, -1).squeeze(-1).numpy()


def save_confusion_matrix(path: Path, counts: Tensor, names: Sequence[str], title: str) -> None:
    """Saves how often class i (a row) was taken for class j (a column).

    ``counts`` is ``(C, C)``, int64, ``names`` are those of the C classes.

    Colour shows mistakes alone, or the diagonal would drown them.
    """
    matrix = counts.cpu().numpy()
    mistakes = matrix - np.diag(np.diag(matrix))
    figure = Figure(figsize=(0.55 * len(matrix) + 1.5, 0.55 * len(matrix) + 1.5), layout="constrained")
    axis = figure.subplots()
    most = max(1, int(mistakes.max()))
    axis.imshow(mistakes, cmap="Oranges", vmin=0, vmax=most)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if mistakes[row, column] > 0.6 * most else "black"
            axis.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=colour)
    axis.set(xlabel="predicted", ylabel="true")
    slant = 0 if max(map(len, names)) <= 3 else 45
    axis.set_xticks(range(len(matrix)), names, rotation=slant, parse_math=False)
    axis.set_yticks(range(len(matrix)), names, parse_math=False)
    axis.set_title(title, fontsize=10)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as the picture ``path``, in a folder whose parent is there."""
    path.parent.mkdir(exist_ok=True)
    write(figure, path, dpi=120)


def write(figure: Figure, target: Path | IO[str], **options: Any) -> None:
    """``figure.savefig`` without a warning of a name in a script that the font has not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(target, **options)

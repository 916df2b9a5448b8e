"""What a test got wrong, in files that pages are made of: which class was taken for which, and the worst mistakes."""

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .errors import RunError
from .plots import displayable

CONFUSION_FILE = "plots/confusion_matrix.csv"
MISTAKES_FILE = "plots/mistakes.json"
THUMBNAIL = 96  # pixels, the longer side


@dataclass(frozen=True)
class Confusion:
    """How often which class was taken for which.

    Attributes:
        names: of the C classes.
        counts: images by true class and prediction, as numbers; pairs that never occurred are absent.
    """

    names: list[str]
    counts: dict[tuple[int, int], int]

    def recognised(self) -> list[tuple[int, int]]:
        """Of each class, how many images were taken for it rightly, and how many there were."""
        found = [[0, 0] for _ in self.names]
        for (true, predicted), count in self.counts.items():
            found[true][0] += count * (true == predicted)
            found[true][1] += count
        return [(right, images) for right, images in found]


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class.

    Attributes:
        true: its class's name.
        predicted: the name of what it was taken for.
        probability: that its own class was given.
        image: a PNG of at most 96 x 96 pixels, in base64.
    """

    true: str
    predicted: str
    probability: float
    image: str


def confusion(labels: Tensor, predictions: Tensor, names: Sequence[str]) -> Confusion:
    """The confusion of labels and predictions, ``(N,)``, int64, on the CPU; ``names`` are those of the C classes."""
    pairs, counts = torch.stack([labels, predictions], 1).unique(dim=0, return_counts=True)
    return Confusion(
        list(names),
        {(true, taken): count for (true, taken), count in zip(pairs.tolist(), counts.tolist(), strict=True)},
    )


def thumbnail(image: Tensor) -> str:
    """An image ``(1, H, W)`` or ``(3, H, W)`` as a PNG of at most 96 x 96 pixels, in base64."""
    levels = (displayable(image) * 255).round().to(torch.uint8)
    picture = Image.fromarray(levels.movedim(0, -1).squeeze(-1).numpy())
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def write(run: Path, confused: Confusion, mistakes: Sequence[Mistake]) -> None:
    """Writes both files into a run's folder; the first names every class, in order, also those that were never seen."""
    (run / CONFUSION_FILE).parent.mkdir(exist_ok=True)
    diagonal = {(label, label): 0 for label in range(len(confused.names))}
    with (run / CONFUSION_FILE).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["true", "predicted", "images"])
        for (true, predicted), count in sorted((diagonal | confused.counts).items()):
            writer.writerow([confused.names[true], confused.names[predicted], count])
    (run / MISTAKES_FILE).write_text(json.dumps([asdict(mistake) for mistake in mistakes], indent=1) + "\n")


def read_confusion(run: Path) -> Confusion | None:
    """The confusion of a run's test; None of one that has none, as a regression has not.

    Raises:
        RunError: where the file is damaged.
    """
    path = run / CONFUSION_FILE
    if not path.is_file():
        return None
    try:
        with path.open(newline="") as file:
            rows = [(row["true"], row["predicted"], int(row["images"])) for row in csv.DictReader(file)]
        names = list(dict.fromkeys(true for true, _, _ in rows))
        place = {name: label for label, name in enumerate(names)}
        return Confusion(names, {(place[true], place[taken]): count for true, taken, count in rows if count})
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def read_mistakes(run: Path) -> list[Mistake]:
    """The worst mistakes of a run's test, the worst first; none of one that has no such file.

    Raises:
        RunError: where the file is damaged.
    """
    path = run / MISTAKES_FILE
    if not path.is_file():
        return []
    try:
        return [Mistake(**mistake) for mistake in json.loads(path.read_text())]
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged: {type(error).__name__}: {error}") from error

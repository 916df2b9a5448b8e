"""What a test got wrong, in files that pages are made of: which class was taken for which, and the worst mistakes."""

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .errors import RunError
from .plots import pixels

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

    def matrix(self) -> Tensor:
        """The counts ``(C, C)``, int64, true classes in rows."""
        matrix = torch.zeros(len(self.names), len(self.names), dtype=torch.int64)
        for pair, count in self.counts.items():
            matrix[pair] = count
        return matrix


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class.

    Attributes:
        true: its class's name.
        predicted: the name of what it was taken for.
        probability: that its own class was given; None where that was not a number.
        image: a PNG of at most 96 x 96 pixels, in base64.
    """

    true: str
    predicted: str
    probability: float | None
    image: str


def confusion(labels: Tensor, predictions: Tensor, names: Sequence[str]) -> Confusion:
    """The confusion of labels and predictions, ``(N,)``, int64, on the CPU; ``names`` are those of the C classes."""
    pairs, counts = torch.stack([labels, predictions], 1).unique(dim=0, return_counts=True)
    found = zip(pairs.tolist(), counts.tolist(), strict=True)
    return Confusion(list(names), {(true, predicted): count for (true, predicted), count in found})


def thumbnail(image: Tensor) -> str:
    """An image ``(1, H, W)`` or ``(3, H, W)`` as a PNG of at most 96 x 96 pixels, in base64."""
    picture = Image.fromarray(pixels(image))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def write(run: Path, confused: Confusion, mistakes: Sequence[Mistake]) -> None:
    """Writes both files into a run's folder; the first names every class, in order, also those that were never seen."""
    (run / CONFUSION_FILE).parent.mkdir(exist_ok=True)
    diagonal = {(label, label): 0 for label in range(len(confused.names))}
    with (run / CONFUSION_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["true_label", "true", "predicted_label", "predicted", "images"])
        for (true, predicted), count in sorted((diagonal | confused.counts).items()):
            writer.writerow([true, confused.names[true], predicted, confused.names[predicted], count])
    told = [asdict(one) for one in mistakes]
    for one in told:
        one["probability"] = one["probability"] if isfinite(one["probability"]) else None  # JSON has no word for it
    (run / MISTAKES_FILE).write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_confusion(run: Path) -> Confusion | None:
    """The confusion of a run's test; None of one that has none, as a regression has not.

    Raises:
        RunError: where the file is damaged.
    """
    path = run / CONFUSION_FILE
    if not path.is_file():
        return None
    names: list[str] = []
    counts: dict[tuple[int, int], int] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                pair = int(row["true_label"]), int(row["predicted_label"])
                counts[pair] = int(row["images"])
                if pair == (len(names), len(names)):
                    names.append(row["true"])
        if not all(0 <= label < len(names) for pair in counts for label in pair):
            raise ValueError("a class has no line of its own")
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return Confusion(names, {pair: count for pair, count in counts.items() if count})


def read_mistakes(run: Path) -> list[Mistake]:
    """The worst mistakes of a run's test, the worst first; none of one that has no such file.

    Raises:
        RunError: where the file is damaged.
    """
    path = run / MISTAKES_FILE
    if not path.is_file():
        return []
    try:
        return [_mistake(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _mistake(true: str, predicted: str, probability: float | None, image: str) -> Mistake:
    return Mistake(true, predicted, None if probability is None else float(probability), image)

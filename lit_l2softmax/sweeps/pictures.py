"""Pictures of a sweep that its rows do not hold: made of what its runs left in their plots, kept beside the rows.

What a kind of picture is made of is a table that each run leaves under the same name; the sweep's is all of them, each
line behind the variant and the seed of its run.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from lit_l2softmax.errors import ConfigError, RunError
from lit_l2softmax.plots import save
from lit_l2softmax.plots_of_features import FEATURES_FILE, NORMS_FILE
from lit_l2softmax.plots_of_verification import ROC_FILE
from lit_l2softmax.whole_files import write_whole

from .feature_charts import features_chart, norms_chart
from .roc_chart import roc_chart
from .rows import Row, variants

VARIANT, SEED = "variant", "seed"
Lines = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Picture:
    """One kind of picture.

    Attributes:
        left: the file that runs leave for it.
        draw: what draws the lines of all of them.
        every_seed: whether it is of all seeds, or of each variant's first alone that has left something.
    """

    left: str
    draw: Callable[[Lines], Figure]
    every_seed: bool = True


PICTURES: Mapping[str, Picture] = {
    "roc": Picture(ROC_FILE, roc_chart),
    "features": Picture(FEATURES_FILE, features_chart, every_seed=False),
    "norms": Picture(NORMS_FILE, norms_chart),
}


def place(rows: Path, name: str) -> Path:
    """Where what a picture is made of lies, beside the file of the rows."""
    return rows.with_name(f"{rows.stem}-{name}.csv")


def gather(file: Path, folder: Path, rows: Sequence[Row]) -> None:
    """Keeps what the runs of a sweep's folder left for pictures beside ``file``, that of its rows.

    Raises:
        RunError: where what a run left is damaged.
        OSError: where it cannot be kept.
    """
    for name, picture in PICTURES.items():
        head: list[str] = []
        lines: list[list[str]] = []
        for variant, of in variants(rows).items():
            for row in of:
                path = folder / row.run / "plots" / picture.left
                if not path.is_file():
                    continue
                head, found = _left(path, head)
                lines += [[variant, row.seed, *line] for line in found]
                if not picture.every_seed:
                    break
        if not lines:
            place(file, name).unlink(missing_ok=True)
            continue
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([[VARIANT, SEED, *head], *lines])
        write_whole(place(file, name), text.getvalue())


def _left(path: Path, head: list[str]) -> tuple[list[str], list[list[str]]]:
    """The names of a run's columns, which are those of the runs before where there were some, and its lines."""
    try:
        with path.open(newline="", encoding="utf-8") as opened:
            mine, *lines = csv.reader(opened)
        if head not in ([], mine) or any(len(line) != len(mine) for line in lines):
            raise ValueError("its columns are not those of the others")
    except (csv.Error, ValueError) as error:  # a text's too
        raise RunError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    return mine, lines


def drawn(file: Path) -> list[tuple[str, Figure]]:
    """The pictures for which something is kept beside the file of the rows, by name.

    Raises:
        ConfigError: where that is damaged.
    """
    found = []
    for name, picture in PICTURES.items():
        path = place(file, name)
        if not path.is_file():
            continue
        try:
            with path.open(newline="", encoding="utf-8") as opened:
                found.append((name, picture.draw(list(csv.DictReader(opened)))))
        except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} holds nothing to draw: {type(error).__name__}: {error}") from error
    return found


def draw(file: Path) -> list[Path]:
    """Saves those pictures beside the file of the rows and returns their paths."""
    paths = []
    for name, figure in drawn(file):
        paths.append(place(file, name).with_suffix(".png"))
        save(figure, paths[-1])
    return paths

"""Pictures of a sweep that its rows do not hold: made of what its runs left in their plots, kept beside the rows.

What a kind of picture is made of is a table that each run leaves under the same name; the sweep's is all of them, each
line behind the variant and the seed of its run.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.plots import save
from lit_l2softmax.plots_of_verification import ROC_FILE
from lit_l2softmax.whole_files import write_whole

from .roc_chart import roc_chart
from .rows import Row, variants

VARIANT, SEED = "variant", "seed"
Lines = Sequence[Mapping[str, str]]

# By the name of the picture: the file that runs leave, and what draws the lines of all of them.
PICTURES: Mapping[str, tuple[str, Callable[[Lines], Figure]]] = {"roc": (ROC_FILE, roc_chart)}


def place(rows: Path, name: str) -> Path:
    """Where what a picture is made of lies, beside the file of the rows."""
    return rows.with_name(f"{rows.stem}-{name}.csv")


def gather(file: Path, folder: Path, rows: Sequence[Row]) -> None:
    """Keeps what the runs of a sweep's folder left for pictures beside ``file``, that of its rows."""
    for name, (left, _) in PICTURES.items():
        head: list[str] = []
        lines: list[list[str]] = []
        for variant, of in variants(rows).items():
            for row in of:
                path = folder / row.run / "plots" / left
                if row.value is None or not path.is_file():
                    continue
                with path.open(newline="", encoding="utf-8") as opened:
                    head, *found = csv.reader(opened)
                lines += [[variant, row.seed, *line] for line in found]
        if not lines:
            place(file, name).unlink(missing_ok=True)
            continue
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([[VARIANT, SEED, *head], *lines])
        write_whole(place(file, name), text.getvalue())


def drawn(file: Path) -> list[tuple[str, Figure]]:
    """The pictures for which something is kept beside the file of the rows, by name.

    Raises:
        ConfigError: where that is damaged.
    """
    found = []
    for name, (_, draw_lines) in PICTURES.items():
        path = place(file, name)
        if not path.is_file():
            continue
        try:
            with path.open(newline="", encoding="utf-8") as opened:
                found.append((name, draw_lines(list(csv.DictReader(opened)))))
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

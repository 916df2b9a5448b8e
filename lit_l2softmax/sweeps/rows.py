"""The runs of a sweep as rows of ``sweep.csv``: what the table and the chart are made from, and nothing else."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lit_l2softmax import runs
from lit_l2softmax.errors import ConfigError, RunError
from lit_l2softmax.whole_files import write_whole

from .definition import SEED, Setting

SWEEP_FILE = "sweep.csv"  # of a sweep's folder
CONFIG_FILE = "config.yaml"  # there: what is trained without any setting
ALPHA = "train/alpha"
TEST = "test/"  # before a figure's, in a result and here
DASHES = "--"  # before an option's column, which tells it from the others


@dataclass(frozen=True)
class Row:
    """One run that has ended.

    Attributes:
        options: every option's value as text, those within a class's arguments by their own names; without the seed.
        seed: of the run, which pairs it with the others' of that seed.
        sweep: its name.
        metric: whose ``value`` this is, None of a run that failed.
        error: why it failed, empty where it did not.
        head: the class of the classifier's head, where there is one.
        alpha: the last one trained with, where the run recorded one.
        classes: of the classifier, where it is one.
        run: its folder, from the sweep's.
        figures: the other figures of its test.
    """

    options: Mapping[str, str]
    seed: str
    sweep: str
    metric: str
    value: float | None
    error: str = ""
    head: str = ""
    alpha: float | None = None
    classes: int | None = None
    steps: int | None = None
    seconds: float | None = None
    data: str = ""
    device: str = ""
    versions: str = ""
    run: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


_COLUMNS = [column for column in fields(Row) if column.name not in ("options", "seed", "figures")]
_PARSED: dict[Any, Callable[[str], Any]] = {float | None: float, int | None: int}


def flat(setting: Setting) -> dict[str, str]:
    """The options of a setting as text, what is nested in a value under its path."""
    found: dict[str, str] = {}
    for name, value in setting.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{below}": text for below, text in flat(value).items()}
        else:
            found[name] = str(value) if value != "" else "''"
    return found


def failed(sweep: str, setting: Setting, metric: str, error: str) -> Row:
    """The row of a run that has no figure."""
    options = flat(setting)
    return Row(options, options.pop(SEED, ""), sweep, metric, None, error)


def row(sweep: str, setting: Setting, metric: str, folder: Path, run: Path) -> Row:
    """The row of a run that is over, in a sweep's folder.

    Raises:
        ConfigError: where its result has no such figure.
        RunError: where that is not a number, or its record is damaged.
    """
    result = runs.read_result(run)
    if metric not in result:
        figures = ", ".join(name for name, figure in result.items() if isinstance(figure, float))
        raise ConfigError(f"the runs have no figure {metric!r}; they have {figures}")
    if result[metric] is None:
        raise RunError(f"its {metric} is not a number")
    options = flat(setting)
    head = _head(run)
    try:
        return Row(
            options,
            options.pop(SEED, str(result["seed"])),
            sweep,
            metric,
            float(result[metric]),
            head=str(head.get("class_path", "")).rpartition(".")[2],
            alpha=next((record[ALPHA] for record in reversed(runs.read_metrics(run)) if ALPHA in record), None),
            classes=(head.get("init_args") or {}).get("num_classes"),
            steps=int(result["steps"]),
            seconds=float(result["seconds"]),
            data=str(result["data/source"]),
            device=str(result["device"]),
            versions=str(result["versions"]),
            run=run.relative_to(folder).as_posix(),
            figures={
                name: float(figure)
                for name, figure in result.items()
                if name.startswith(TEST) and name != metric and figure is not None
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run / runs.RESULT_FILE} is damaged: {type(error).__name__}: {error}") from error


def _head(run: Path) -> dict[str, Any]:
    """The head of a run's configuration, nothing where it has none."""
    found: Any = runs.read_config(run)
    for name in ("model", "init_args", "head"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def write(path: Path, rows: Sequence[Row]) -> None:
    """Writes the rows, whole or not at all."""
    options, figures = (
        list(dict.fromkeys(name for row in rows for name in getattr(row, of))) for of in ("options", "figures")
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(DASHES + name for name in (*options, SEED)), *(column.name for column in _COLUMNS), *figures])
    for row in rows:
        cells = ("" if (cell := getattr(row, column.name)) is None else cell for column in _COLUMNS)
        told = (row.options.get(name, "") for name in options)
        writer.writerow([*told, row.seed, *cells, *(row.figures.get(name, "") for name in figures)])
    write_whole(path, text.getvalue())


def read(path: Path) -> list[Row]:
    """The rows of a file.

    Raises:
        ConfigError: where it is not one of rows.
    """
    try:
        with path.open(newline="") as file:
            found = [_row(cells) for cells in csv.DictReader(file, restkey="")]
    except (OSError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} holds no rows of a sweep: {type(error).__name__}: {error}") from error
    if not found:
        raise ConfigError(f"{path} holds no rows of a sweep: it is empty")
    return found


def _row(cells: Mapping[str, str]) -> Row:
    if "" in cells:
        raise ValueError("a line has more cells than the first")
    if None in cells.values():
        raise ValueError("a line has fewer cells than the first")
    options = {name.removeprefix(DASHES): cell for name, cell in cells.items() if name.startswith(DASHES) and cell}
    known: dict[str, Any] = {}
    for column in _COLUMNS:
        parse, cell = _PARSED.get(column.type), cells[column.name]
        known[column.name] = cell if parse is None else parse(cell) if cell else None
    figures = {name: float(cell) for name, cell in cells.items() if name.startswith(TEST) and cell}
    for figure in (known["value"] or 0.0, *figures.values()):
        if not math.isfinite(figure):
            raise ValueError(f"{figure} is no figure to compare")
    return Row(options, options.pop(SEED, ""), **known, figures=figures)


def variants(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each combination of options, in their order, by its name."""
    found: dict[str, list[Row]] = {}
    for name, row in zip(names([row.options for row in rows]), rows, strict=True):
        found.setdefault(name, []).append(row)
    return found


def names(options: Sequence[Mapping[str, str]]) -> list[str]:
    """What each combination of options is called: the values in which it differs from others."""
    every = list(dict.fromkeys(name for one in options for name in one))
    differing = [name for name in every if len({one.get(name) for one in options}) > 1]
    exact = [
        ", ".join(f"{name.rpartition('.')[2]} {one[name]}" for name in differing if name in one) or "the configuration"
        for one in options
    ]
    short = [", ".join(part.removesuffix(".0") for part in name.split(", ")) for name in exact]
    return short if len(set(short)) == len(set(exact)) else exact

"""The runs of a sweep as rows of ``sweep.csv``: what the table and the chart are made from, and nothing else."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_l2softmax import runs
from lit_l2softmax.errors import ConfigError, RunError

from .definition import SEED, Setting

ALPHA = "train/alpha"
# Behind the options' columns.
FIXED = ("metric", "value", "alpha", "classes", "steps", "seconds", "data", "device", "versions", "run")


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        options: every option's value as text, those within a class's arguments by their own names; without the seed.
        seed: of the run, which pairs it with the others' of that seed.
        metric: whose ``value`` this is.
        alpha: the last one trained with, where the run recorded one.
        classes: of the classifier, where it is one.
        run: its folder, from the sweep's.
    """

    options: Mapping[str, str]
    seed: str
    metric: str
    value: float
    alpha: float | None
    classes: int | None
    steps: int
    seconds: float
    data: str
    device: str
    versions: str
    run: str


def flat(setting: Setting) -> dict[str, str]:
    """The options of a setting as text, what is nested in a value under its path."""
    found: dict[str, str] = {}
    for name, value in setting.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{below}": text for below, text in flat(value).items()}
        else:
            found[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return found


def row(setting: Setting, metric: str, folder: Path, run: Path) -> Row:
    """The row of a run that is over, in a sweep's folder.

    Raises:
        ConfigError: where its result has no such figure.
        RunError: where that is not a number, or its record cannot be read.
    """
    result, config = runs.read_result(run), runs.read_config(run)
    if result.get(metric, 0) is None:
        raise RunError(f"its {metric} is not a number")
    value = result.get(metric)
    if not isinstance(value, (int, float)):
        figures = ", ".join(name for name, figure in result.items() if isinstance(figure, float))
        raise ConfigError(f"the runs have no figure {metric!r}; they have {figures}")
    options = flat(setting)
    seed = options.pop(SEED, str(result["seed"]))
    head = config["model"].get("init_args", {}).get("head", {})
    return Row(
        options,
        seed,
        metric,
        float(value),
        next((record[ALPHA] for record in reversed(runs.read_metrics(run)) if ALPHA in record), None),
        head.get("init_args", {}).get("num_classes"),
        int(result["steps"]),
        float(result["seconds"]),
        str(result["data/source"]),
        str(result["device"]),
        str(result["versions"]),
        run.relative_to(folder).as_posix(),
    )


def write(path: Path, rows: Sequence[Row]) -> None:
    """Writes the rows, whole or not at all."""
    options = list(dict.fromkeys(name for row in rows for name in row.options))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*options, SEED, *FIXED])
    for row in rows:
        fixed = ("" if (cell := getattr(row, name)) is None else cell for name in FIXED)
        writer.writerow([*(row.options.get(name, "") for name in options), row.seed, *fixed])
    beside = path.with_suffix(".part")
    beside.write_text(text.getvalue())
    beside.replace(path)


def read(path: Path) -> list[Row]:
    """The rows of a file.

    Raises:
        ConfigError: where it is not one of rows.
    """
    try:
        with path.open(newline="") as file:
            found = [_row(cells) for cells in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} holds no rows of a sweep: {type(error).__name__}: {error}") from error
    if not found:
        raise ConfigError(f"{path} holds no rows of a sweep: it is empty")
    return found


def _row(cells: Mapping[str, str]) -> Row:
    options = {name: cell for name, cell in cells.items() if cell and name != SEED and name not in FIXED}
    return Row(
        options,
        cells[SEED],
        cells["metric"],
        float(cells["value"]),
        float(cells["alpha"]) if cells["alpha"] else None,
        int(cells["classes"]) if cells["classes"] else None,
        int(cells["steps"]),
        float(cells["seconds"]),
        *(cells[name] for name in ("data", "device", "versions", "run")),
    )


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
    return [
        ", ".join(f"{name.rpartition('.')[2]} {one[name]}" for name in differing if name in one) or "the configuration"
        for one in options
    ]

"""Benchmark rows as one W&B run: a table a benchmark, a table of all, and what this project is times as fast."""

import csv
import hashlib
from collections import defaultdict
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import wandb

from lit_l2softmax.errors import DataError, RunError
from lit_l2softmax.wandb_options import Mode, WandbOptions

from . import bench_keys as keys
from .runs import BENCH_JOB

OURS = "lit_l2softmax"
CELLS: dict[str, type] = {
    "benchmark": str,
    "case": str,
    "provider": str,
    "time_ms": float,
    "speedup": float,
    "rate": float,
    "rate_unit": str,
    "peak_extra_mib": float,
    "note": str,
    "commit": str,
}
MACHINE = ("device", "threads", "python", "torch", "lightning")

Row = dict[str, Any]


def read(file: Path) -> list[Row]:
    """The rows of a file of ``bench/results/``, numbers as float, None where a provider has none.

    Raises:
        DataError: where it is no such file, or damaged.
    """
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            lines = csv.DictReader(opened)
            lacking = [name for name in (*CELLS, *MACHINE) if name not in (lines.fieldnames or ())]
            if lacking:
                raise DataError(f"{file} holds no rows of a benchmark: it has no column {lacking[0]!r}")
            rows = [_row(line) for line in lines]
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, csv.Error) as error:
        raise DataError(f"{file} is damaged: {error}") from error
    if not rows:
        raise DataError(f"{file} holds no rows")
    return rows


def _row(line: dict[str, str]) -> Row:
    cells = {name: line[name].strip() for name in (*CELLS, *MACHINE)}
    return cells | {name: float(cells[name]) if cells[name] else None for name, kind in CELLS.items() if kind is float}


def speedups(rows: list[Row]) -> dict[str, float]:
    """How many times as fast as the baseline this project is, by key, a geometric mean over cases."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        name, _, precision = row["provider"].partition(", ")
        if name == OURS and row["speedup"] is not None:
            found[keys.speedup(row["benchmark"], precision)].append(row["speedup"])
    return {key: geometric_mean(values) for key, values in found.items()}


def log(rows: list[Row], name: str, options: WandbOptions, mode: Mode, folder: Path) -> Path | None:
    """Logs rows as a run; the same rows are the same run, however often they are logged.

    Args:
        rows: of one file.
        name: of the run.
        options: project and entity.
        mode: online or offline.
        folder: gets ``wandb/`` with the run.

    Returns:
        The folder of an offline run.

    Raises:
        RunError: where W&B does not take it.
    """
    content = hashlib.sha256(repr(rows).encode()).hexdigest()[:12]
    columns: list[str | int] = [keys.LABEL, *CELLS]
    tables: dict[str, list[list[Any]]] = defaultdict(list)
    for row in rows:
        line = [f"{row['case']}: {row['provider']}", *(row[column] for column in CELLS)]
        for key in (keys.table(row["benchmark"]), keys.ROWS):
            tables[key].append(line)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            id=f"bench-{content}",
            name=name,
            project=options.project,
            entity=options.entity,
            job_type=BENCH_JOB,
            dir=folder,
            mode=mode,
            config={name: ", ".join(sorted({row[name] for row in rows})) for name in (*MACHINE, "commit")},
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=10, finish_timeout=60, finish_timeout_raises=True
            ),
        )
        logged = {key: wandb.Table(columns=columns, data=lines) for key, lines in tables.items()}
        run.log({**speedups(rows), **logged})
        run.finish()
    except Exception as error:  # a lost connection, a refused key, a full disk: W&B has no common base for them
        reason = " ".join(str(error).split())
        raise RunError(f"W&B did not take the rows ({type(error).__name__}: {reason})") from error
    return Path(run.dir).parent if mode == "offline" else None

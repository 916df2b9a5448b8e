"""One page of a device's rows: ours beside the best of the others, in time and in memory, and how near the limits."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import records
from plots import three_digits
from records import COPY, OURS

HEAD = ("case", "ours, ms", "best other", "ours is", "ours, MiB", "least other, MiB", "of the limit")


def write(rows: Iterable[records.Row]) -> Path:
    """Writes ``results/<device>.md`` of one device's sorted rows; returns its path."""
    rows = list(rows)
    lines = [f"# {rows[0].device}", "", *_explained(rows)]
    for benchmark, group in groupby(rows, key=lambda row: row.benchmark):
        cases = [list(case) for _, case in groupby(group, key=lambda row: row.case)]
        tables = [
            line for case in sorted(cases, key=lambda case: (len(case[0].case), case[0].case)) for line in _line(case)
        ]
        if tables:
            lines += ["", f"## {benchmark}", "", _cells(HEAD), _cells(["---"] * len(HEAD)), *tables]
    lines += ["", *_notes(rows)]
    path = records.path(rows[0].device).with_suffix(".md")
    path.write_text("\n".join(lines) + "\n")
    return path


def _explained(rows: list[records.Row]) -> list[str]:
    commits = ", ".join(sorted({row.commit for row in rows}))
    versions = ", ".join(sorted({f"torch {row.torch}, threads: {row.threads}" for row in rows}))
    return [
        f"{versions}; commits {commits}.",
        "Medians of rounds in turn within one run. Ours is so many times as fast as the fastest other. Of the limit:",
        "the least time in which this machine, at the rates it copied and multiplied with in that run, could move and",
        "multiply what must be, over the time taken. `make bench` and `make gpu` write this page from the rows in the",
        "`.csv` beside it.",
    ]


def _line(case: list[records.Row]) -> list[str]:
    ours = next((row for row in case if row.provider == OURS), None)
    others = [row for row in case if row.provider not in (OURS, COPY) and row.time_ms is not None]
    if ours is None or not others:
        return []
    fastest = min(others, key=lambda row: row.time_ms)
    peaks = [row.peak_extra_mib for row in others if row.peak_extra_mib is not None]
    share = ours.share_of_limit
    cells = (
        ours.case,
        three_digits(ours.time_ms),
        f"{fastest.provider}, {three_digits(fastest.time_ms)} ms",
        f"{fastest.time_ms / ours.time_ms:.2f} x",
        "" if ours.peak_extra_mib is None else three_digits(ours.peak_extra_mib),
        three_digits(min(peaks)) if peaks else "",
        "" if share is None else f"{share:.0%}",
    )
    return [_cells(cells)]


def _notes(rows: list[records.Row]) -> list[str]:
    notes = sorted({(row.provider, row.note) for row in rows if row.note})
    if not notes:
        return []
    return ["## What the others do wrong, and which cannot run", "", *(f"- {name}: {note}" for name, note in notes)]


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

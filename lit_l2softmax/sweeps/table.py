"""The table of a sweep: each variant over its seeds, and how far it is from the baseline, the first of them."""

import math
from collections.abc import Sequence
from dataclasses import replace

from .rows import Row, variants
from .statistics import Estimate, adjusted, difference, estimate

COLUMNS = ("variant", "runs", "mean", "standard deviation", "95 % interval")
EXPLAINED = """\
Intervals are Student's over seeds: where the mean of all seeds lies, each by itself. A difference is taken seed by
seed; its p is of a paired t-test and adjusted for all of these comparisons at once (Holm), which its interval is not.
Differences with a p above .05 are not told from chance by these runs."""


OTHERS = "Other figures of the same runs"
OTHERS_EXPLAINED = """\
These were not what the runs were to be compared by: their p are adjusted for all comparisons of this second table at
once."""


def markdown(rows: Sequence[Row]) -> str:
    """The whole table with what it stands on, and a second one of what else the runs' tests say."""
    lines = [f"# {rows[0].sweep}", "", *stands_on(rows), "", *_lined(cells(rows)), "", EXPLAINED, ""]
    if further := others(rows):
        lines += [f"## {OTHERS}", "", *_lined(further), "", OTHERS_EXPLAINED, ""]
    return "\n".join(lines)


def _lined(table: Sequence[Sequence[str]]) -> list[str]:
    head, *body = table
    return [_line(head), _line(["---"] * len(head)), *map(_line, body)]


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The table's head and its lines, one a variant; the first variant is the baseline."""
    (lines,) = _lines([rows])
    return [_head(rows), *lines]


def others(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The same of every other figure that all runs have and that is no count; nothing where there is none."""
    good = [row for row in rows if row.value is not None]
    names = dict.fromkeys(name for row in good for name in row.figures if all(name in other.figures for other in good))
    figures = [name for name in names if not all(row.figures[name].is_integer() for row in good)]
    if not figures:
        return []
    each = [[replace(row, value=row.figures.get(name)) for row in rows] for name in figures]
    found = [(name, *line) for name, lines in zip(figures, _lines(each), strict=True) for line in lines]
    return [("figure", *_head(rows)), *found]


def _head(rows: Sequence[Row]) -> tuple[str, ...]:
    return (*COLUMNS, f"difference to {next(iter(variants(rows)))}", "p")


def _lines(tables: Sequence[Sequence[Row]]) -> list[list[tuple[str, ...]]]:
    """The lines of several tables whose comparisons are adjusted for together."""
    apart: dict[tuple[int, str], Estimate | None] = {}
    for number, rows in enumerate(tables):
        (_, baseline), *compared = variants(rows).items()
        apart |= {(number, name): difference(by_seed(of), by_seed(baseline)) for name, of in compared}
    known = {place: one.p for place, one in apart.items() if one is not None and not math.isnan(one.p)}
    holm = dict(zip(known, adjusted(list(known.values())), strict=True))
    return [
        [
            (name, *_figures(of), *_apart(apart.get((number, name)), len(by_seed(of)), holm.get((number, name))))
            for name, of in variants(rows).items()
        ]
        for number, rows in enumerate(tables)
    ]


def by_seed(rows: Sequence[Row]) -> dict[str, float]:
    """The value of each seed whose run has one."""
    return {row.seed: row.value for row in rows if row.value is not None}


def stands_on(rows: Sequence[Row]) -> list[str]:
    """What was measured, on what, by what."""
    good = [row for row in rows if row.value is not None]

    def all_of(name: str) -> str:
        return "; ".join(dict.fromkeys(str(getattr(row, name)) for row in good))

    steps = ", ".join(f"{steps:,}" for steps in sorted({row.steps or 0 for row in good}))
    bad = f", of which {len(rows) - len(good)} failed" if len(good) < len(rows) else ""
    return [
        f"`{rows[0].metric}` after {steps} steps, {len(rows)} runs{bad}, tested on {all_of('data')}.",
        f"{all_of('device')}; {all_of('versions')}.",
    ]


def _figures(rows: Sequence[Row]) -> tuple[str, ...]:
    values = list(by_seed(rows).values())
    count = f"{len(values)}" if len(values) == len(rows) else f"{len(values)} of {len(rows)}, the others failed"
    if not values:
        return count, "", "", ""
    over = estimate(values)
    return count, _number(over.mean), _number(over.deviation), _interval(over)


def _apart(apart: Estimate | None, runs: int, p: float | None) -> tuple[str, str]:
    if apart is None:
        return "", ""
    said = f"{_number(apart.mean, '+')}" + (f" ({_interval(apart, '+')})" if apart.n > 1 else "")
    seeds = f", {apart.n} seeds in common" if apart.n < runs else ""
    return said + seeds, "" if p is None else f"{p:.2g}" if p >= 1e-3 else "< 0.001"


def _interval(of: Estimate, sign: str = "") -> str:
    return "" if math.isnan(of.low) else f"{_number(of.low, sign)} to {_number(of.high, sign)}"


def _number(number: float, sign: str = "") -> str:
    """Four decimals, which a share wants, or three digits of what is smaller than they show."""
    if math.isnan(number):
        return ""
    return f"{number:{sign}.4f}" if abs(number) >= 1e-3 or number == 0 else f"{number:{sign}.2g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

"""One picture a benchmark, drawn from the rows of one device."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import records
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator


def draw(rows: Iterable[records.Row]) -> list[Path]:
    """Draws sorted rows; returns the pictures' paths."""
    return [_draw_benchmark(name, list(group)) for name, group in groupby(rows, key=lambda row: row.benchmark)]


def _draw_benchmark(name: str, rows: Sequence[records.Row]) -> Path:
    cases = [(case, sorted(group, key=lambda row: row.speedup)) for case, group in _by_case(rows)]
    figure = Figure(figsize=(9, 1.6 + 0.34 * (len(rows) + 1.7 * len(cases))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height, heights, labels = 0.0, [], []
    for case, group in cases:
        # A line of its own above the case's providers: it may be long.
        axes.annotate(
            case,
            (0.005, height),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # not on a line
        )
        height -= 1
        for row in group:
            is_baseline = row.provider == row.baseline
            colour = "0.45" if is_baseline else "tab:blue"
            spread = [[row.speedup - row.speedup_q1], [row.speedup_q3 - row.speedup]]
            axes.errorbar(row.speedup, height, xerr=spread, fmt="o", color=colour, capsize=3)
            axes.annotate(_figures(row), (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=9)
            heights.append(height)
            labels.append(row.provider)
            height -= 1
        height -= 0.7
    axes.axvline(1, color="0.45", linewidth=1)
    axes.set_yticks(heights, labels)
    axes.set_ylim(height + 1.2, 0.7)
    axes.set_xscale("log")
    _label_speedups(axes.xaxis, rows)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    baselines = ", ".join(sorted({row.baseline for row in rows}))
    axes.set_xlabel(f"speed-up over {baselines}: median of the rounds and their middle half")
    commits = ", ".join(sorted({row.commit for row in rows}))
    versions = ", ".join(
        sorted({f"torch {row.torch}, lightning {row.lightning}, threads: {row.threads}" for row in rows})
    )
    figure.suptitle(f"{name}\n{rows[0].device} · commit {commits} · {versions}", fontsize=11)
    path = records.RESULTS / f"{records.stem(rows[0].device)}-{records.stem(name)}.png"
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path


def _by_case(rows: Sequence[records.Row]) -> Iterable[tuple[str, Iterable[records.Row]]]:
    # "batch 20" comes before "batch 128".
    return groupby(sorted(rows, key=lambda row: (len(row.case), row.case)), key=lambda row: row.case)


def _figures(row: records.Row) -> str:
    rate = "" if row.rate is None else f"   {three_digits(row.rate)} {row.rate_unit}"
    peak = "" if row.peak_extra_mib is None else f"   {three_digits(row.peak_extra_mib)} MiB"
    return f"{row.speedup:.3g} x   {three_digits(row.time_ms)} ms{rate}{peak}"


def three_digits(number: float) -> str:
    """A figure as tables and pictures show it."""
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def _label_speedups(axis, rows: Sequence[records.Row]) -> None:
    """Ticks at powers of ten; within one decade, which may hold none, at round numbers."""
    speedups = [row.speedup for row in rows]
    within_a_decade = max(speedups) < 10 * min(speedups)
    axis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10)) if within_a_decade else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())

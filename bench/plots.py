"""One picture a benchmark, and one of what an operator reaches of its machine, drawn from the rows of one device."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import records
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator


def draw(rows: Iterable[records.Row]) -> list[Path]:
    """Draws sorted rows; returns the pictures' paths."""
    timed = [row for row in rows if row.time_ms is not None]
    pictures = [_draw_benchmark(name, list(group)) for name, group in groupby(timed, key=lambda row: row.benchmark)]
    bounded = [row for row in timed if row.share_of_limit is not None and row.provider != records.COPY]
    # "operator, precision, direction": one picture for all of an operator's.
    return pictures + [_draw_limits(name, list(group)) for name, group in groupby(bounded, key=_operator)]


def _operator(row: records.Row) -> str:
    return row.benchmark.split(",")[0]


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
    figure.suptitle(f"{name}\n{_origin(rows)}", fontsize=11)
    return _saved(figure, rows, name)


def _origin(rows: Sequence[records.Row]) -> str:
    commits = ", ".join(sorted({row.commit for row in rows}))
    versions = ", ".join(
        sorted({f"torch {row.torch}, lightning {row.lightning}, threads: {row.threads}" for row in rows})
    )
    return f"{rows[0].device} · commit {commits} · {versions}"


def _saved(figure: Figure, rows: Sequence[records.Row], name: str) -> Path:
    path = records.RESULTS / f"{records.stem(rows[0].device)}-{records.stem(name)}.png"
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path


def _draw_limits(name: str, rows: Sequence[records.Row]) -> Path:
    """The roofline: work a byte against bytes a second, and how much of what the roof allows each provider reaches."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    copy, matmul = (max(getattr(row, rate) for row in rows) for rate in ("copy_gb_s", "matmul_gop_s"))
    intensities = [row.gigaoperations / row.gigabytes for row in rows]
    ends = min(*intensities, matmul / copy) / 2, max(*intensities, matmul / copy) * 2
    corners = (ends[0], matmul / copy, ends[1])
    axes.plot(corners, [min(matmul, copy * at) for at in corners], color="0.3", label="the machine's copy and product")
    # Which chunk was the best differs from case to case, and stands behind the name.
    providers = sorted({row.provider.split(" (")[0] for row in rows}, key=lambda name: (name != records.OURS, name))
    for colour, provider in enumerate(providers):
        of = [row for row in rows if row.provider.split(" (")[0] == provider]
        axes.plot(
            [row.gigaoperations / row.gigabytes for row in of],
            [row.gigaoperations / row.time_ms * 1e3 for row in of],
            "o" if provider == records.OURS else ".",
            color=f"C{colour}",
            label=provider,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("operations for each byte that must be moved")
    axes.set_ylabel("10⁹ operations a second")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=8)
    figure.suptitle(f"{name}: what is reached of what the machine allows\n{_origin(rows)}", fontsize=11)
    return _saved(figure, rows, f"roofline of {name}")


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

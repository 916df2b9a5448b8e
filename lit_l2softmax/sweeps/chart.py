"""The picture of a sweep: the figure against alpha where that is what was swept, else variant beside variant."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lit_l2softmax.alpha import alpha_lower_bound
from lit_l2softmax.plots import save

from .rows import Row, variants
from .statistics import estimate

L2, PLAIN, SEEDS = "#1f77b4", "#ff7f0e", "0.55"
ALPHA, LEARNED = "alpha", "learn_alpha"


def draw(path: Path, rows: Sequence[Row], title: str) -> None:
    """Saves the chart."""
    named = variants(rows)
    figure = _against_alpha(named) if _only_alpha_differs(rows) else _side_by_side(named)
    head = rows[0]
    fewest, most = min(map(len, named.values())), max(map(len, named.values()))
    runs = f"{most}" if fewest == most else f"{fewest} to {most}"
    figure.suptitle(
        f"{title}: {runs} runs each, {head.steps:,} steps, {head.data}\n"
        "dots are seeds, lines their means, bands and bars 95 % intervals of the mean",
        fontsize=10,
        parse_math=False,
    )
    save(figure, path)


def _option(row: Row, name: str) -> str | None:
    return next((text for option, text in row.options.items() if option.rpartition(".")[2] == name), None)


def _only_alpha_differs(rows: Sequence[Row]) -> bool:
    names = {name for row in rows for name in row.options}
    differing = {name.rpartition(".")[2] for name in names if len({row.options.get(name) for row in rows}) > 1}
    return ALPHA in differing and differing <= {ALPHA, LEARNED} and all(_option(row, ALPHA) for row in rows)


def _against_alpha(named: Mapping[str, list[Row]]) -> Figure:
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    fixed, learned, plain = [], [], []
    for of in named.values():
        alpha = float(_option(of[0], ALPHA) or 0)
        if _option(of[0], LEARNED) == "True":
            learned.append((alpha, of))
        elif alpha == 0:
            plain.append(of)
        else:
            fixed.append((alpha, of))
    fixed.sort(key=lambda pair: pair[0])
    for alpha, of in fixed:
        axes.plot([alpha] * len(of), [row.value for row in of], ".", color=SEEDS, markersize=3, zorder=1)
    found = [(alpha, estimate([row.value for row in of])) for alpha, of in fixed]
    if found:
        axes.plot([a for a, _ in found], [one.mean for _, one in found], "o-", color=L2, label="L2-constrained softmax")
        axes.fill_between(
            [a for a, _ in found],
            [one.low for _, one in found],
            [one.high for _, one in found],
            color=L2,
            alpha=0.2,
            linewidth=0,
        )
    for start, of in learned:
        one = estimate([row.value for row in of])
        ends = [row.alpha for row in of if row.alpha is not None]
        where = estimate(ends).mean if ends else start
        axes.errorbar(where, one.mean, _bars(one.mean, one.low), fmt="D", color=L2, markerfacecolor="white", capsize=4)
        axes.annotate(f"learned\nfrom {start:g}", (where, one.mean), (8, 8), textcoords="offset points", fontsize=8)
    for of in plain:
        one = estimate([row.value for row in of])
        axes.axhline(one.mean, color=PLAIN, label="plain softmax")
        if not math.isnan(one.low):
            axes.axhspan(one.low, one.high, color=PLAIN, alpha=0.2, linewidth=0)
    classes = {row.classes for of in named.values() for row in of}
    if len(classes) == 1 and (count := classes.pop()) is not None and count > 2:
        bound = alpha_lower_bound(count)
        axes.axvline(
            bound, color="0.3", linestyle="--", linewidth=1, label=f"lower bound of arXiv:1703.09507, {bound:.2f}"
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([alpha for alpha, _ in fixed]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="alpha, the radius of the features' sphere", ylabel=_axis_label(named))
    _finish(axes)
    axes.legend(fontsize=8)
    return figure


def _side_by_side(named: Mapping[str, list[Row]]) -> Figure:
    figure = Figure(figsize=(8, 1.2 + 0.35 * len(named)), layout="constrained")
    axes = figure.subplots()
    for place, of in enumerate(named.values()):
        one = estimate([row.value for row in of])
        axes.plot([row.value for row in of], [place] * len(of), ".", color=SEEDS, markersize=3, zorder=1)
        axes.errorbar(
            one.mean, place, xerr=_bars(one.mean, one.low), fmt="o", color=PLAIN if place == 0 else L2, capsize=4
        )
    axes.set_yticks(range(len(named)), list(named), fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel=_axis_label(named))
    _finish(axes)
    return figure


def _bars(mean: float, low: float) -> float:
    """Half of a symmetric interval; none of a single run."""
    return 0.0 if math.isnan(low) else mean - low


def _axis_label(named: Mapping[str, list[Row]]) -> str:
    return next(iter(named.values()))[0].metric


def _finish(axes: Axes) -> None:
    axes.grid(color="0.92")
    axes.set_axisbelow(True)

"""The picture of a sweep: the figure against alpha where that is what was swept, else variant beside variant."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lit_l2softmax.alpha import alpha_lower_bound
from lit_l2softmax.plots import save

from .rows import Row, variants
from .statistics import Estimate, estimate
from .table import by_seed

L2, PLAIN, SEEDS = "#1f77b4", "#ff7f0e", "0.55"
_ALPHA = re.compile(r"(.*\.)?head\.(init_args\.)?alpha")
_LEARNED = re.compile(r"(.*\.)?head\.(init_args\.)?learn_alpha")
PER_FEATURE = "L2SoftmaxLoss"  # the head whose alpha is what the paper's bound is of


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Saves the chart of the runs that have a figure; there must be one."""
    save(drawn(rows), path)


def drawn(rows: Sequence[Row]) -> Figure:
    """The chart of the runs that have a figure; there must be one."""
    named = variants([row for row in rows if row.value is not None])
    good = [row for of in named.values() for row in of]
    figure = _against_alpha(named) if _only_alpha_differs(good) else _side_by_side(named)
    counts = sorted({len(of) for of in named.values()})
    runs = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    steps = ", ".join(f"{steps:,}" for steps in sorted({row.steps or 0 for row in good}))
    figure.suptitle(
        f"{good[0].sweep}: {runs} runs each, {steps} steps, {', '.join(dict.fromkeys(row.data for row in good))}\n"
        "means over seeds; bands and bars are 95 % intervals of the mean, small dots are seeds",
        fontsize=10,
        parse_math=False,
    )
    return figure


def _option(row: Row, name: re.Pattern[str]) -> str | None:
    return next((text for option, text in row.options.items() if name.fullmatch(option)), None)


def _alpha(row: Row) -> float | None:
    """The alpha a run was told; None where that is no number."""
    try:
        return float(_option(row, _ALPHA) or "")
    except ValueError:
        return None


def _only_alpha_differs(rows: Sequence[Row]) -> bool:
    names = {name for row in rows for name in row.options}
    differing = {name for name in names if len({row.options.get(name) for row in rows}) > 1}
    known = all(_ALPHA.fullmatch(name) or _LEARNED.fullmatch(name) for name in differing)
    return known and len({_alpha(row) for row in rows}) > 1 and all(_alpha(row) is not None for row in rows)


def _against_alpha(named: Mapping[str, list[Row]]) -> Figure:
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    fixed: list[tuple[float, Estimate]] = []
    for of in named.values():
        alpha, values = _alpha(of[0]) or 0.0, list(by_seed(of).values())
        over = estimate(values)
        if (_option(of[0], _LEARNED) or "").lower() == "true":
            ends = [row.alpha for row in of if row.alpha is not None]
            _draw_learned(axes, estimate(ends or [alpha]).mean, alpha, over, values)
        elif alpha == 0:
            axes.axhline(over.mean, color=PLAIN, label="plain softmax, alpha 0")
            if not math.isnan(over.low):
                axes.axhspan(over.low, over.high, color=PLAIN, alpha=0.2, linewidth=0)
        else:
            fixed.append((alpha, over))
            axes.plot([alpha] * len(values), values, ".", color=SEEDS, markersize=3, zorder=1)
    head, classes = ({getattr(row, name) for of in named.values() for row in of} for name in ("head", "classes"))
    per_feature = head == {PER_FEATURE}
    if fixed:
        fixed.sort(key=lambda pair: pair[0])
        at = [alpha for alpha, _ in fixed]
        means, lows, highs = ([getattr(one, name) for _, one in fixed] for name in ("mean", "low", "high"))
        label = "L2-constrained softmax" if per_feature else " and ".join(sorted(head))
        axes.plot(at, means, "o-", color=L2, label=label)
        axes.fill_between(at, lows, highs, color=L2, alpha=0.2, linewidth=0)
    if per_feature and len(classes) == 1 and (count := classes.pop() or 0) > 2:
        bound = alpha_lower_bound(count)
        label = f"lower bound of arXiv:1703.09507, {bound:.2f}"
        axes.axvline(bound, color="0.3", linestyle="--", linewidth=1, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([alpha for alpha, _ in fixed]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="alpha, the length of every feature" if per_feature else "alpha", ylabel=_metric(named))
    _finish(axes)
    axes.legend(fontsize=8)
    return figure


def _draw_learned(axes: Axes, end: float, start: float, over: Estimate, values: Sequence[float]) -> None:
    axes.plot([end] * len(values), values, ".", color=SEEDS, markersize=3, zorder=1)
    axes.errorbar(end, over.mean, _half(over), fmt="D", color=L2, markerfacecolor="white", capsize=4)
    axes.annotate(f"learned,\nfrom {start:g}", (end, over.mean), (8, 8), textcoords="offset points", fontsize=8)


def _side_by_side(named: Mapping[str, list[Row]]) -> Figure:
    figure = Figure(figsize=(8, 1.2 + 0.35 * len(named)), layout="constrained")
    axes = figure.subplots()
    for place, of in enumerate(named.values()):
        values = list(by_seed(of).values())
        over, colour = estimate(values), L2 if place else PLAIN
        axes.plot(values, [place] * len(values), ".", color=SEEDS, markersize=3, zorder=1)
        axes.errorbar(over.mean, place, xerr=_half(over), fmt="o", color=colour, capsize=4)
    axes.set_yticks(range(len(named)), list(named), fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel=_metric(named))
    _finish(axes)
    return figure


def _half(over: Estimate) -> float:
    """Half of an interval; none of a single run."""
    return 0.0 if math.isnan(over.low) else over.mean - over.low


def _metric(named: Mapping[str, list[Row]]) -> str:
    return next(iter(named.values()))[0].metric.replace("$", r"\$")  # no formula


def _finish(axes: Axes) -> None:
    axes.grid(color="0.92")
    axes.set_axisbelow(True)

"""The table of a sweep: each variant over its seeds, and how far it is from the baseline, the first of them."""

import math
from collections.abc import Iterator, Sequence

from .rows import Row, variants
from .statistics import Estimate, adjusted, difference, estimate

COLUMNS = ("variant", "runs", "mean", "standard deviation", "95 % interval")
EXPLAINED = """\
Intervals are Student's over seeds: where the mean of all seeds lies. A difference is taken seed by seed; its p is of a
paired t-test, adjusted for all of these comparisons at once (Holm). Differences with a p above .05 are not told from
chance by these runs."""


def markdown(rows: Sequence[Row], title: str) -> str:
    """The whole table with what it stands on; the first variant is the baseline."""
    named = variants(rows)
    baseline = next(iter(named))
    first = by_seed(named[baseline])
    others = [difference(by_seed(of), first) for name, of in named.items() if name != baseline]
    holm = iter(adjusted([one.p for one in others if one is not None and not math.isnan(one.p)]))
    lines = [
        f"# {title}",
        "",
        *stands_on(rows),
        "",
        _cells((*COLUMNS, f"difference to {baseline}", "p")),
        _cells(["---"] * (len(COLUMNS) + 2)),
        _cells((*_figures(baseline, named[baseline]), "", "")),
    ]
    for (name, of), apart in zip(list(named.items())[1:], others, strict=True):
        lines.append(_cells((*_figures(name, of), *_apart(apart, holm))))
    return "\n".join([*lines, "", EXPLAINED, ""])


def by_seed(rows: Sequence[Row]) -> dict[str, float]:
    """The value of each seed."""
    return {row.seed: row.value for row in rows}


def stands_on(rows: Sequence[Row]) -> list[str]:
    """What was measured, on what, by what."""

    def all_of(name: str) -> str:
        return "; ".join(dict.fromkeys(str(getattr(row, name)) for row in rows))

    steps = ", ".join(f"{steps:,}" for steps in sorted({row.steps for row in rows}))
    return [
        f"`{all_of('metric')}` after {steps} steps, {len(rows)} runs, tested on {all_of('data')}.",
        f"{all_of('device')}; {all_of('versions')}.",
    ]


def _figures(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    over = estimate([row.value for row in rows])
    return name, str(over.n), f"{over.mean:.4f}", _or_none(over.deviation), _interval(over, "")


def _apart(apart: Estimate | None, holm: Iterator[float]) -> tuple[str, str]:
    if apart is None:
        return "no seed in common", ""
    if math.isnan(apart.p):
        return f"{apart.mean:+.4f}", ""
    return f"{apart.mean:+.4f} ({_interval(apart, '+')})", f"{next(holm):.2g}"


def _interval(of: Estimate, sign: str) -> str:
    return "" if math.isnan(of.low) else f"{of.low:{sign}.4f} to {of.high:{sign}.4f}"


def _or_none(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.4f}"


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

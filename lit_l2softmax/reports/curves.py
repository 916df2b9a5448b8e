"""What a run recorded on its way, drawn against the step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .svg import inline

STYLES = {"train": ("#1f77b4", "-"), "val": ("#ff7f0e", "--"), "test": ("#009e73", "-.")}
OTHER_STYLE = ("#cc79a7", ":")
POINTS = 150  # of a curve; the records of longer trainings are averaged
HUGE = 1e100
WIDE = 50.0  # a figure whose greatest value is so many times its least, all positive, has a logarithmic axis
FIRST = ("loss", "accuracy", "calibration_error")
UNITS = {
    "accuracy": "share of images recognised",
    "alpha": "alpha, a feature's length",
    "calibration_error": "calibration error, a probability",
    "cross_entropy": "cross-entropy in nats",
    "feature_norm": "mean feature norm",
    "gradient_norm": "gradient norm",
    "gpu_memory_mib": "GPU memory in MiB",
}

Records = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Curve:
    """A figure against the step.

    Attributes:
        stage: train, val or test.
        steps: counted from 0, as they are recorded.
        values: of each of them, perhaps not a number.
    """

    stage: str
    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Chart:
    """One of the page's charts: its name, what it shows in words, the picture."""

    name: str
    caption: str
    drawing: Markup


def curves(records: Records) -> dict[str, list[Curve]]:
    """What was recorded, by figure: losses first, then accuracies, then the others by name; training first in each."""
    found: dict[str, list[Curve]] = {}
    for name in dict.fromkeys(name for record in records for name in record):
        stage, slash, figure = name.partition("/")
        here = [(int(record["step"]), record[name]) for record in records if name in record and "step" in record]
        if slash and here:
            steps, values = zip(*here, strict=True)
            found.setdefault(figure, []).append(Curve(stage, list(steps), list(values)))
    order = sorted(found, key=lambda figure: (FIRST.index(figure) if figure in FIRST else len(FIRST), figure))
    return {figure: sorted(found[figure], key=lambda curve: curve.stage != "train") for figure in order}


def changes(of: Sequence[Curve]) -> bool:
    """Whether a figure became another on the way."""
    return any(len(set(curve.values)) > 1 for curve in of)


def drawable(value: float) -> bool:
    """Whether a value is a number that an axis can reach."""
    return abs(value) < HUGE


def chart(name: str, of: Sequence[Curve], units: Mapping[str, str], judged: int | None) -> Chart:
    """The chart of a figure.

    Args:
        name: of the figure.
        of: its curves.
        units: what the vertical axes of known figures are in.
        judged: the step of the checkpoint that was tested, where one was selected.
    """
    figure = Figure(figsize=(4.4, 2.8))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.17, right=0.97, top=0.9, bottom=0.17)
    averaged = 0
    for curve in of:
        colour, line = STYLES.get(curve.stage, OTHER_STYLE)
        mean, low, high, together = _reduced(curve)
        averaged = max(averaged, together)
        marker = "o" if len(mean) <= 20 else ""
        axes.plot(
            mean[:, 0], mean[:, 1], color=colour, linestyle=line, marker=marker, markersize=3, label=_plain(curve.stage)
        )
        if together > 1:
            axes.fill_between(mean[:, 0], low, high, color=colour, alpha=0.2, linewidth=0)
    finite = [value for curve in of for value in curve.values if drawable(value)]
    if finite and min(finite) > 0 and max(finite) > WIDE * min(finite):
        axes.set_yscale("log")
    if judged is not None:
        axes.axvline(judged, color="#8c8c8c", linewidth=1, linestyle=":", label="tested checkpoint")
    measured = name.removesuffix("_smoothed")
    axes.set(xlabel="step", ylabel=_plain(units.get(measured, measured.partition("/")[0].replace("_", " "))))
    axes.grid(color="#ebebeb")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, borderaxespad=0)
    lost = sum(len(curve.values) for curve in of) - len(finite)
    notes = [
        f"means of {averaged:,} records, bands from the least to the greatest" if averaged > 1 else "",
        f"{lost:,} of the records are no number" if lost else "",
    ]
    said = ", ".join(f"{curve.stage} from {curve.values[0]:.4g} to {curve.values[-1]:.4g}" for curve in of)
    title = name.replace("_", " ")
    drawing = inline(figure, name, f"{title} against the step: {said}")
    return Chart(title, "; ".join(filter(None, notes)), drawing)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # no formula


def _reduced(curve: Curve) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], int]:
    """Steps and means ``(P, 2)``, least and greatest values ``(P,)``, and how many records each of them is of.

    They are of what is a number, where there is one.
    """
    together = -(-len(curve.values) // POINTS)
    steps, values = (
        np.array(curve.steps, float),
        np.array([value if drawable(value) else np.nan for value in curve.values]),
    )
    parts = np.arange(0, len(values), together)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # 0 / 0, of nothing known, is what it should be
        mean = np.add.reduceat(np.where(known, values, 0.0), parts) / np.add.reduceat(known, parts, dtype=float)
    middle = np.add.reduceat(steps, parts) / np.diff([*parts, len(values)])
    return np.stack([middle, mean], 1), np.fmin.reduceat(values, parts), np.fmax.reduceat(values, parts), together

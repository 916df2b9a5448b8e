"""The features of each variant of a sweep in a plane of its own, and their lengths for easy and for hard images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lit_l2softmax.features import QUANTILES, ease_names
from lit_l2softmax.plots_of_features import OUTSIDE, draw_features, draw_legend, draw_norms

Lines = Sequence[Mapping[str, str]]
COLUMNS = 3


def features_chart(lines: Lines) -> Figure:
    """Lines of ``variant``, ``seed``, ``label``, ``x`` and ``y`` as one panel a variant."""
    of_variant = _by_variant(lines)
    names = sorted({line["label"] for line in lines})
    rows = -(-len(of_variant) // COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 3.5 * rows + 0.6), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel, (variant, mine) in zip(panels, of_variant.items(), strict=False):
        points = np.array([[float(line["x"]), float(line["y"])] for line in mine])
        draw_features(panel, points, [line["label"] for line in mine], names, variant)
    for panel in panels[len(of_variant) :]:
        panel.remove()
    figure.suptitle(
        f"features of test images as the classifier sees them, one seed\n{OUTSIDE}",
        fontsize=9,
    )
    draw_legend(figure, names)
    return figure


def norms_chart(lines: Lines) -> Figure:
    """Lines of ``variant``, ``seed``, ``probability`` and quantiles as one panel a variant, over the seeds.

    Lengths are shares of the median of all images of the same run, whose group is called ``all``.
    """
    of_variant = _by_variant(lines)
    figure = Figure(figsize=(2.3 * len(of_variant) + 0.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(of_variant), sharey=True, squeeze=False)[0]
    for panel, (variant, mine) in zip(panels, of_variant.items(), strict=True):
        whole = {line["seed"]: float(line["q0.5"]) for line in mine if line["probability"] == "all"}
        groups: dict[str, list[list[float]]] = {name: [] for name in ease_names() if name != "all"}
        for line in mine:
            if line["probability"] != "all":
                lengths = np.array([float(line[f"q{quantile:g}"]) for quantile in QUANTILES])
                groups[line["probability"]].append((lengths / (whole[line["seed"]] or np.nan)).tolist())
        draw_norms(panel, {name: runs for name, runs in groups.items() if runs}, variant)
    panels[0].set_ylabel("length / the run's median", fontsize=9)
    figure.supxlabel("probability of the image's own class", fontsize=9)
    figure.suptitle(
        "lengths before the constraint: boxes hold the middle half, whiskers the middle four fifths; means over seeds",
        fontsize=9,
    )
    return figure


def _by_variant(lines: Lines) -> dict[str, list[Mapping[str, str]]]:
    found: dict[str, list[Mapping[str, str]]] = {}
    for line in lines:
        found.setdefault(line["variant"], []).append(line)
    return found

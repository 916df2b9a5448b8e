"""Features of the plane as pictures, and the lengths of features of easy and of hard images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from .plots import save

FEATURES_FILE = "features.csv"  # in a run's plots
NORMS_FILE = "feature_norms.csv"
FAR_OUT = 99.5  # per cent of the images are within a panel
BINS = 180  # of a circle
OUTSIDE = "outside a ring: how many of a class lie there, as a square root"
REACH = 0.45  # of a ring's radius, which the highest bin outside it has

Array = NDArray[np.float64]


def draw_features(axes: Axes, points: Array, labels: Sequence[str], names: Sequence[str], title: str) -> None:
    """Draws features ``(N, 2)`` of images in the colours of their classes.

    Where all have one length, as a constraint gives them, how many lie where on the ring is drawn outside it.
    """
    of_class = np.array(labels)
    lengths = np.hypot(*points.T)
    ring = np.ptp(lengths) < 1e-3 * lengths.max()
    reach = lengths.max() * (1.08 + REACH) if ring else np.percentile(np.abs(points), FAR_OUT) * 1.1 or 1.0
    for number, name in enumerate(names):
        mine, colour = points[of_class == name], f"C{number % 10}"
        axes.plot(*mine.T, ".", color=colour, markersize=2, markeredgewidth=0, rasterized=True)
        if ring and len(mine):
            _draw_outside(axes, mine, lengths.max(), len(points) / len(names), colour)
    axes.plot(0, 0, "+", color="0.3", markersize=6)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.tick_params(labelsize=7)
    axes.set_title(title, fontsize=9, parse_math=False)


def _draw_outside(axes: Axes, points: Array, radius: float, whole: float, colour: str) -> None:
    """Bars outside the ring: the share of a class in each of ``BINS``, the square root of it, so that few are seen."""
    counts, edges = np.histogram(np.arctan2(points[:, 1], points[:, 0]), BINS, (-np.pi, np.pi))
    heights = np.minimum(1, np.sqrt(counts / whole)) * REACH * radius
    for height, low, high in zip(heights, edges[:-1], edges[1:], strict=True):
        if height:
            along = np.array([low, low, high, high])
            out = radius * 1.03 + np.array([0, height, height, 0])
            axes.fill(out * np.cos(along), out * np.sin(along), color=colour, linewidth=0, alpha=0.8)


def draw_legend(figure: Figure, names: Sequence[str]) -> None:
    """The classes and their colours, below the panels."""
    marks = [Line2D([], [], linestyle="", marker="o", color=f"C{number % 10}") for number in range(len(names))]
    spacing = {"columnspacing": 1.0, "handletextpad": 0.0}
    figure.legend(marks, names, loc="outside lower center", ncols=10, fontsize=8, frameon=False, **spacing)


def save_features(path: Path, points: Array, labels: Sequence[str], names: Sequence[str], title: str) -> None:
    """Saves features ``(N, 2)`` of images in the colours of their classes."""
    figure = Figure(figsize=(5.4, 5.8), layout="constrained")
    draw_features(figure.subplots(), points, labels, names, title)
    draw_legend(figure, names)
    save(figure, path)


def draw_norms(axes: Axes, groups: Mapping[str, Sequence[Sequence[float]]], title: str) -> None:
    """Draws how long the features of easier and harder images are.

    ``groups`` are, by the group's name, the five quantiles of each run: the box is from the second to the fourth, its
    line the third, whiskers from the first to the fifth, all means over runs; dots are each run's third.
    """
    for place, runs in enumerate(groups.values()):
        low, lower, middle, upper, high = np.mean(np.array(runs), 0)
        box = {"med": middle, "q1": lower, "q3": upper, "whislo": low, "whishi": high}
        axes.bxp([box], positions=[place], widths=0.6, showfliers=False, medianprops={"color": "#1f77b4"})
        axes.plot([place] * len(runs), [run[2] for run in runs], ".", color="0.55", markersize=4)
    axes.set_xticks(range(len(groups)), list(groups), fontsize=7, rotation=30)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=9, parse_math=False)


def save_norms(path: Path, groups: Mapping[str, Sequence[Sequence[float]]], title: str) -> None:
    """Saves how long the features of easier and harder images are, see :func:`draw_norms`."""
    figure = Figure(figsize=(5.4, 4), layout="constrained")
    axes = figure.subplots()
    draw_norms(axes, groups, title)
    axes.set(xlabel="probability of the image's own class", ylabel="length of its features")
    save(figure, path)

"""The pictures of a verification: the ROC of one test, and those of several losses over their seeds."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .plots import save
from .roc import PairCounts, Roc

FARS = np.logspace(-5, 0, 101)  # at which curves are kept and drawn, twenty a decade
GENUINE, IMPOSTOR = "#1f77b4", "#ff7f0e"
ROC_FILE = "roc.csv"  # in a run's plots/
BARS = 128  # of a histogram

Array = NDArray[np.float64]


def points(curve: Roc) -> tuple[Array, Array]:
    """The FARs of ``FARS`` that are of one impostor pair or more, and the TAR at each; both ``(P,)``."""
    fars = FARS[FARS * curve.impostor_pairs >= 1]
    return fars, np.array([curve.tar_at(far) for far in fars])


def save_verification(path: Path, curve: Roc, counts: PairCounts, title: str) -> None:
    """Saves the ROC of a test beside the distributions of the cosines it is of."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    eer = curve.equal_error_rate
    left.plot(*points(curve), color=GENUINE, label=f"area {curve.area:.4f}")
    left.plot(eer, 1 - eer, "o", color="0.3", label=f"equal error rate {eer:.4f}")
    finish(left)
    for name, kind, colour in (("genuine", counts.genuine, GENUINE), ("impostor", counts.impostor, IMPOSTOR)):
        # The last multiple, 1, joins those just below it.
        heights = kind[:-1].reshape(BARS, -1).sum(1).double().numpy()
        heights[-1] += float(kind[-1])
        edges = np.linspace(-1, 1, BARS + 1)
        pairs = int(kind.sum())
        right.stairs(
            heights / pairs * BARS / 2, edges, color=colour, fill=True, alpha=0.5, label=f"{pairs:,} {name} pairs"
        )
    right.set(xlabel="cosine of two images' features", ylabel="density")
    right.legend(fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    save(figure, path)


def finish(axes: Axes) -> None:
    """The frame of a ROC: FAR from 1e-5 on a logarithmic scale, TAR from 0 to 1."""
    axes.set_xscale("log")
    axes.set(xlabel="false accept rate", ylabel="true accept rate", xlim=(FARS[0], 1), ylim=(0, 1))
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8)

"""The pictures of System 3: a fitted plane, the way down a parabola, the border between two classes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .plots import save

BORDER = 3.0  # the square that borders are drawn in, as in the source
STEP = 0.01


def save_fitted_plane(path: Path, inputs: Tensor, targets: Tensor, weights: Tensor, title: str) -> None:
    """Saves the points along each input with the line that was fitted.

    ``inputs`` is ``(N, D)``, ``targets`` ``(N,)``, ``weights`` ``(D,)`` of a plane through the origin. What the other
    inputs account for is taken off a panel's targets, so that its line fits as well as the plane does.
    """
    columns = inputs.shape[1]
    figure = Figure(figsize=(4.2 * columns, 3.6), layout="constrained")
    parts = inputs * weights
    for column, axis in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        rest = targets - parts.sum(1) + parts[:, column]
        ends = np.array([0.0, max(1.0, float(inputs[:, column].max()))])
        axis.plot(inputs[:, column].numpy(), rest.numpy(), "o", markersize=4, label="points")
        axis.plot(ends, ends * float(weights[column]), label=f"fitted, slope {weights[column]:.4f}")
        others = "".join(f" - {weights[j]:.2f} $x_{j + 1}$" for j in range(columns) if j != column)
        axis.set(xlabel=f"$x_{column + 1}$", ylabel=f"target{others}")
        axis.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def save_descent(
    path: Path, weights: Tensor, rates: Tensor, loss: Callable[[Tensor], Tensor], title: str, first: int = 0
) -> None:
    """Saves the loss against a weight with the steps on it, and the learning rate against the step.

    ``weights`` ``(S + 1,)`` begins with the initial one, ``rates`` ``(S,)`` are those the steps were made with;
    ``loss`` maps weights ``(M,)`` to losses ``(M,)``; ``first`` is the number of the first step.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    least, greatest = float(weights.min()), float(weights.max())
    margin = 0.1 * (greatest - least) + 0.1
    along = torch.linspace(least - margin, greatest + margin, 400)
    left.plot(along.numpy(), loss(along).numpy(), color="lightgrey", linewidth=3, label="loss")
    left.plot(weights.numpy(), loss(weights).numpy(), "o-", markersize=3, linewidth=0.8, label="steps")
    left.plot(weights[:1].numpy(), loss(weights[:1]).numpy(), "o", color="black", label="start")
    left.plot(weights[-1:].numpy(), loss(weights[-1:]).numpy(), "o", color="red", label=f"end, {weights[-1]:.6f}")
    left.set(xlabel="weight", ylabel="loss")
    left.legend(fontsize=8)
    right.plot(range(first, first + len(rates)), rates.numpy(), "o-", markersize=3, linewidth=0.8)
    right.set(xlabel="step", ylabel="learning rate")
    right.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def grid() -> Tensor:
    """The points ``(M * M, 2)`` at which outputs are wanted for a border, the first coordinate outermost."""
    along = torch.arange(-BORDER, BORDER, STEP)
    return torch.cartesian_prod(along, along)


def save_borders(
    path: Path, inputs: Tensor, targets: Tensor, outputs: Sequence[tuple[str, Tensor]], level: float
) -> None:
    """Saves points of two classes with the line where outputs are at ``level``, one panel for each network.

    ``inputs`` is ``(N, 2)``, ``targets`` ``(N,)``, 1 (red) or 0 (blue); each of ``outputs`` is a title and a network's
    values at the points of :func:`grid`.
    """
    figure = Figure(figsize=(4.4 * len(outputs), 4.6), layout="constrained")
    colours = np.where(targets.numpy() > level, "tab:red", "tab:blue")
    along = torch.arange(-BORDER, BORDER, STEP).numpy()
    for (title, values), axis in zip(outputs, figure.subplots(1, len(outputs), squeeze=False)[0], strict=True):
        axis.scatter(inputs[:, 0].numpy(), inputs[:, 1].numpy(), c=colours, s=10)
        # Rows of what contour draws are the second coordinate.
        axis.contour(along, along, values.reshape(len(along), -1).numpy().T, levels=[level], colors="black")
        axis.set(xlabel="$x_0$", ylabel="$x_1$", xlim=(-BORDER, BORDER), ylim=(-BORDER, BORDER), aspect="equal")
        axis.set_title(title, fontsize=10)
    save(figure, path)

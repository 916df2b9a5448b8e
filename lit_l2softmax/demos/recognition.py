"""The demonstrations of System 5: what a classifier's probabilities and its loss are made of.

Source: Paddle, "zero-basis deep learning", section 2.5.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .demonstration import Demonstration

# In centimetres; the sizes are ours.
BENIGN = (1.0, 1.5, 2.0, 2.5, 2.8)
MALIGNANT = (3.2, 3.5, 4.0, 4.5, 5.0)
VERY_LARGE = 20.0


def logarithm() -> Demonstration:
    """The natural logarithm of a probability, which is minus the loss of a class that was given it."""
    rows = "\n".join(f"{p:>6.2f}{math.log(p):>10.4f}" for p in (0.01, 0.1, 0.5, 0.9, 1.0))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    x = np.linspace(0.01, 1, 100)
    axis.plot(x, np.log(x))
    axis.set(xlabel="x", ylabel="ln x")
    axis.set_title("the natural logarithm of a probability", fontsize=10)
    axis.grid(alpha=0.3)
    return Demonstration(
        f"""\
{"x":>6}{"ln x":>10}
{rows}

The loss is - ln of the probability that was given to the true class: 0 where that is 1, and without
bound towards 0.""",
        figure,
    )


def softmax() -> Demonstration:
    """Three scores as probabilities, and what becomes of them where the softmax is taken twice."""
    scores = torch.tensor([3.0, 1.0, -3.0])
    once = scores.softmax(0)
    twice = once.softmax(0)
    of_3, of_10 = (F.one_hot(torch.tensor(0), classes).float().softmax(0)[0] for classes in (3, 10))
    return Demonstration(
        f"""\
scores           {"".join(f"{score:>8.0f}" for score in scores)}
softmax          {"".join(f"{p:>8.4f}" for p in once)}   the text prints {", ".join(f"{p:.2f}" for p in once)}
softmax of that  {"".join(f"{p:>8.4f}" for p in twice)}

An older edition of the program takes the softmax in its network and once more in its loss. The second
one is given probabilities, and flattens them: of 3 classes none gets more than {of_3:.4f}, of 10 none more
than {of_10:.4f}, and the loss never falls below {-of_10.log():.4f} there. A loss wants the scores themselves."""
    )


def one_hot() -> Demonstration:
    """The digit 6 as ten probabilities, and what is then left of the sum in a cross-entropy."""
    label = torch.tensor(6)
    answer = F.one_hot(label, 10)
    logarithms = torch.arange(10.0).log_softmax(0)
    return Demonstration(
        f"""\
class    {" ".join(str(digit) for digit in range(len(answer)))}
label {label}  {" ".join(map(str, answer.tolist()))}

All of the probability is on the true class, so one term is left of the cross-entropy's sum: where the
scores are 0, 1, ..., 9, - sum(answer * ln p) is {-(answer * logarithms).sum():.4f}, and - ln p of class {label} \
is {-logarithms[label]:.4f}."""
    )


def two_class_softmax() -> Demonstration:
    """The softmax of two scores beside the sigmoid of their difference."""
    pairs = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 1.0], [-2.0, 3.0]], dtype=torch.float64)
    rows = "\n".join(
        f"{a:>5.0f}{b:>5.0f}{of_two:>16.6f}{of_difference:>16.6f}"
        for (a, b), of_two, of_difference in zip(
            pairs.tolist(), pairs.softmax(1)[:, 0], (pairs[:, 0] - pairs[:, 1]).sigmoid(), strict=True
        )
    )
    differences = torch.linspace(-6, 6, 241, dtype=torch.float64)
    first, second = torch.stack([differences, torch.zeros_like(differences)]).softmax(0)
    apart = (first - differences.sigmoid()).abs().max()

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    x = differences.numpy()
    axis.plot(x, first.numpy(), "C0-", linewidth=5, alpha=0.4, label="softmax, first class")
    axis.plot(x, second.numpy(), "C1-", linewidth=5, alpha=0.4, label="softmax, second class")
    axis.plot(x, differences.sigmoid().numpy(), "k--", label="sigmoid of the difference")
    axis.set(xlabel="first score minus second score", ylabel="probability")
    axis.set_title("with two classes the softmax is a sigmoid", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend()
    return Demonstration(
        f"""\
    a    b softmax(a, b)_1  sigmoid(a - b)
{rows}

exp(a) / (exp(a) + exp(b)) is 1 / (1 + exp(b - a)), divided above and below by exp(a). At {len(differences)}
differences from -6 to 6 the two are at most {apart:.0e} apart, in float64.""",
        figure,
    )


class Fit(NamedTuple):
    """``slope * size + intercept``, or the sigmoid of that, and the size at which it is 0.5."""

    slope: float
    intercept: float
    crossing: float


def fitted_line(sizes: NDArray[np.float64], malignant: NDArray[np.int64]) -> Fit:
    """The straight line of least squares through N sizes, ``(N,)``, and their classes, ``(N,)``, 0 or 1."""
    slope, intercept = np.polyfit(sizes, malignant, 1).tolist()
    return Fit(slope, intercept, (0.5 - intercept) / slope)


def fitted_sigmoid(sizes: NDArray[np.float64], malignant: NDArray[np.int64]) -> Fit:
    """The logistic regression of N classes, ``(N,)``, 0 or 1, on sizes, ``(N,)``, with scikit-learn's usual penalty.

    Without a penalty the slope would grow for ever wherever a size separates the classes.
    """
    from sklearn.linear_model import LogisticRegression  # a second of import that only this demonstration has to pay

    model = LogisticRegression().fit(sizes[:, None], malignant)
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    return Fit(slope, intercept, -intercept / slope)


def tumours() -> Demonstration:
    """A straight line and a sigmoid that tell tumours by their size, without and with a very large one."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    rows, highest = [], []
    for axis, malignant, name in zip(
        figure.subplots(1, 2), (MALIGNANT, (*MALIGNANT, VERY_LARGE)), ("ten", "and the eleventh"), strict=True
    ):
        sizes = np.array([*BENIGN, *malignant])
        classes = np.array([0] * len(BENIGN) + [1] * len(malignant))
        line, sigmoid = fitted_line(sizes, classes), fitted_sigmoid(sizes, classes)
        line_misses, sigmoid_misses = (
            ", ".join(str(size) for size in malignant if size < fit.crossing) or "none" for fit in (line, sigmoid)
        )
        rows.append(f"{name:<18}{line.crossing:<9.2f}{line_misses:<17}{sigmoid.crossing:<9.2f}{sigmoid_misses}")
        highest.append(line.slope * sizes.max() + line.intercept)
        _draw_fits(axis, sizes, classes, line, sigmoid)
    return Demonstration(
        f"""\
Benign tumours of {", ".join(map(str, BENIGN))} cm, malignant ones of {", ".join(map(str, MALIGNANT))} cm, and
an eleventh, malignant and of {VERY_LARGE:.0f} cm. The sizes are ours. A straight line is fitted by least squares,
a sigmoid by logistic regression; a tumour that they put below 0.5 they take for benign.

                  straight line             sigmoid
tumours           0.5 at   misses           0.5 at   misses
{chr(10).join(rows)}

Nobody doubted the eleventh, but the line must come near it: it leans over and misses smaller ones. The
sigmoid is close to 1 there already, and stays where it is. Nor does it leave 0 to 1, as no probability
may; the line gives the largest of ten tumours {highest[0]:.2f}.""",
        figure,
    )


def _draw_fits(axis: Axes, sizes: NDArray[np.float64], classes: NDArray[np.int64], line: Fit, sigmoid: Fit) -> None:
    x = np.linspace(0, sizes.max() + 1, 500)
    curves = {
        "straight line": (line, line.slope * x + line.intercept, "C0--"),
        "sigmoid": (sigmoid, 1 / (1 + np.exp(-sigmoid.slope * x - sigmoid.intercept)), "C1-"),
    }
    for name, (fit, y, style) in curves.items():
        axis.plot(x, y, style, label=f"{name}, 0.5 at {fit.crossing:.2f} cm")
        axis.plot([fit.crossing] * 2, [0, 0.5], f"{style[:2]}:")
    axis.plot(sizes[classes == 0], classes[classes == 0], "C2o", label="benign")
    axis.plot(sizes[classes == 1], classes[classes == 1], "C3x", label="malignant")
    missed = sizes[(classes == 1) & (sizes < line.crossing)]
    if missed.size:
        axis.plot(missed, np.ones_like(missed), "ko", fillstyle="none", markersize=9, label="missed by the line")
    axis.axhline(0.5, color="grey", linewidth=0.8)
    axis.set(xlabel="size (cm)", ylabel="0: benign, 1: malignant", ylim=(-0.5, 1.8))
    axis.set_title(f"{len(sizes)} tumours", fontsize=10)
    axis.legend(fontsize=8, loc="lower right")


def boxes() -> Demonstration:
    """A white ball from one of two boxes, and the box that maximum likelihood takes it from."""
    whites, blacks = torch.tensor([99.0, 1.0]), torch.tensor([1.0, 99.0])
    likelihoods = whites / (whites + blacks)
    rows = "\n".join(
        f"{box:<6}{white:>6.0f}{black:>8.0f}{p:>17.2f}{p.log():>12.4f}"
        for box, white, black, p in zip("AB", whites, blacks, likelihoods, strict=True)
    )
    best, other = likelihoods.argsort(descending=True).tolist()
    return Demonstration(
        f"""\
A white ball has been drawn. From which box?

box    white   black   P(white | box)        ln P
{rows}

Maximum likelihood takes the box under which what was seen is most probable:
{"AB"[best]}, {likelihoods[best]:.2f} against {likelihoods[other]:.2f}.

A network is trained by the same rule: cross-entropy is - ln of the probability it gave to what was
seen, so the least cross-entropy is the greatest likelihood."""
    )

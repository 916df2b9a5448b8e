"""The demonstrations of System 3: a loss, a network's size, its activations and the average of a weight.

Source: Cao Jian, Peking University, course on TensorFlow, chapter 4, "neural network optimisation".
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from lit_l2softmax.schedules import averaging_decay

from .demonstration import Demonstration

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "ReLU": torch.relu}


def cross_entropy() -> Demonstration:
    """Two predictions of one answer in both logarithms, and the mean that the source's program takes instead."""
    answer = torch.tensor([1.0, 0.0])
    predictions = torch.tensor([[0.6, 0.4], [0.8, 0.2]])
    natural = -(answer * predictions.log()).sum(1)
    common = -(answer * predictions.log10()).sum(1)
    over_elements = -(answer * predictions.log()).mean(1)
    rows = "\n".join(
        f"({y[0]:.1f}, {y[1]:.1f}){ln:>16.4f}{log10:>16.4f}{mean:>20.4f}"
        for y, ln, log10, mean in zip(predictions.tolist(), natural, common, over_elements, strict=True)
    )
    batch = F.cross_entropy(predictions.log(), answer.expand(2, 2))
    batch_over_elements = -(answer * predictions.log()).mean()
    return Demonstration(
        f"""\
Where the answer is y_ = (1, 0), the cross-entropy of a prediction y is - sum(y_ * ln y).

y           - sum(y_ * ln y)   with log10   -reduce_mean(y_ * log y)
{rows}

The second prediction is nearer to the answer, so its cross-entropy is the smaller one.
The text prints {common[0]:.3f} and {common[1]:.3f}, with base-10 logarithms; the program's tf.log is the natural one.
The program's -reduce_mean(y_ * log y) also divides by n * C, examples times classes, here 1 * {len(answer)}.
Of both rows as one batch it makes {batch_over_elements:.4f}; their mean cross-entropy is {batch:.4f}."""
    )


def parameters() -> Demonstration:
    """The layers and the parameters of the 3-4-2 network, by the formula and counted in one of PyTorch."""
    sizes = (3, 4, 2)
    formula = " + ".join(f"{inputs} * {outputs} + {outputs}" for inputs, outputs in pairwise(sizes))
    by_formula = sum(inputs * outputs + outputs for inputs, outputs in pairwise(sizes))
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    layers = sum(isinstance(layer, nn.Linear) for layer in network)
    counted = "\n".join(f"  {name:<10}{parameter.numel():>3}" for name, parameter in network.named_parameters())
    return Demonstration(
        f"""\
A network of {sizes[0]} inputs, {sizes[1]} hidden units and {sizes[2]} outputs.

layers      hidden layers + 1 = {len(sizes) - 2} + 1 = {len(sizes) - 1}; the inputs compute nothing and are not counted
parameters  {formula} = {by_formula}: weights and biases, layer by layer

PyTorch's nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) has {layers} layers with parameters:
{counted}
  all       {sum(parameter.numel() for parameter in network.parameters()):>3}

The text has lost its asterisks: its "34+4 + 42+2" is 3 * 4 + 4 and 4 * 2 + 2."""
    )


def with_derivative(function: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """The values of an elementwise function at ``points`` and, by autograd, its derivative there, both shaped alike."""
    points = points.clone().requires_grad_()
    values = function(points)
    (derivatives,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), derivatives


def activations() -> Demonstration:
    """Sigmoid, tanh and ReLU with their derivatives, at five points and, drawn, from -6 to 6."""
    points = torch.linspace(-2, 2, 5)
    columns = [column for function in ACTIVATIONS.values() for column in with_derivative(function, points)]
    headings = "".join(f"{heading:>10}" for name in ACTIVATIONS for heading in (name, "slope"))
    rows = "\n".join(
        f"{x:>4.0f}" + "".join(f"{value:>10.4f}" for value in row)
        for x, row in zip(points, torch.stack(columns, 1), strict=True)
    )
    steepest = {name: with_derivative(function, points)[1].max() for name, function in ACTIVATIONS.items()}
    last = points[-1]
    return Demonstration(
        f"""\
{"x":>4}{headings}
{rows}

sigmoid  s = 1 / (1 + exp(-x))                   slope s * (1 - s), at most {steepest["sigmoid"]:.2f}
tanh     t = (1 - exp(-2x)) / (1 + exp(-2x))     slope 1 - t * t, at most {steepest["tanh"]:.2f}
ReLU     max(x, 0)                               slope 0 or 1; at 0 there is none, and programs take 0

One copy of the source has a wrong sign in its formula of the sigmoid. A sign turns it round: at {last:.0f}
the sigmoid is {last.sigmoid():.4f}, and 1 / (1 + exp(x)), which falls, is {1 / (1 + last.exp()):.4f}.""",
        _activations_drawn(),
    )


def _activations_drawn() -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    x = torch.linspace(-6, 6, 1201)
    for (name, function), style in zip(ACTIVATIONS.items(), ("-", "--", "-."), strict=True):
        for axis, values in zip(axes, with_derivative(function, x), strict=True):
            axis.plot(x.numpy(), values.numpy(), style, label=name)
    for axis, title in zip(axes, ("activations", "their derivatives"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set(xlabel="x")
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0].set_ylim(-1.2, 3)  # all of ReLU would flatten the others
    return figure


def moving_averages(values: Sequence[float], decays: Sequence[float]) -> Tensor:
    """The average, from 0 on, of T values that come one by one, each with its decay: ``(T + 1,)``, float32.

    Every operation is rounded where ``tf.train.ExponentialMovingAverage`` rounds it, so that all printed digits agree.
    """
    averages = [torch.tensor(0.0)]
    for value, decay in zip(values, decays, strict=True):
        averages.append(averages[-1] - (averages[-1] - value) * (1 - torch.tensor(decay)))
    return torch.stack(averages)


def moving_average() -> Demonstration:
    """A variable that jumps to 1 and to 10, and its moving average, which follows with TensorFlow's growing decay."""
    decay, printed, drawn = 0.99, 8, 60
    values = [1.0] + [10.0] * (drawn - 1)
    steps = [0] + [100] * (drawn - 1)  # the source sets its step to 100 and leaves it there
    decays = [averaging_decay(decay, step) for step in steps]
    averages = moving_averages(values, decays).numpy()
    rows = "\n".join(
        f"{update + 1:>6}{steps[update]:>6}{decays[update]:>10.4f}{values[update]:>6.0f}   {averages[update + 1]!s}"
        for update in range(printed)
    )

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    updates = range(drawn + 1)
    axis.step(updates, [0.0, *values], "k-", where="pre", label="w1")
    axis.plot(updates, averages, "C0-", label=f"its average, decay min({decay}, (1 + t) / (10 + t))")
    axis.plot(updates[: printed + 1], averages[: printed + 1], "C0o", label="the averages that are printed")
    constant = moving_averages(values, [decay] * drawn).numpy()
    axis.plot(updates, constant, "C1--", label=f"its average, decay {decay} from the start")
    axis.set(xlabel="updates", ylabel="value")
    axis.set_title("a moving average chases its variable", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(loc="center right", bbox_to_anchor=(1, 0.61))  # between the averages
    return Demonstration(
        f"""\
An update moves the average to decay * average + (1 - decay) * w1; the decay at step t is
min({decay}, (1 + t) / (10 + t)). Both start at 0. w1 becomes 1 at step 0, and 10 at step 100.

update     t     decay    w1   average of w1
{0:>6}{"":>16}{0:>6}   {averages[0]!s}
{rows}

The text says that w1 is updated to 1.644. That is its average, the "shadow"; w1 stays {values[1]:.0f}.
The decay is small at first, so that the average soon forgets where it started. The picture goes on
for {drawn} updates, and shows beside it how a decay of {decay} from the start would lag.""",
        figure,
    )

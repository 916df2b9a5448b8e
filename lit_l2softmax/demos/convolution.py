"""The demonstrations of System 4: how many parameters a convolution saves, and how its filter slides.

Source: ZhuanZhiCode/TensorFlow-Eager-Execution-Examples, examples/Models/convolutional_neural_network.py, and the text
that goes with it.
"""

import math

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from lit_l2softmax.networks import LeNet

from .demonstration import Demonstration

IMAGE = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]])
FILTER = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]])


def parameter_count(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def lenet_parameters() -> Demonstration:
    """Weights of a layer on a large image, wired in four ways, and the layers of LeNet with their parameters."""
    pixels, units, field, filters = 1000 * 1000, 10**6, 10 * 10, 100
    wirings = {
        "each unit sees every pixel": pixels * units,
        "each unit sees 10 x 10 pixels": field * units,
        "all units share one filter of 10 x 10": field,
        "a hundred such filters": field * filters,
    }
    weights = "\n".join(f"  {name:<39}{count:>17,}   1e{math.log10(count):.0f}" for name, count in wirings.items())
    everywhere, local, *_ = wirings.values()
    orders = math.log10(everywhere / local)

    network, head = LeNet(), nn.Linear(LeNet.out_features, 10)
    classifier = nn.Sequential(network, head)
    layers = {"conv1": network.conv1, "conv2": network.conv2, "dense": network.dense, "the head": head}
    shapes: dict[nn.Module, torch.Size] = {}

    def keep_shape(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        shapes[layer] = output.shape[1:]

    for layer in layers.values():
        layer.register_forward_hook(keep_shape)
    image = torch.zeros(1, 1, 28, 28)
    classifier(image)
    table = "\n".join(
        f"  {name:<10}{' x '.join(map(str, shapes[layer])):<14}{parameter_count(layer):>9,}"
        for name, layer in layers.items()
    )
    channels, height, _ = shapes[network.conv2]
    valid, same = height // 2, image.shape[-1] // 2 // 2
    same_size = same * same * channels
    return Demonstration(
        f"""\
Weights between an image of 1000 x 1000 pixels and a million hidden units, without biases:
{weights}
Seeing 10 x 10 pixels instead of all saves {orders:.0f} orders of magnitude. Units that look for the same in
different places can share their filter, and each further filter looks for something else.

The network of this system, with biases; a 2 x 2 maximum follows each convolution:
  layer     output       parameters
{table}
  all       {parameter_count(classifier):>23,}

The source also computes flat_size = {same} * {same} * {channels} = {same_size:,}, and never uses it. Padded
convolutions (SAME) would leave {same} x {same} pixels; these are not padded (VALID) and leave {valid} x {valid},
so that the dense layer takes {valid} * {valid} * {channels} = {network.dense.in_features:,}."""
    )


def convolution() -> Demonstration:
    """A 3x3 filter that slides over a binary 5x5 image: nine sums."""
    size = len(FILTER)
    result = F.conv2d(IMAGE[None, None].float(), FILTER[None, None].float())[0, 0].int()
    windows = IMAGE.unfold(0, size, 1).unfold(1, size, 1)  # (3, 3, 3, 3): row, column, and what the filter sees there
    sums = "\n".join(
        f"  row {row + 1}, column {column + 1}:  "
        f"{' + '.join(map(str, seen[FILTER == 1].tolist()))} = {result[row, column]}"
        for row, line in enumerate(windows)
        for column, seen in enumerate(line)
    )
    return Demonstration(
        f"""\
image
{_lines(IMAGE)}

filter
{_lines(FILTER)}

The filter lies on the image in nine places; in each, the pixels under its ones are added:
{sums}

result
{_lines(result)}

Mathematics turns a filter by half a turn before it slides; networks do not. This filter is the same
either way.""",
        _nine_places(result),
    )


def _lines(numbers: Tensor) -> str:
    return "\n".join("  " + " ".join(map(str, row)) for row in numbers.tolist())


def _nine_places(result: Tensor) -> Figure:
    figure = Figure(figsize=(9, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 2))[0]
    for axis, (title, numbers) in zip(
        left.subplots(3, 1, height_ratios=(5, 3, 3)),
        {"image": IMAGE, "filter": FILTER, "result": result}.items(),
        strict=True,
    ):
        _draw_numbers(axis, numbers)
        axis.set_title(title, fontsize=10)
    for place, axis in enumerate(right.subplots(*result.shape).flat):
        row, column = divmod(place, result.shape[1])
        _draw_numbers(axis, IMAGE)
        for down, across in FILTER.nonzero().tolist():
            axis.add_patch(Rectangle((column + across - 0.5, row + down - 0.5), 1, 1, color="C1", alpha=0.5))
        frame = Rectangle((column - 0.5, row - 0.5), *FILTER.shape, fill=False, edgecolor="C1", linewidth=2)
        axis.add_patch(frame).set_clip_on(False)
        axis.set_title(f"{result[row, column]}", fontsize=10)
    right.suptitle("the filter's nine places, and the sum of the pixels under its ones", fontsize=10)
    return figure


def _draw_numbers(axis: Axes, numbers: Tensor) -> None:
    axis.imshow(numbers.numpy(), cmap="Greys", vmin=0, vmax=10)  # pale, for the digits to be read
    for row, line in enumerate(numbers.tolist()):
        for column, number in enumerate(line):
            axis.text(column, row, f"{number}", ha="center", va="center", fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])

"""Every experiment of `make reproduce`: what its source prints, and where our figure lies in what a run leaves."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Finished:
    """A run that is over: its folder, what it printed, and its ``result.json``."""

    folder: Path
    printed: str

    @property
    def result(self) -> dict[str, float]:
        """Flat keys."""
        content: dict[str, float] = json.loads((self.folder / "result.json").read_text())
        return content

    def weight(self, name: str) -> NDArray[np.float32]:
        """A parameter of the last checkpoint, flattened."""
        state = torch.load(self.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        weight: NDArray[np.float32] = state[name].flatten().numpy()
        return weight


Figure = float | str  # a share that can be averaged and has an interval, or numbers as they are printed


def test_accuracy(run: Finished) -> Figure:
    """The share of test images that are classified rightly."""
    return run.result["test/accuracy"]


def weights(run: Finished) -> Figure:
    """The weights of a linear unit, to the digits that float32 has."""
    return f"w {', '.join(map(str, run.weight('network.weight')))}"


def last_line(run: Finished) -> Figure:
    """The numbers of the last line in the source's words."""
    line = [line for line in run.printed.splitlines() if line.startswith("After ")][-1]
    return line.removeprefix("After ").rstrip(".")


def loss_of_the_points(run: Finished) -> Figure:
    """The objective of all training points at step 38,000, and how many test points are on their side."""
    (loss,) = re.findall(r"^After 38000 steps, loss is: ([\d.]+)$", run.printed, re.MULTILINE)
    result = run.result
    return f"loss {float(loss):.4f}; {result['test/accuracy']:.3f} of {result['test/points']:,.0f} points right"


def verification(run: Finished) -> Figure:
    """What a verification's thresholds accept; a share of pairs, which share images, has no interval of its own."""
    return f"EER {run.result['test/eer']:.4f}, TAR {run.result['test/tar_at_far_1e-3']:.4f} at a FAR of .001"


@dataclass(frozen=True)
class Experiment:
    """One configuration, trained once for each seed.

    Attributes:
        system: of the specification.
        config: its name.
        source: what the source prints, in words.
        figure: of one run.
        seeds: ``--seed_everything`` of each run.
        options: that are added, and named in the report.
    """

    system: int
    config: str
    source: str
    figure: Callable[[Finished], Figure] = test_accuracy
    seeds: tuple[int, ...] = (0,)
    options: tuple[str, ...] = ()


THREE = (0, 1, 2)
SHORT = ("--trainer.max_steps=2000", "--trainer.val_check_interval=1000")
FEW_FACES = (
    "--trainer.strategy=auto",
    "--trainer.devices=1",
    "--data.identities=1000",
    "--model.head.num_classes=1000",
    "--trainer.max_steps=300",
    "--trainer.val_check_interval=100",
)
UPSTREAM = ".9908 (upstream notebook, no constraint)"
CIFAR10 = ".86 after 100,000 steps, .827 after 13,000"
LOSSES = ("softmax", "l2_constrained", "normface", "cosface", "arcface")
LENET = "never tested; .9922 of the batch at step 900"
RECOGNISER = "never tested; losses of .0058 to .0652 in the last epoch"

EXPERIMENTS = (
    Experiment(1, "mnist", UPSTREAM, seeds=THREE),
    Experiment(1, "mnist_softmax", UPSTREAM, seeds=THREE),
    Experiment(1, "mnist_tutorial", "none printed", seeds=THREE),
    *(Experiment(1, f"verify_{loss}", "none: ours", verification) for loss in LOSSES),
    *(Experiment(1, f"plane_{loss}", "none: ours") for loss in LOSSES),
    Experiment(1, "faces_synthetic", "none: ours", verification, options=FEW_FACES),
    Experiment(2, "cifar10", CIFAR10, options=SHORT),
    Experiment(2, "cifar10_tutorial", CIFAR10, options=SHORT),
    Experiment(3, "yoghurt", "w .98019385, 1.0159807", weights),
    Experiment(3, "yoghurt_momentum", "none printed; least squares 1.00431, .99483", weights),
    Experiment(3, "yoghurt_adam", "none printed; least squares 1.00431, .99483", weights),
    Experiment(3, "yoghurt_cost", "w 1.0296593, 1.0484432", weights),
    Experiment(3, "yoghurt_profit", "w .9600407, .97334176", weights),
    Experiment(3, "parabola", "-1.000000 from step 31 on", last_line),
    Experiment(3, "parabola_too_fast", "-7 and 5 in turn, loss 36", last_line),
    Experiment(3, "parabola_too_slow", "39: w 4.952183, loss 35.428478", last_line),
    Experiment(3, "parabola_staircase", "39: w -.995731, learning rate .066897, loss .000018", last_line),
    Experiment(3, "parabola_smooth", "none printed", last_line),
    Experiment(3, "dots", "loss .0732 or .0411, unseeded", loss_of_the_points),
    Experiment(3, "dots_tutorial", "loss .0732 or .0411, unseeded", loss_of_the_points),
    Experiment(3, "dots_l2", "loss .0769, unseeded", loss_of_the_points),
    Experiment(3, "dots_l2_tutorial", "loss .0769, unseeded", loss_of_the_points),
    Experiment(3, "dots_l1", "not trained", loss_of_the_points),
    Experiment(3, "dots_modular", "loss .0908 at ten times the learning rate", loss_of_the_points),
    Experiment(3, "dots_modular_tutorial", "loss .0908 at ten times the learning rate", loss_of_the_points),
    Experiment(4, "lenet", LENET, seeds=THREE),
    Experiment(4, "lenet_tutorial", LENET, seeds=THREE),
    Experiment(5, "recogniser_ce", RECOGNISER),
    Experiment(5, "recogniser_ce_tutorial", RECOGNISER),
    Experiment(5, "recogniser_mse", "never tested"),
    Experiment(5, "recogniser_mse_tutorial", "never tested"),
)

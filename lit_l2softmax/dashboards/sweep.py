"""The sweeps over alpha: does the constraint help, and at which length of the features?"""

import wandb_workspaces.reports.v2 as wr

from lit_l2softmax.shipped import sweeps

from .dashboard import Dashboard, Section
from .panels import SHARE, bars, coordinates, importance, lines, of_each_class, scatter
from .runs import of_groups

NAMES = [name for name in sweeps() if name.startswith("mnist_alpha")]
HEAD = "model.init_args.head.init_args"  # in a run's configuration
ALPHA = f"{HEAD}.alpha"

DASHBOARD = Dashboard(
    title="The sweeps over alpha",
    text=(
        "Every run of configs/sweeps/mnist_alpha*.yaml: System 1 over alpha, eight seeds a setting. Runs of one sweep "
        "with the same alpha, fixed or learned, are drawn as one: their mean, and its standard error. Alpha 0 is the "
        "plain softmax, which the others are compared with."
    ),
    runs=of_groups(NAMES),
    columns=["test/accuracy", "test/loss", "test/calibration_error", "train/alpha"],
    setting=["Group", ALPHA, f"{HEAD}.learn_alpha"],
    most_runs=200,  # there are 160
    sections=[
        Section(
            "Accuracy",
            "A point a run on the left, settings as bars on the right. A learned alpha is told its first value; the "
            "last one is what it has become.",
            [
                scatter("test accuracy against alpha", wr.Config(ALPHA), "test/accuracy"),
                scatter("test accuracy against the last alpha", "train/alpha", "test/accuracy"),
                bars("test accuracy of each setting", "test/accuracy"),
            ],
        ),
        Section(
            "Loss and calibration",
            "Alpha is the scale of the logits: a small one cannot be sure of anything, so its loss stays high.",
            [
                scatter("test calibration error against alpha", wr.Config(ALPHA), "test/calibration_error"),
                scatter("test loss against alpha", wr.Config(ALPHA), "test/loss"),
                bars("test calibration error of each setting", "test/calibration_error"),
            ],
        ),
        Section(
            "On the way",
            "Of single training batches, with dropout. The feature norm is the mean length before the constraint.",
            [
                lines("training loss", "train/loss", unit="nats", log=True),
                lines("training accuracy", "train/accuracy", limits=SHARE),
                lines("alpha", "train/alpha"),
                lines("mean feature norm before the constraint", "train/feature_norm", limits=(0, None)),
                lines("gradient norm", "train/gradient_norm", log=True),
                scatter("test accuracy against the last feature norm", "train/feature_norm", "test/accuracy"),
            ],
        ),
        Section(
            "Settings",
            "What decides the accuracy, alpha or the seed.",
            [
                coordinates(
                    "from setting to result",
                    alpha=wr.Config(ALPHA),
                    seed=wr.Config("seed_everything"),
                    feature_norm="train/feature_norm",
                    calibration_error="test/calibration_error",
                    test_accuracy="test/accuracy",
                ),
                importance("test/accuracy"),
            ],
        ),
        Section(
            "Digits", "Which digits gain by the constraint.", [of_each_class("accuracy of each digit", "0123456789")]
        ),
    ],
)

"""System 1: what the constraint does to a training on MNIST."""

from .dashboard import Dashboard, Section
from .panels import bars, confusion, differences, lines, of_each_class, pictures
from .runs import classifying_by

DASHBOARD = Dashboard(
    title="System 1: the L2-constrained softmax on MNIST",
    text=(
        "Trainings of configs/mnist.yaml and its relatives: how well they classify, how sure they are of it, what the "
        "constraint does to features and gradients, and what is still mistaken."
    ),
    runs=classifying_by("MnistConvNet"),
    columns=["test/accuracy", "test/loss", "test/calibration_error", "train/alpha"],
    sections=[
        Section(
            "Result",
            "On all test images, by the checkpoint a run is judged by. The calibration error is how far the "
            "probability of what is predicted is from the share that is right.",
            [
                bars("test accuracy", "test/accuracy"),
                bars("test loss", "test/loss"),
                bars("test calibration error", "test/calibration_error"),
            ],
        ),
        Section(
            "Learning",
            "Training figures are of single batches, with dropout; validation figures are means over all its images.",
            [
                lines("loss", "train/loss", "val/loss", unit="nats", log=True),
                lines("accuracy", "train/accuracy", "val/accuracy", limits=(None, 1)),
                lines("calibration error on validation images", "val/calibration_error", limits=(0, None)),
            ],
        ),
        Section(
            "The constraint",
            "Features have the length alpha behind the constraint; the feature norm is their mean length before it. A "
            "gradient that grows while the loss falls, or a norm without bounds, is what the constraint is to prevent.",
            [
                lines("mean feature norm before the constraint", "train/feature_norm", limits=(0, None)),
                lines("alpha", "train/alpha"),
                lines("gradient norm", "train/gradient_norm", log=True),
            ],
        ),
        Section(
            "Mistakes",
            "Which digit was taken for which, and the images whose own class got the least probability.",
            [
                confusion("test/confusion_matrix", "test images: the true digit, and what it was taken for"),
                of_each_class("accuracy of each digit", "0123456789"),
                pictures("worst mistakes", "test/mistakes", columns=4),
            ],
        ),
        Section(
            "Speed and schedule",
            "Images a second count what data and callbacks take, and leave validations out.",
            [
                lines("speed", "train/images_per_second", unit="images/s", limits=(0, None)),
                lines("learning rate", "train/learning_rate"),
            ],
        ),
        Section("Settings", "What the runs were told, where they differ.", [differences()]),
    ],
)

"""System 2: the averaged network of TensorFlow's CIFAR-10 tutorial, and what goes on inside it."""

from .dashboard import Dashboard, Section
from .panels import SHARE, bars, confusion, differences, histogram, lines, of_each_class, pictures
from .runs import classifying_by

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RECTIFIED = [f"network.{layer}" for layer in ("conv1", "conv2", "local3", "local4")]
WEIGHTS = [f"{layer}.weight" for layer in (*RECTIFIED, "head")]
PENALTIES = [f"train/penalty/network.{layer}.weight" for layer in ("local3", "local4")]

DASHBOARD = Dashboard(
    title="System 2: TensorFlow's CIFAR-10 network",
    text=(
        "Trainings of configs/cifar10.yaml and cifar10_tutorial.yaml: the averaged weights against the raw ones, "
        "losses as they are and smoothed, and the activations, weights and gradients of every layer."
    ),
    runs=classifying_by("Cifar10ConvNet"),
    columns=["test/accuracy", "test/accuracy_raw", "test/loss", "test/calibration_error"],
    sections=[
        Section(
            "Averaged against raw weights",
            "What is judged is the moving average of the weights. The raw weights are tested beside it, at the end.",
            [
                bars("test accuracy", "test/accuracy", "test/accuracy_raw"),
                bars("test loss", "test/loss", "test/loss_raw"),
                bars("test calibration error", "test/calibration_error", "test/calibration_error_raw"),
            ],
        ),
        Section(
            "On the way",
            "All training images train, so the test images are watched under their own name, by the averaged weights, "
            "and nothing is selected by them.",
            [
                lines("accuracy", "train/accuracy", "test/accuracy", limits=SHARE),
                lines("test loss", "test/loss", unit="nats"),
                lines("test calibration error", "test/calibration_error", limits=(0, None)),
            ],
        ),
        Section(
            "Losses",
            "The loss is the cross-entropy and the weight decay of two layers. The smoothed ones are the tutorial's "
            "moving averages; in its bug-for-bug twin they start at zero.",
            [
                lines("loss", "train/loss", "train/loss_smoothed", log=True),
                lines("cross-entropy", "train/cross_entropy", "train/cross_entropy_smoothed", unit="nats"),
                lines("weight decay", *(f"{name}_smoothed" for name in PENALTIES), limits=(0, None)),
            ],
        ),
        Section(
            "Optimiser and speed",
            "The learning rate falls in stairs, first after 136,718 steps. Images a second count what data and "
            "callbacks take, and leave evaluations out.",
            [
                lines("gradient norm", "train/gradient_norm", log=True),
                lines("learning rate", "train/learning_rate"),
                lines("speed", "train/images_per_second", unit="images/s", limits=(0, None)),
            ],
        ),
        Section(
            "Activations",
            "What the rectified layers and the logits make of a batch, every hundred steps, and the share of zeros in "
            "it. A layer whose share goes to 1 has died.",
            [
                lines("share of zeros", *(f"sparsity/{name}" for name in RECTIFIED), limits=SHARE),
                *(histogram(f"activations/{name}") for name in (*RECTIFIED, "logits")),
            ],
        ),
        Section(
            "Weights",
            "The two layers that are decayed are local3 and local4.",
            [histogram(f"weights/{name}") for name in WEIGHTS],
        ),
        Section(
            "Gradients",
            "Of the whole loss, before the step.",
            [histogram(f"gradients/{name}") for name in WEIGHTS],
        ),
        Section(
            "Images and mistakes",
            "The distorted images that train, which class was taken for which, and the images whose own class got the "
            "least probability.",
            [
                confusion("test/confusion_matrix", "test images: the true class, and what it was taken for"),
                of_each_class("accuracy of each class", CLASSES),
                pictures("training images", "train/images", columns=3),
                pictures("worst mistakes", "test/mistakes", columns=4),
            ],
        ),
        Section("Settings", "What the runs were told, where they differ.", [differences()]),
    ],
)

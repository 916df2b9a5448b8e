"""A training step of System 1: ours, by Lightning's Trainer as ``configs/mnist.yaml`` has it, against a plain loop.

Both see the same data: scikit-learn's digits, repeated to as many rows as MNIST trains on, so that a step costs what it
costs there and nothing needs to be downloaded.
"""

import copy
import itertools
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import instantiate_class
from plain_mnist import PlainNetwork, autocast, plain_loop

from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import MNISTData
from lit_l2softmax.loggers import RunCSVLogger

CONFIG = yaml.safe_load((Path(__file__).parents[1] / "configs" / "mnist.yaml").read_text())
NETWORK, HEAD = (CONFIG["model"]["init_args"][part] for part in ("network", "head"))
ROWS = 55_000
PRECISIONS = ("32-true", "bf16-mixed")
UNTIMED_STEPS = 10  # of a fit: its first ones allocate
BASELINE = "plain, 32-true"


class Clock(Callback):
    """Reads the clock when the untimed steps are over and when the fit is; keeps the first loss."""

    def __init__(self, untimed_steps):
        self.untimed_steps = untimed_steps

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 1:
            self.first_loss = outputs["loss"]
        if trainer.global_step == self.untimed_steps:
            self.start = time.perf_counter()
        if trainer.global_step == trainer.max_steps:
            self.seconds = time.perf_counter() - self.start


class Ours:
    """The module, its optimiser and its data; each fit is a new trainer that goes on with them."""

    def __init__(self, batch_size, precision, folder, dropout=None):
        network = copy.deepcopy(NETWORK)
        if dropout is not None:
            network["init_args"]["dropout"] = dropout
        self.module = LitClassification(instantiate_class((), network), instantiate_class((), HEAD))
        optimizer = instantiate_class(self.module.parameters(), CONFIG["optimizer"])
        self.module.configure_optimizers = lambda: optimizer
        self.data = MNISTData(**{**CONFIG["data"]["init_args"], "source": "digits", "batch_size": batch_size})
        self.data.prepare_data()
        self.data.setup("fit")
        self.data.train = tuple(
            part.repeat(-(-ROWS // len(part)), *[1] * (part.ndim - 1))[:ROWS] for part in self.data.train
        )
        self.precision, self.folders = precision, (folder / str(n) for n in itertools.count())

    def fit(self, steps, untimed_steps=UNTIMED_STEPS):
        """Trains; returns the clock."""
        clock = Clock(untimed_steps)
        folder = next(self.folders)
        options = {
            **CONFIG["trainer"],
            "max_steps": untimed_steps + steps,
            "limit_val_batches": 0,
            "precision": self.precision,
            "accelerator": "cpu",
            "logger": RunCSVLogger(folder),
            "callbacks": [clock],
            "enable_checkpointing": False,  # checkpoints are written at validations, not at steps
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        Trainer(**options).fit(self.module, datamodule=self.data)
        return clock

    def __call__(self, calls):
        """The seconds of ``calls`` steps in the middle of a training."""
        return self.fit(calls).seconds


def plain_of(module):
    """A plain network, without dropout, with the module's weights."""
    weights = {
        name.replace("network.", "").replace("head.", "classifier."): weight
        for name, weight in module.state_dict().items()
    }
    network = PlainNetwork(HEAD["init_args"]["alpha"], dropout=0.0)
    network.load_state_dict(weights)
    return network


def loss_and_gradients(loss, module):
    names, parameters = zip(*module.named_parameters(), strict=True)
    return loss.detach(), dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def check_that_both_compute_the_same(batch_size, folder):
    """The gate: what is not the same computation is not timed. Dropout is off, the weights are the same.

    In float64 the loss and every gradient are the same but for rounding. In a sum of n terms of random sign the error
    grows as sqrt(n) u, and the sum is sqrt(n) times smaller than its terms together, so n u bounds the relative error
    of a tensor's norm. The longest sums are those over a batch and the positions of a convolution; each is entered with
    the errors of all products before it, and n counts those too.

    In the precision that is timed, gradients do not compare: two roundings of a near-tie send a pooling's gradient to
    two places. The loss is continuous: our error against float64 may be twice the worst that plain PyTorch makes of any
    row in that precision.
    """
    for precision in PRECISIONS:
        ours = Ours(batch_size, precision, folder / f"gate-{precision}", dropout=0.0)
        for parameter in ours.module.parameters():
            if parameter.ndim == 1:  # biases start at zero, and without them the sphere hides the scale of the images
                torch.nn.init.normal_(parameter, std=0.1)
        images, labels = next(iter(ours.data.train_dataloader()))
        images = images.double() / 255
        exact, plain = plain_of(ours.module).double(), plain_of(ours.module)
        twin = copy.deepcopy(ours.module).double()
        with autocast(precision):
            rows = F.cross_entropy(plain(images.float()).float(), labels, reduction="none")
        exact_rows = F.cross_entropy(exact(images), labels, reduction="none")

        expected, expected_gradients = loss_and_gradients(exact_rows.mean(), exact)
        loss, gradients = loss_and_gradients(twin.head(twin.network(images), labels), twin)
        terms = batch_size * (24 * 24 + 10 * 10 + 1) + 2 * (25 + 32 * 9 + 1600 + 1024 + 10)
        bound = terms * torch.finfo(torch.float64).eps / 2
        assert abs(loss - expected) <= bound * expected
        for (name, gradient), expected_gradient in zip(gradients.items(), expected_gradients.values(), strict=True):
            error = torch.linalg.vector_norm(gradient - expected_gradient)
            assert error <= bound * torch.linalg.vector_norm(expected_gradient), name

        first_loss = ours.fit(0, untimed_steps=1).first_loss
        assert abs(first_loss - expected) <= 2 * (rows - exact_rows).abs().max(), precision


# The tutorial's batch, the configuration's, and one that leaves little of the calls' own cost.
@pytest.mark.parametrize("batch_size", [20, 128, pytest.param(1024, marks=pytest.mark.long)])
@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",  # batches are indexed from memory
    "ignore:.*LeafSpec.*",  # Lightning's own use of torch
)
def test_training_step(measure, tmp_path, batch_size):
    torch.manual_seed(CONFIG["seed_everything"])
    check_that_both_compute_the_same(min(batch_size, 128), tmp_path)
    ours = {precision: Ours(batch_size, precision, tmp_path / precision) for precision in PRECISIONS}
    images, labels = ours["32-true"].data.train
    alpha, dropout = HEAD["init_args"]["alpha"], NETWORK["init_args"]["dropout"]
    lr = CONFIG["optimizer"]["init_args"]["lr"]
    providers = {
        f"plain, {p}": plain_loop(PlainNetwork(alpha, dropout), images, labels, batch_size, lr, p) for p in PRECISIONS
    }
    measure(
        "training step of System 1",
        f"batch {batch_size}",
        providers | {f"lit_l2softmax, {precision}": provider for precision, provider in ours.items()},
        baseline=BASELINE,
        calls_multiple=CONFIG["trainer"]["log_every_n_steps"],
        work=batch_size,
        rate_unit="images/s",
    )

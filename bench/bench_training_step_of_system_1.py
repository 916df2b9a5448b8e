"""A training step of System 1: ours, by Lightning's Trainer as ``configs/mnist.yaml`` has it, against a plain loop.

Both see the same data: scikit-learn's digits, repeated to as many rows as MNIST trains on, so that a step costs what it
costs there and nothing needs to be downloaded.
"""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from lightning.pytorch.cli import instantiate_class
from lightning_steps import Fitted, check_same_gradients
from plain_mnist import PlainNetwork, autocast, plain_loop

from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import MNISTData

CONFIG = yaml.safe_load((Path(__file__).parents[1] / "configs" / "mnist.yaml").read_text())
NETWORK, HEAD = (CONFIG["model"]["init_args"][part] for part in ("network", "head"))
ROWS = 55_000
PRECISIONS = ("32-true", "bf16-mixed")
BASELINE = "plain, 32-true"


def fitted(batch_size, precision, folder, dropout=None):
    """Ours, on the digits repeated to as many rows as MNIST trains on."""
    network = copy.deepcopy(NETWORK)
    if dropout is not None:
        network["init_args"]["dropout"] = dropout
    module = LitClassification(instantiate_class((), network), instantiate_class((), HEAD))
    data = MNISTData(**{**CONFIG["data"]["init_args"], "source": "digits", "batch_size": batch_size})
    data.prepare_data()
    data.setup("fit")
    data.train = tuple(part.repeat(-(-ROWS // len(part)), *[1] * (part.ndim - 1))[:ROWS] for part in data.train)
    optimizer = instantiate_class(module.parameters(), CONFIG["optimizer"])
    return Fitted(module, optimizer, data, {**CONFIG["trainer"], "precision": precision}, folder)


def name(ours):
    """What the plain network calls one of our parameters."""
    return ours.replace("network.", "").replace("head.", "classifier.")


def plain_of(module):
    """A plain network, without dropout, with the module's weights."""
    network = PlainNetwork(HEAD["init_args"]["alpha"], dropout=0.0)
    network.load_state_dict({name(key): weight for key, weight in module.state_dict().items()})
    return network


def check_that_both_compute_the_same(batch_size, folder):
    """The gate: what is not the same computation is not timed. Dropout is off, the weights are the same.

    In float64 the loss and every gradient are the same but for rounding. The longest sums are those over a batch and
    the positions of a convolution; each is entered with the errors of all products before it.

    In the precision that is timed, gradients do not compare: two roundings of a near-tie send a pooling's gradient to
    two places. The loss is continuous: our error against float64 may be twice the worst that plain PyTorch makes of any
    row in that precision.
    """
    for precision in PRECISIONS:
        ours = fitted(batch_size, precision, folder / f"gate-{precision}", dropout=0.0)
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

        expected = exact_rows.mean()
        terms = batch_size * (24 * 24 + 10 * 10 + 1) + 2 * (25 + 32 * 9 + 1600 + 1024 + 10)
        check_same_gradients(twin, twin.head(twin.network(images), labels), exact, expected, name, terms)

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
    ours = {precision: fitted(batch_size, precision, tmp_path / precision) for precision in PRECISIONS}
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

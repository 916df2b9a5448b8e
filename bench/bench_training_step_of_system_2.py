"""A training step of System 2: ours, by Lightning's Trainer as ``configs/cifar10.yaml`` has it, against plain loops.

Ours crops, mirrors and standardises bytes, adds the weight decay, averages the weights and the losses and records them
in ``metrics.csv``, without W&B; the plain loops are handed ready-made images and do none of it. The images are noise: a
step costs the same.
"""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from harness import timed
from lightning.pytorch.cli import instantiate_class
from lightning_steps import Fitted, check_same_gradients
from plain_cifar10 import Banded, PlainNetwork, plain_loop
from records import OURS

from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import CIFAR10Data

CONFIG = yaml.safe_load((Path(__file__).parents[1] / "configs" / "cifar10.yaml").read_text())
MODEL, DATA = CONFIG["model"]["init_args"], CONFIG["data"]["init_args"]
PENALTY = MODEL["penalty"]["init_args"]
CALLBACKS = CONFIG["trainer"]["callbacks"]
ROWS = 50_000
BASELINE = "plain, banded"
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",  # batches are indexed from memory
    "ignore:.*LeafSpec.*",  # Lightning's own use of torch
)


def made(**changes):
    """The module of the configuration."""
    parts = {name: instantiate_class((), MODEL[name]) for name in ("network", "head", "penalty")}
    return LitClassification(**{**MODEL, **parts, **changes})


@pytest.fixture
def data():
    noise = CIFAR10Data(**{**DATA, "root": "/nonexistent"})
    noise.resolved_source = "cifar10-unverified"
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (ROWS, 3, 32, 32), dtype=torch.uint8, generator=generator)
    noise.train = images, torch.randint(10, (ROWS,), generator=generator)
    noise.validation = noise.test = tuple(part[:128] for part in noise.train)
    return noise


@pytest.fixture
def ours(data, tmp_path):
    torch.manual_seed(CONFIG["seed_everything"])
    module = made()
    optimizer = instantiate_class(module.parameters(), CONFIG["optimizer"])
    schedule = {"scheduler": instantiate_class(optimizer, CONFIG["lr_scheduler"]), "interval": "step"}
    options = {name: value for name, value in CONFIG["trainer"].items() if name != "callbacks"}
    configured = {"optimizer": optimizer, "lr_scheduler": schedule}
    callbacks = [instantiate_class((), callback) for callback in CALLBACKS]
    return Fitted(module, configured, data, options, tmp_path, callbacks)


def check_that_both_compute_the_same(ours):
    """What is not the same computation is not timed: without the decay, in float64, and the first loss of a fit."""
    images, labels = next(iter(ours.data.train_dataloader()))
    twin = copy.deepcopy(ours.module).double()
    twin.penalty = None
    plain = PlainNetwork(Banded()).double()
    plain.load_state_dict({name(key): weight for key, weight in twin.state_dict().items()})
    expected = F.cross_entropy(plain(images.double()), labels)
    # Sums over a batch and the positions of a convolution; the products before each have sums of their own.
    terms = len(labels) * (24 * 24 + 12 * 12 + 1) + 2 * (75 + 1600 + 9 + 9 + 2304 + 384 + 192)
    loss = twin.head(twin.network(images.double()), labels)
    check_same_gradients(twin, loss, plain, expected, name, terms)

    decayed = (ours.module.get_parameter(weight).detach().double() for weight in PENALTY["weights"])
    total = float(expected.detach()) + PENALTY["l2"] / 2 * float(sum(weight.square().sum() for weight in decayed))
    first_loss = float(ours.fit(0, untimed_steps=1).first_loss)
    # Its terms are rounded to float32 once, its logits of some 1e-3 do not show, its sums of squares add pairwise.
    assert abs(first_loss - total) <= 64 * torch.finfo(torch.float32).eps / 2 * total


def name(ours):
    """What the plain network calls one of our parameters."""
    return ours.replace("network.", "").replace("head.", "classifier.")


def test_training_step(measure, ours):
    check_that_both_compute_the_same(ours)
    batch_size, lr = DATA["batch_size"], CONFIG["optimizer"]["init_args"]["lr"]
    images = torch.randn(40 * batch_size, 3, 24, 24)
    labels = torch.randint(10, (len(images),))
    peers = {
        BASELINE: PlainNetwork(Banded()),
        "plain, banded, channels last": PlainNetwork(Banded()).to(memory_format=torch.channels_last),
        "plain, torch's": PlainNetwork(torch.nn.LocalResponseNorm(9, 0.001)),
    }
    measure(
        "training step of System 2",
        f"batch {batch_size}",
        {provider: plain_loop(network, images, labels, batch_size, lr) for provider, network in peers.items()}
        | {OURS: ours},
        baseline=BASELINE,
        calls_multiple=CONFIG["trainer"]["log_every_n_steps"],
        work=batch_size,
        rate_unit="images/s",
    )


def test_input_pipeline(measure, data, ours):
    def batches():
        while True:
            yield from data.train_dataloader()

    drawn = batches()
    measure(
        "input pipeline of System 2",
        f"batch {DATA['batch_size']}",
        {"a training step": ours, "its images": timed(lambda: next(drawn))},
        baseline="a training step",
        calls_multiple=CONFIG["trainer"]["log_every_n_steps"],
        work=DATA["batch_size"],
        rate_unit="images/s",
    )

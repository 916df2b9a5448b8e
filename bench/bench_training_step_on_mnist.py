"""A training step of Systems 1, 4 and 5: ours, by Lightning's Trainer as the configuration has it, against plain loops.

Both see the same data: scikit-learn's digits, repeated to as many rows as MNIST trains on, so that a step costs what it
costs there and nothing needs to be downloaded.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from lightning.pytorch.cli import instantiate_class
from lightning_steps import Fitted, check_same_gradients
from plain_mnist import PlainConvNet, PlainLeNet, PlainRecogniser, autocast, plain_loop
from torch import nn

from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import MNISTData

CONFIGS = Path(__file__).parents[1] / "configs"
ROWS = 55_000
PRECISIONS = ("32-true", "bf16-mixed")
BASELINE = "plain, 32-true"


@dataclass(frozen=True)
class System:
    """One configuration and its peer.

    Attributes:
        number: of the system.
        config: what ``configs`` has for it.
        plain: makes the peer with a share of dropout.
        optimizer: that the peer is trained with; ours is the configuration's.
        positions: of the two convolutions' outputs; ``products`` are the terms of each layer's sums, one after another.
    """

    number: int
    config: dict[str, Any]
    plain: Callable[[float], nn.Module]
    optimizer: type[torch.optim.Optimizer]
    positions: int
    products: int

    @property
    def parts(self):
        return self.config["model"]["init_args"]

    @property
    def dropout(self):
        return self.parts["network"].get("init_args", {}).get("dropout", 0.0)

    @property
    def log_every_n_steps(self):
        return self.config["trainer"]["log_every_n_steps"]

    def fitted(self, batch_size, precision, folder, dropout=None):
        """Ours, on the digits repeated to as many rows as MNIST trains on."""
        network = copy.deepcopy(self.parts["network"])
        if dropout is not None and "init_args" in network:
            network["init_args"]["dropout"] = dropout
        module = LitClassification(instantiate_class((), network), instantiate_class((), self.parts["head"]))
        data = MNISTData(**{**self.config["data"]["init_args"], "source": "digits", "batch_size": batch_size})
        data.prepare_data()
        data.setup("fit")
        data.train = tuple(part.repeat(-(-ROWS // len(part)), *[1] * (part.ndim - 1))[:ROWS] for part in data.train)
        optimizer = instantiate_class(module.parameters(), self.config["optimizer"])
        return Fitted(module, optimizer, data, {**self.config["trainer"], "precision": precision}, folder)

    def ready(self, images):
        """Images as the network wants them, in whatever dtype they have."""
        darkest = self.config["data"]["init_args"].get("darkest", 0.0)
        return images / (255 / (1 - darkest)) + darkest

    def plain_of(self, module):
        """A plain network, without dropout, with the module's weights."""
        network = self.plain(0.0)
        network.load_state_dict({name(key): weight for key, weight in module.state_dict().items()})
        return network


def config(stem):
    return yaml.safe_load((CONFIGS / f"{stem}.yaml").read_text())


MNIST = config("mnist")
ALPHA = MNIST["model"]["init_args"]["head"]["init_args"]["alpha"]
Adam, SGD = torch.optim.Adam, torch.optim.SGD
SYSTEM_1 = System(
    1, MNIST, lambda dropout: PlainConvNet(ALPHA, dropout), Adam, 24 * 24 + 10 * 10, 25 + 32 * 9 + 1600 + 1024 + 10
)
SYSTEM_4 = System(4, config("lenet"), PlainLeNet, Adam, 24 * 24 + 8 * 8, 25 + 32 * 25 + 1024 + 1024 + 10)
SYSTEM_5 = System(
    5, config("recogniser_ce"), lambda _: PlainRecogniser(), SGD, 28 * 28 + 14 * 14, 25 + 20 * 25 + 980 + 10
)


def name(ours):
    """What the plain network calls one of our parameters."""
    return ours.replace("network.", "").replace("head.", "classifier.")


def check_that_both_compute_the_same(system, batch_size, folder):
    """The gate: what is not the same computation is not timed. Dropout is off, the weights are the same.

    In float64 the loss and every gradient are the same but for rounding. The longest sums are those over a batch and
    the positions of a convolution; each is entered with the errors of all products before it.

    In the precision that is timed, gradients do not compare: two roundings of a near-tie send a pooling's gradient to
    two places. The loss is continuous: our error against float64 may be twice the worst that plain PyTorch makes of any
    row in that precision.
    """
    for precision in PRECISIONS:
        ours = system.fitted(batch_size, precision, folder / f"gate-{precision}", dropout=0.0)
        for parameter in ours.module.parameters():
            if parameter.ndim == 1:  # biases start at zero, and without them the sphere hides the scale of the images
                torch.nn.init.normal_(parameter, std=0.1)
        images, labels = next(iter(ours.data.train_dataloader()))
        images = system.ready(images.double())
        exact, plain = system.plain_of(ours.module).double(), system.plain_of(ours.module)
        twin = copy.deepcopy(ours.module).double()
        with autocast(precision):
            rows = F.cross_entropy(plain(images.float()).float(), labels, reduction="none")
        exact_rows = F.cross_entropy(exact(images), labels, reduction="none")

        expected = exact_rows.mean()
        terms = batch_size * (system.positions + 1) + 2 * system.products
        check_same_gradients(twin, twin.head(twin.network(images), labels), exact, expected, name, terms)

        first_loss = ours.fit(0, untimed_steps=1).first_loss
        assert abs(first_loss - expected) <= 2 * (rows - exact_rows).abs().max(), precision


CASES = [
    (SYSTEM_1, 20),  # the tutorial's batch
    (SYSTEM_1, 128),  # the configuration's
    pytest.param(SYSTEM_1, 1024, marks=pytest.mark.long),  # leaves little of the calls' own cost
    (SYSTEM_4, 128),
    (SYSTEM_5, 64),
]


@pytest.mark.parametrize(("system", "batch_size"), CASES, ids=lambda value: getattr(value, "number", value))
@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",  # batches are indexed from memory
    "ignore:.*LeafSpec.*",  # Lightning's own use of torch
)
def test_training_step(measure, tmp_path, system, batch_size):
    torch.manual_seed(system.config["seed_everything"])
    check_that_both_compute_the_same(system, min(batch_size, 128), tmp_path)
    ours = {precision: system.fitted(batch_size, precision, tmp_path / precision) for precision in PRECISIONS}
    images, labels = ours["32-true"].data.train
    lr = system.config["optimizer"]["init_args"]["lr"]
    providers = {}
    for precision in PRECISIONS:
        network = system.plain(system.dropout)
        optimizer = system.optimizer(network.parameters(), lr=lr)
        loop = plain_loop(network, system.ready(images.float()), labels, batch_size, optimizer, precision)
        providers[f"plain, {precision}"] = loop
    measure(
        f"training step of System {system.number}",
        f"batch {batch_size}",
        providers | {f"lit_l2softmax, {precision}": provider for precision, provider in ours.items()},
        baseline=BASELINE,
        calls_multiple=system.log_every_n_steps,
        work=batch_size,
        rate_unit="images/s",
    )

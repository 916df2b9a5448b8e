"""A training step of System 3: 45 parameters through Lightning's Trainer, against a plain loop of the same network.

Arithmetic is nothing here: what is timed is what a step costs whatever it computes. The configuration makes 40,000.
"""

import copy
import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from harness import timed
from lightning.pytorch.cli import instantiate_class
from lightning_steps import Fitted, check_same_gradients
from records import OURS
from torch import nn

from lit_l2softmax.data import PointsData
from lit_l2softmax.regression import LitRegression

CONFIG = yaml.safe_load((Path(__file__).parents[1] / "configs" / "optim" / "dots_l2.yaml").read_text())
PARTS = CONFIG["model"]["init_args"]
PENALTY = PARTS["penalty"]["init_args"]


class PlainDots(nn.Module):
    """Outputs ``(N,)`` of points ``(N, 2)``: the layers of ``DotsNetwork``."""

    def __init__(self):
        super().__init__()
        self.hidden, self.output = nn.Linear(2, 11), nn.Linear(11, 1)

    def forward(self, points):
        return self.output(F.relu(self.hidden(points)))[:, 0]

    def objective(self, points, labels):
        """Squared error and the penalty of both weights."""
        squares = self.hidden.weight.square().sum() + self.output.weight.square().sum()
        return F.mse_loss(self(points), labels) + PENALTY["l2"] / 2 * squares


def plain_loop(network, points, labels, batch_size, lr):
    """A provider whose call is one training step on the next batch of the points."""
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    batches = itertools.cycle(list(zip(points.split(batch_size), labels.split(batch_size), strict=True)))

    def step():
        optimizer.zero_grad()
        network.objective(*next(batches)).backward()
        optimizer.step()

    return timed(step)


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",  # batches are indexed from memory
    "ignore:.*LeafSpec.*",  # Lightning's own use of torch
    "ignore:.*smaller than the logging interval",  # an epoch is ten steps
)
def test_training_step(measure, tmp_path):
    torch.manual_seed(CONFIG["seed_everything"])
    parts = {name: instantiate_class((), PARTS[name]) for name in ("network", "loss", "penalty")}
    module = LitRegression(**{**PARTS, **parts})
    data = PointsData(**CONFIG["data"]["init_args"])
    data.setup("fit")
    plain, twin = PlainDots(), copy.deepcopy(module).double()
    plain.load_state_dict({name.removeprefix("network."): weight for name, weight in module.state_dict().items()})
    points, labels = (part[: data.batch_size].double() for part in data.train)
    expected = plain.double().objective(points, labels)
    check_same_gradients(
        twin,
        twin.objective(twin(points), labels)["loss"],
        plain,
        expected,
        lambda name: name.removeprefix("network."),
        terms=len(labels) + 2 + 11 + 45,
    )
    optimizer = instantiate_class(module.parameters(), CONFIG["optimizer"])
    ours = Fitted(module, optimizer, data, CONFIG["trainer"], tmp_path)
    # Rounded to float32 at each of its longest sum's terms, of which the squared error doubles the share.
    terms = 2 * (data.batch_size + 2 + 11 + 45)
    bound = terms * torch.finfo(torch.float32).eps * expected.detach()
    assert abs(ours.fit(0, untimed_steps=1).first_loss - expected) <= bound
    measure(
        "training step of System 3",
        f"batch {data.batch_size}",
        {
            "plain": plain_loop(plain.float(), *data.train, data.batch_size, CONFIG["optimizer"]["init_args"]["lr"]),
            OURS: ours,
        },
        baseline="plain",
        calls_multiple=CONFIG["trainer"]["log_every_n_steps"],
        work=1,
        rate_unit="steps/s",
    )

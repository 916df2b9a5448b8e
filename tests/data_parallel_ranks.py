"""What every rank of a data-parallel training checks: a script, a process a rank, started by a test.

``python data_parallel_ranks.py RANK WORLD_SIZE FILE``
"""

import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lit_l2softmax.regression
from lit_l2softmax import processes
from lit_l2softmax.classification import IGNORED, LitClassification
from lit_l2softmax.data.batches import batch_loader
from lit_l2softmax.layers import L2SoftmaxLoss
from lit_l2softmax.losses import AsymmetricLoss
from lit_l2softmax.penalties import WeightPenalty
from lit_l2softmax.processes import average, from_first, gathered, in_order
from lit_l2softmax.regression import LitRegression

# Relative, of norms: a gradient is a sum of at most 9 rows' shares of some 10 roundings of 1.1e-16 each.
TRUE64 = 1e-14


class Step(nn.Module):
    """A module's training step as DistributedDataParallel wants it: as a forward pass."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        module._trainer = SimpleNamespace(_logger_connector=SimpleNamespace(should_update_logs=False))

    def forward(self, batch):
        return self.module.training_step(batch, 0)["loss"]


def classifier():
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))
    network.out_features = 4
    penalty = WeightPenalty(["network.0.weight"], l2=0.3)
    return LitClassification(network, L2SoftmaxLoss(4, 6, learn_alpha=True), penalty).double()


def regression(loss):
    torch.manual_seed(4)
    return LitRegression(nn.Linear(5, 1), loss, WeightPenalty(["network.weight"], l1=0.1)).double()


def gradients(step, batch):
    loss = step(batch)
    loss.backward()
    found = {name.removeprefix("module."): weight.grad for name, weight in step.named_parameters()}
    return loss.detach(), found


def check(make, inputs, targets):
    """The averaged gradients and loss of everyone's part are those of one process that has all rows."""
    rank, size = dist.get_rank(), dist.get_world_size()
    mine = inputs.tensor_split(size)[rank], targets.tensor_split(size)[rank]
    loss, found = gradients(DistributedDataParallel(Step(make())), mine)
    everyones = [None] * size
    dist.all_gather_object(everyones, found)
    for other in everyones:
        assert all(other[name].equal(one) for name, one in found.items())
    loss = average(loss)
    if rank:
        return
    with pytest.MonkeyPatch.context() as patched:
        for module in (processes, lit_l2softmax.regression):  # as one process without others
            patched.setattr(module, "place", lambda: processes.Place(0, 1))
        expected_loss, expected = gradients(Step(make()), (inputs, targets))
    assert abs(loss - expected_loss) <= TRUE64 * abs(expected_loss)
    for name, one in expected.items():
        error = torch.linalg.vector_norm(found[f"module.{name}"] - one)
        assert error <= TRUE64 * torch.linalg.vector_norm(one), (name, error)


def main(rank, world_size, store):
    """Runs every check."""
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size, timeout=timedelta(seconds=60)
    )
    generator = torch.Generator().manual_seed(1)
    for rows in (9, world_size, 1):
        inputs = torch.randn(rows, 5, dtype=torch.float64, generator=generator)
        labels = torch.randint(6, (rows,), generator=generator)
        check(classifier, inputs, labels)
        for loss in (nn.MSELoss(), nn.MSELoss(reduction="sum"), AsymmetricLoss(2.0, 9.0)):
            check(lambda loss=loss: regression(loss), inputs, labels.double())
    for ignored in (slice(0, 1), slice(2, 9)):  # a row, and all that some ranks have
        labels = torch.arange(9) % 6
        labels[ignored] = IGNORED
        check(classifier, torch.randn(9, 5, dtype=torch.float64, generator=generator), labels)

    # Every row of an epoch once, and of each batch its own part; an evaluation can be put in order again.
    images = torch.arange(11).view(11, 1, 1, 1)
    loader = batch_loader(images, torch.arange(11), 4, shuffle=True, seed=5)
    parts = [labels for _, labels in loader]
    batches = [torch.cat(batch) for batch in zip(*gathered(parts), strict=True)]
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert torch.cat(batches).sort().values.equal(torch.arange(11))
    assert torch.cat(in_order(parts)).equal(torch.cat(batches))
    assert from_first(rank) == 0
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

"""What every rank of a data-parallel training checks: a script, a process a rank, started by a test.

``python data_parallel_ranks.py RANK WORLD_SIZE FILE``
"""

import sys
from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lit_l2softmax.regression
from lit_l2softmax import processes
from lit_l2softmax.callbacks import (
    SmoothedLosses,
    StopOnNonFinite,
    TutorialLines,
    UnweightedAccuracy,
    tutorial_lines,
)
from lit_l2softmax.classification import IGNORED, LitClassification
from lit_l2softmax.data.batches import batch_loader
from lit_l2softmax.errors import NonFiniteError
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


def recorder(size):
    """A module that keeps what is logged as Lightning does: averaged over processes where it is told to be."""
    logged = {}

    def log(name, value, sync_dist=False, **_):
        logged[name] = float(average(torch.as_tensor(value, dtype=torch.float64)) if sync_dist else value)

    return logged, SimpleNamespace(log=log, device=torch.device("cpu"))


def check_callbacks(rank, size):
    """What is said beside losses is of all rows, and what is kept of a training in a checkpoint is everyone's."""
    logits, labels = torch.eye(6)[[0, 1, 2, 3, 4, 5, 0, 1, 2]], torch.tensor([0, 1, 2, 0, 0, 0, 0, 1, 1])
    logged, module = recorder(size)
    mine = (None, labels.tensor_split(size)[rank])
    UnweightedAccuracy().on_test_batch_end(None, module, logits.tensor_split(size)[rank], mine, 0)
    assert abs(logged["test/accuracy_unweighted"] - 5 / 9) <= 1e-6

    smoothed = SmoothedLosses()
    trainer = SimpleNamespace(_logger_connector=SimpleNamespace(should_update_logs=False))
    smoothed.on_train_batch_end(trainer, module, {"losses": {"loss": torch.tensor(float(rank))}}, None, 0)
    assert abs(smoothed.state_dict()["averages"]["loss"] - 0.1 * (size - 1) / 2) <= 1e-6

    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    trainer = SimpleNamespace(global_step=1, current_epoch=0, optimizers=[optimizer])
    lines = TutorialLines("{loss:.3f}", every_n_steps=1)
    lines._step = 0
    with pytest.MonkeyPatch.context() as patched:
        said = []
        patched.setattr(tutorial_lines, "_print", said.append)
        lines.on_train_batch_end(trainer, nn.Linear(1, 1), {"losses": {"loss": torch.tensor(float(rank))}}, None, 0)
    assert said == [f"{(size - 1) / 2:.3f}"]


def check_non_finite(rank, size):
    """What one process has found ends all of them, in the deferred way of a GPU and before a checkpoint too."""
    trainer = SimpleNamespace(global_step=4, precision_plugin=None)
    weight = nn.Parameter(torch.ones(3))
    for spoilt in (False, True):
        callback = StopOnNonFinite()
        callback._first = torch.zeros(())
        weight.grad = torch.full((3,), float("nan") if spoilt and rank == size - 1 else 1.0)
        callback.on_before_optimizer_step(trainer, None, torch.optim.SGD([weight], 0.1))
        with pytest.raises(NonFiniteError, match="step 5") if spoilt else nullcontext():
            callback.on_validation_start(None, None)
    module = nn.Linear(2, 2)
    if rank == size - 1:
        nn.init.constant_(module.bias, float("inf"))
    word = "bias" if rank == size - 1 else "another process's share of a weight"
    with pytest.raises(NonFiniteError, match=f"^{word} is not finite after step 4$"):
        StopOnNonFinite().on_save_checkpoint(trainer, module, {})


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
    check_callbacks(rank, world_size)
    check_non_finite(rank, world_size)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

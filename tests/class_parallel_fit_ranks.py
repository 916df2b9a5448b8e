"""A training by Lightning that every rank of a group takes part in: a script, one process a rank.

``python class_parallel_fit_ranks.py RANK WORLD_SIZE FILE STEPS OPTIMISER FROM TO``: goes on from the checkpoint FROM,
or from first weights in that file, saves the checkpoint TO and, beside it, what a validation says.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import StrategyRegistry
from torch import nn
from torch.utils.data import DataLoader

from lit_l2softmax.class_parallel_head import ClassParallelL2SoftmaxLoss
from lit_l2softmax.classification import LitClassification
from lit_l2softmax.durable_checkpoints import DurableCheckpointIO
from lit_l2softmax.layers import L2SoftmaxLoss

CLASSES, WIDTH, FEATURES, ROWS = 9, 6, 5, 7
OPTIONS = {"normalize_weight": True, "cosine_margin": 0.35, "learn_alpha": True}
CLIP = 0.5  # below the gradients' length


class Network(nn.Sequential):
    out_features = FEATURES

    def __init__(self):
        super().__init__(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, FEATURES))


class Training(LitClassification):
    """A classification with an optimiser of two groups."""

    optimiser: str

    def configure_optimizers(self):
        groups = [
            {"params": [self.head.alpha, *self.network.parameters()]},
            {"params": [self.head.weight], "weight_decay": 0.1},
        ]
        if self.optimiser == "adam":
            return torch.optim.Adam(groups, lr=0.01)
        return torch.optim.SGD(groups, lr=0.05, momentum=0.9)


def loader(rank, size, first):
    """Two batches, of seven rows and of one, of which every rank has its part: some more than others, some none."""
    batches = []
    for step in (first, first + 1):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)
        labels = torch.randint(CLASSES, (ROWS,), generator=generator)
        rows = 1 if step % 2 else ROWS
        batches.append(tuple(whole[:rows].tensor_split(size)[rank] for whole in (inputs, labels)))
    return DataLoader(batches, batch_size=None)


def training(spread, optimiser):
    torch.manual_seed(0)
    head = (ClassParallelL2SoftmaxLoss if spread else L2SoftmaxLoss)(FEATURES, CLASSES, 16.0, **OPTIONS)
    module = Training(Network(), head)
    module.optimiser = optimiser
    return module


def trainer(size, steps, spread):
    # Registered by classification's import, as the command line has it.
    assert "class_parallel" in StrategyRegistry
    return Trainer(
        accelerator="cpu", devices=size, strategy="class_parallel" if spread else "auto", max_steps=steps,
        gradient_clip_val=CLIP, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False, plugins=[DurableCheckpointIO()],
        num_sanity_val_steps=0,
    )  # fmt: skip


def fit(rank, size, steps, optimiser, before, after, spread=True):
    """Trains and saves; returns what a validation says."""
    torch.set_default_dtype(torch.float64)
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    module, trains = training(spread, optimiser), trainer(size, steps, spread)
    resumed = Path(before).suffix == ".ckpt"
    if not resumed:
        module.load_state_dict(torch.load(before, weights_only=True))
    path = before if resumed else None
    trains.fit(module, loader(rank, size, 0), loader(rank, size, 2), ckpt_path=path, weights_only=True)
    trains.save_checkpoint(after)
    (said,) = trains.validate(module, loader(rank, size, 2), verbose=False)
    return said


if __name__ == "__main__":
    rank, size, _, steps, optimiser, before, after = sys.argv[1:]
    said = fit(int(rank), int(size), int(steps), optimiser, before, after)
    if rank == "0":
        Path(after).with_suffix(".json").write_text(json.dumps(said))
    if dist.is_initialized():
        dist.destroy_process_group()  # gloo's threads, left alone, can abort a process that ends

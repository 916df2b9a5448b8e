"""What every rank of a group checks of a head whose classes are spread: a script, one process a rank.

``python class_parallel_head_ranks.py RANK WORLD_SIZE FILE CLASSES_OVER ...``
"""

import copy
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lit_l2softmax.class_parallel_head import (
    ClassParallelL2SoftmaxLoss,
    gradient_norm,
    keep_out_of_ddp,
    shard_names,
    whole_shapes,
)
from lit_l2softmax.layers import L2SoftmaxLoss

STEPS = 4
# Relative, of norms: class_parallel_ranks.TRUE64 of a loss and its gradients, in each of the steps, times the slope of
# a softmax of alpha 16, by which a step carries on what the one before has left.
TRUE64 = 1e-14 * STEPS * 16
HEADS = {
    "a bias and a learned alpha": {"learn_alpha": True},
    "ArcFace": {"normalize_weight": True, "angular_margin": 0.3},
    "CosFace, alpha learned": {"normalize_weight": True, "cosine_margin": 0.35, "learn_alpha": True},
}
# Rows of each of four ranks, and the rows whose label is ignored.
SPLITS = {
    "one row more on some ranks": ((2, 2, 2, 1), (3,)),
    "a rank without rows": ((3, 0, 1, 4), ()),
    "a class group without rows": ((0, 0, 3, 2), ()),
    "a class group whose rows are all ignored": ((1, 2, 3, 1), (0, 1, 2)),
}
OPTIMISERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-3),
    "fused SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, fused=True),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}
CLASSES, WIDTH, FEATURES = 9, 6, 5


class Trained(nn.Module):
    """A network with its head."""

    def __init__(self, head):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, FEATURES))
        self.head = head

    def forward(self, inputs, labels):
        return self.head(self.network(inputs), labels)


def batch(step, split):
    """All rows of a step, and which of them are this rank's."""
    sizes, ignored = split
    generator = torch.Generator().manual_seed(step)
    sizes = sizes[: dist.get_world_size()]
    inputs = torch.randn(sum(sizes), WIDTH, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (sum(sizes),), generator=generator)
    labels[[row for row in ignored if row < len(labels)]] = -100
    before = sum(sizes[: dist.get_rank()])
    return inputs, labels, slice(before, before + sizes[dist.get_rank()])


def whole_state(module):
    """Every class's, in every rank."""
    state = dict(module.state_dict())
    for name, head in shard_names(module).items():
        groups = head.take_share()
        state[name] = groups.gathered(state[name], [shard.size for shard in groups.shards()])
    return state


def off(mine, true):
    return float((mine - true).norm() / true.norm().clamp_min(1e-300))


def same_everywhere(tensor):
    others = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(others, tensor.contiguous())
    assert all(torch.equal(tensor, other) for other in others)


def check_training(over, options, split, optimiser):
    """Steps of all processes together are those of one with L2SoftmaxLoss and all rows."""
    torch.manual_seed(1)
    spread = Trained(ClassParallelL2SoftmaxLoss(FEATURES, CLASSES, 16.0, classes_over=over, **options)).double()
    alone = Trained(L2SoftmaxLoss(FEATURES, CLASSES, 16.0, **options)).double()
    alone.load_state_dict(whole_state(spread))
    keep_out_of_ddp(spread)
    parallel = DistributedDataParallel(spread)
    mine, true = optimiser(spread.parameters()), optimiser(alone.parameters())
    for step in range(STEPS):
        inputs, labels, rows = batch(step, split)
        counted = spread.head.counted(labels[rows]).double()
        everyones = counted.clone()
        dist.all_reduce(everyones)
        share = counted * dist.get_world_size() / everyones
        mine.zero_grad()
        true.zero_grad()
        loss = parallel(inputs[rows], labels[rows])
        torch.where(share > 0, loss * share, 0).backward()
        exact = alone(inputs, labels)
        exact.backward()
        total = torch.where(share > 0, loss * share, 0).detach() / dist.get_world_size()
        dist.all_reduce(total)
        assert off(total, exact.detach()) <= TRUE64
        gradients = {name: one.grad for name, one in spread.named_parameters()}
        for name, one in alone.named_parameters():
            groups = spread.head.take_share()
            expected = groups.mine(one.grad) if name in shard_names(spread) else one.grad
            error = float((gradients[name] - expected).norm() / one.grad.norm())
            assert error <= TRUE64, f"the gradient of {name} in step {step} is {error:.1e} off"
        length = gradient_norm(spread, spread.parameters())
        same_everywhere(length)
        assert off(length, nn.utils.get_total_norm([one.grad for one in alone.parameters()])) <= TRUE64
        mine.step()
        true.step()
    got = whole_state(spread)
    for name, expected in alone.state_dict().items():
        same_everywhere(got[name])
        assert off(got[name], expected) <= TRUE64, f"{name} is {off(got[name], expected):.1e} off"
    check_what_it_says(spread, alone, split)


def check_what_it_says(spread, alone, split):
    """Scores and the most probable classes of each rank's rows are those of one process."""
    inputs, labels, rows = batch(9, split)
    features = alone.network(inputs)
    got, true = spread.head.most_probable(features[rows]), alone.head.most_probable(features[rows])
    assert torch.equal(got.classes, true.classes)
    assert off(got.probability, true.probability.detach()) <= TRUE64
    assert off(spread.head.logits(features[rows]), alone.head.logits(features[rows]).detach()) <= TRUE64
    assert spread.head.counted(labels[rows]) >= alone.head.counted(labels[rows])


def check_first_weights(over):
    """They do not depend on how many processes share them, and whole weights can be loaded everywhere."""
    for std in (None, 0.1):
        heads = []
        for processes in (over, 1):
            torch.manual_seed(5)
            heads.append(ClassParallelL2SoftmaxLoss(3, 2500, weight_std=std, classes_over=processes))
            assert heads[-1].weight.is_meta
            assert whole_shapes(heads[-1])["weight"] == (2500, 3)
            heads[-1].to("cpu")
        state = whole_state(heads[0])
        same_everywhere(state["weight"])
        assert torch.equal(state["weight"], heads[1].weight)
        assert whole_shapes(heads[0]) == {"weight": (2500, 3), "bias": (2500,)}
        assert len(state["weight"].unique()) > 7000
        torch.manual_seed(6 + dist.get_rank())  # of no consequence: the first process's word
        other = ClassParallelL2SoftmaxLoss(3, 2500, weight_std=std, classes_over=over)
        groups = other.take_share()
        same_everywhere(whole_state(other)["weight"])
        assert not torch.equal(whole_state(other)["weight"], state["weight"])
        other.load_state_dict(state)
        assert torch.equal(other.weight, groups.mine(state["weight"]))
        other.reset_parameters()
        same_everywhere(whole_state(other)["weight"])
        whole = groups.whole(groups.mine(state["weight"]))
        assert torch.equal(whole, state["weight"] if dist.get_rank() == 0 else groups.mine(state["weight"]))


def check_bad_labels(over):
    """A label that is no class raises in every process, whichever has it."""
    head = ClassParallelL2SoftmaxLoss(3, CLASSES, classes_over=over)
    last = dist.get_world_size() - 1
    for bad in (CLASSES, -1, 2**40):
        labels = torch.tensor([0, bad if dist.get_rank() == last else -100])
        with pytest.raises(IndexError, match=rf"target\[1\] of process {last} is {bad}: neither a class in \[0, 9\)"):
            head(torch.ones(2, 3), labels)
    dist.barrier()


def check_half_types(over):
    """Features of half a float's bits go from process to process as they are."""
    torch.manual_seed(3)
    head = ClassParallelL2SoftmaxLoss(3, CLASSES, normalize_weight=True, classes_over=over).to("cpu")
    alone = L2SoftmaxLoss(3, CLASSES, normalize_weight=True)
    alone.load_state_dict(whole_state(head))
    features = torch.randn(2 * dist.get_world_size(), 3)
    labels = torch.arange(len(features)) % CLASSES
    rows = slice(2 * dist.get_rank(), 2 * dist.get_rank() + 2)
    for dtype in (torch.bfloat16, torch.float16):
        loss = head(features[rows].to(dtype), labels[rows])
        group = slice(dist.get_rank() // over * over * 2, (dist.get_rank() // over + 1) * over * 2)
        torch.testing.assert_close(loss, alone(features[group].to(dtype), labels[group]))
        found = head.most_probable(features[rows].to(dtype))
        assert torch.equal(found.classes, alone.most_probable(features[rows].to(dtype)).classes)


def check_cutting():
    """A head that was whole before there were processes is cut, and its parameters stay the objects they were."""
    torch.manual_seed(4)
    head = ClassParallelL2SoftmaxLoss(3, CLASSES)
    optimiser = torch.optim.SGD(head.parameters(), lr=1.0)
    return head, optimiser, head(torch.ones(1, 3), torch.tensor([2])), copy.deepcopy(head.state_dict())


def main(rank, world_size, store, overs):
    """Runs every check."""
    whole, optimiser, _, before = check_cutting()
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size, timeout=timedelta(seconds=60)
    )
    first = whole.weight
    groups = whole.take_share()
    assert whole.weight is first is optimiser.param_groups[0]["params"][0]
    assert torch.equal(whole.weight, groups.mine(before["weight"]))
    for over in overs:
        for number, (name, options) in enumerate(HEADS.items()):
            for called, split in SPLITS.items():
                if sum(split[0][:world_size]) == 0 or (world_size == 2 and called.endswith("ignored")):
                    continue
                optimiser = list(OPTIMISERS)[number % len(OPTIMISERS)]
                try:
                    check_training(over, options, split, OPTIMISERS[optimiser])
                except AssertionError as error:
                    raise AssertionError(f"over {over}, {name}, {called}, {optimiser}: {error}") from error
        check_first_weights(over)
        check_bad_labels(over)
        check_half_types(over)
    if world_size > 1:
        with pytest.raises(
            ValueError, match=f"classes_over={world_size + 1} does not divide the {world_size} processes"
        ):
            ClassParallelL2SoftmaxLoss(3, 9, classes_over=world_size + 1).take_share()
    dist.barrier()
    dist.destroy_process_group()
    with pytest.raises(RuntimeError, match=f"has the classes of process {rank} of {world_size}"):
        whole(torch.ones(1, 3), torch.tensor([2]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], [int(over) for over in sys.argv[4:]])

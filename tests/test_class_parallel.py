"""A classifier whose classes are spread over processes is the classifier of one process."""

import pytest
import torch
from class_parallel_ranks import CASES, Sharded
from ranks import ranks
from softmax_cases import check, leaves

from lit_l2softmax.ops import (
    class_parallel_linear_l2_softmax_cross_entropy,
    class_shard,
    linear_l2_softmax_cross_entropy,
)


def test_two_processes_are_one(tmp_path):
    ranks("class_parallel_ranks.py", 2, tmp_path, "torch, tiled")


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4])
def test_any_number_of_processes_is_one_with_any_schedule(tmp_path, size):
    ranks("class_parallel_ranks.py", size, tmp_path, "torch, tiled", "kernels, tiled")


class Alone(Sharded):
    """The same without torch.distributed: this process has every class."""

    def loss(self, inputs, target, weight, impl):
        if impl == "reference":
            return super().loss(inputs, target, weight, impl)
        return class_parallel_linear_l2_softmax_cross_entropy(
            **{"alpha": self.alpha, **inputs}, target=target, num_classes=self.c, reduction=self.reduction,
            normalize_weight=self.normalize, angular_margin=self.angular, cosine_margin=self.cosine, impl=impl,
        )  # fmt: skip


@pytest.mark.parametrize("impl", ["torch", "triton"])
@pytest.mark.parametrize("name", ["a bias and a learned alpha", "ArcFace, alpha learned", "every row ignored"])
def test_one_process_that_has_all_classes_needs_no_group(name, impl):
    check(Alone(**vars(CASES[name])), impl)


def test_no_rows_are_a_mean_of_nothing():
    x, w = torch.ones(0, 4, requires_grad=True), torch.ones(9, 4, requires_grad=True)
    arguments = {"target": torch.empty(0, dtype=torch.int64), "alpha": 3.0}
    loss = class_parallel_linear_l2_softmax_cross_entropy(x, w, num_classes=9, **arguments)
    assert loss.isnan() == linear_l2_softmax_cross_entropy(x, w, **arguments).isnan()
    loss.backward()
    assert x.grad.shape == (0, 4)
    assert not w.grad.any()


@pytest.mark.parametrize(("classes", "size"), [(10, 3), (3, 3), (2, 4), (1_000_000, 7)])
def test_shards_lie_side_by_side_and_differ_by_one_at_most(classes, size):
    shards = [class_shard(classes, rank, size) for rank in range(size)]
    assert [shard.start for shard in shards] == [sum(one.size for one in shards[:rank]) for rank in range(size)]
    assert sum(shard.size for shard in shards) == classes
    assert max(shards, key=lambda one: one.size).size - min(shards, key=lambda one: one.size).size <= 1


@pytest.mark.parametrize("arguments", [(0, 0, 1), (5, 2, 2), (5, -1, 2)])
def test_a_shard_that_there_is_not_is_refused(arguments):
    with pytest.raises(ValueError, match="no shard of "):
        class_shard(*arguments)


def call(**changes):
    arguments = {
        "input": torch.ones(2, 4), "linear_weight": torch.ones(9, 4), "target": torch.tensor([0, 1]),
        "num_classes": 9, "alpha": 2.0,
    }  # fmt: skip
    return class_parallel_linear_l2_softmax_cross_entropy(**arguments | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 10}, r"rank 0 of 1 has 10 of 10 classes, from 0 on, but linear_weight has 9 rows"),
        ({"linear_bias": torch.ones(8)}, r"linear_bias must have shape \(9,\)"),
        ({"angular_margin": 0.5}, "need normalize_weight=True"),
        ({"impl": "reference"}, "its reference is linear_l2_softmax_cross_entropy in one process"),
        ({"alpha": 0.0}, "alpha must be finite and > 0"),
        ({"reduction": "average"}, "reduction must be"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_waits(changes, message):
    with pytest.raises(ValueError, match=message):
        call(**changes)


def test_a_label_that_is_none_is_named():
    with pytest.raises(IndexError, match=r"target\[1\] is 9"):
        call(target=torch.tensor([0, 9]))


def test_a_second_derivative_is_refused():
    x = torch.randn(2, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="has no second derivatives"):
        torch.autograd.grad(call(input=x), x, create_graph=True)


def test_it_can_be_differentiated_twice_over_and_frozen_on_any_side():
    inputs, target, _ = CASES["NormFace, alpha learned"].tensors()
    wanted = leaves(inputs)
    case = Alone(**vars(CASES["NormFace, alpha learned"]))
    loss = case.loss(wanted, target, None, "torch")
    first = torch.autograd.grad(loss, wanted.values(), retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(loss, wanted.values())))
    for name, gradient in zip(wanted, first, strict=True):
        alone = {other: tensor.detach().requires_grad_(other == name) for other, tensor in wanted.items()}
        (only,) = torch.autograd.grad(case.loss(alone, target, None, "torch"), alone[name])
        assert torch.equal(only, gradient)

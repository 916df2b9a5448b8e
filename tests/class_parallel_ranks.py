"""What every rank of a group checks: a script, one process a rank, started by ``test_class_parallel.py``.

``python class_parallel_ranks.py RANK WORLD_SIZE FILE SCHEDULE ...``
"""

import dataclasses
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from softmax_cases import Case, check, force, leaves, results
from torch.distributed.device_mesh import DeviceMesh

import conftest  # noqa: F401 - the interpreter, where there is no CUDA device
from lit_l2softmax.ops import class_parallel_linear_l2_softmax_cross_entropy, class_shard

TRUE64 = 1e-14  # relative, of norms


class Everywhere(torch.autograd.Function):
    """A tensor as it is, whose gradient is the sum of all ranks': shards' gradients side by side."""

    @staticmethod
    def forward(ctx, whole):
        return whole.clone()

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class Sharded(Case):
    """A case whose classes are spread over all ranks."""

    def loss(self, inputs, target, weight, impl, group=None):
        if impl == "reference":
            return super().loss(inputs, target, weight, impl)
        start, size = class_shard(self.c, dist.get_rank(), dist.get_world_size())
        mine = {
            name: Everywhere.apply(tensor)[start : start + size] if name.startswith("linear_") else tensor
            for name, tensor in inputs.items()
        }
        arguments = {"alpha": self.alpha, **mine, "target": target, "reduction": self.reduction, "impl": impl}
        margins = {"angular_margin": self.angular, "cosine_margin": self.cosine, "normalize_weight": self.normalize}
        return class_parallel_linear_l2_softmax_cross_entropy(**arguments, **margins, num_classes=self.c, group=group)


half = torch.bfloat16
CASES = {
    "one class more on some ranks": Sharded(9, 16, 23),
    "a bias, which its own rank alone knows": Sharded(7, 5, 22, bias=True),
    "a learned alpha, rows apart": Sharded(6, 8, 17, learn=True, reduction="none"),
    "NormFace, alpha learned": Sharded(11, 8, 19, normalize=True, learn=True, reduction="sum"),
    "ArcFace, alpha learned": Sharded(9, 8, 21, normalize=True, learn=True, angular=0.5, alpha=64.0),
    "CosFace": Sharded(9, 8, 20, normalize=True, cosine=0.35, alpha=30.0),
    "a bias and a learned alpha": Sharded(8, 6, 15, bias=True, learn=True),
    "fewer classes than ranks, some of which have none": Sharded(5, 4, 2, normalize=True),
    "one class": Sharded(4, 3, 1),
    "one row": Sharded(1, 4, 9, ignored=()),
    "every row ignored": Sharded(3, 4, 9, ignored=(0, 1, 2), reduction="sum"),
}


def same_everywhere(tensor):
    """Every bit of it."""
    others = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(others, tensor.contiguous())
    assert all(torch.equal(tensor, other) or bool((tensor.isnan() & other.isnan()).all()) for other in others)


def check_in_float64(case, impl, group=None):
    """Loss and every gradient are those of one process to 1e-14, and the same bits in all."""
    inputs, target, _ = case.tensors()
    generator = torch.Generator().manual_seed(3)
    upstream = torch.randn(case.n if case.reduction == "none" else (), generator=generator, dtype=torch.float64)
    mine, theirs = leaves(inputs, torch.float64), leaves(inputs, torch.float64)
    got = results(case.loss(mine, target, None, impl, group), mine, upstream)
    exact = results(case.loss(theirs, target, None, "reference"), theirs, upstream)
    for name, expected in exact.items():
        same_everywhere(got[name])
        off = (got[name] - expected).norm()
        assert off <= TRUE64 * expected.norm(), f"{name} is {float(off / expected.norm()):.1e} off"


def check_collectives(case, impl):
    """One each way."""
    called = []
    with pytest.MonkeyPatch.context() as patched:
        for name in ("all_gather", "all_reduce"):
            call = getattr(dist, name)
            patched.setattr(dist, name, lambda *a, name=name, call=call, **k: (called.append(name), call(*a, **k))[1])
        inputs, target, _ = case.tensors()
        mine = leaves(inputs)
        start, size = class_shard(case.c, dist.get_rank(), dist.get_world_size())
        shard = mine["linear_weight"][start : start + size]
        loss = class_parallel_linear_l2_softmax_cross_entropy(
            mine["input"], shard, target, num_classes=case.c, alpha=mine.get("alpha", case.alpha),
            normalize_weight=case.normalize, impl=impl,
        )  # fmt: skip
        loss.backward()
    assert called == ["all_gather", "all_reduce"], called


def check_bad_labels(impl):
    """Every rank refuses a label that none has, and names its row, wherever it lies."""
    for bad in (-1, 9, 2**40):
        target = torch.tensor([0, bad, 8])
        _, size = class_shard(9, dist.get_rank(), dist.get_world_size())
        with pytest.raises(IndexError, match=rf"target\[1\] is {bad}: neither a class in \[0, 9\)"):
            class_parallel_linear_l2_softmax_cross_entropy(
                torch.ones(3, 4), torch.ones(size, 4), target, num_classes=9, alpha=1.0, impl=impl
            )
    dist.barrier()  # none is left waiting


def check_an_ignored_class(impl):
    """The ignored label may be one of the classes, of any rank."""
    for ignored in (0, 4, 8):
        case = Sharded(9, 4, 9, normalize=True, ignored=())
        inputs, _, _ = case.tensors()
        target, kept = torch.arange(9), torch.arange(9) != ignored
        start, size = class_shard(9, dist.get_rank(), dist.get_world_size())
        arguments = {"num_classes": 9, "alpha": 5.0, "normalize_weight": True, "impl": impl}
        x, w = inputs["input"].double(), inputs["linear_weight"].double()
        loss = class_parallel_linear_l2_softmax_cross_entropy(
            x, w[start : start + size], target, ignore_index=ignored, **arguments
        )
        expected = class_parallel_linear_l2_softmax_cross_entropy(
            x[kept], w[start : start + size], target[kept], **arguments
        )
        assert abs(loss - expected) <= TRUE64 * expected


def main(rank, world_size, store, schedules):
    """Runs every check."""
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size, timeout=timedelta(seconds=60)
    )
    mesh = DeviceMesh("cpu", torch.arange(world_size))
    for schedule in schedules:
        with pytest.MonkeyPatch.context() as patched:
            impl = force(patched, schedule)
            for name, case in CASES.items():
                try:
                    check(case, impl)
                    if impl == "torch":
                        check_in_float64(case, impl)
                except AssertionError as error:
                    raise AssertionError(f"{schedule}, {name}: {error}") from error
            check(
                dataclasses.replace(CASES["one class more on some ranks"], x_dtype=half, w_dtype=half),
                impl,
                tile_dtype=half,
            )
            check_collectives(CASES["NormFace, alpha learned"], impl)
            check_bad_labels(impl)
    check_in_float64(CASES["CosFace"], "torch", mesh)
    check_in_float64(CASES["CosFace"], "torch", dist.group.WORLD)
    check_an_ignored_class("torch")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])

"""What every rank measures of a training that ``plan`` has computed: a script, started by ``test_plan.py``.

``python planned_ranks.py RANK WORLD_SIZE FILE TRAINING`` with a training as JSON; prints what it has measured as JSON.
"""

import json
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.autograd.profiler import profile, record_function
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from lit_l2softmax.ops import class_parallel_linear_l2_softmax_cross_entropy
from lit_l2softmax.planning.training import Training
from lit_l2softmax.processes import share

INPUTS = 24  # of the network, one linear layer
MOMENTS = ("forward", "backward", "step")
OPTIMIZERS = {
    "sgd": lambda parameters, **o: torch.optim.SGD(parameters, lr=0.1, **o),
    "momentum": lambda parameters, **o: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, **o),
    "adam": lambda parameters, **o: torch.optim.Adam(parameters, lr=0.1, **o),
}


class Memory:
    """The most bytes that tensors hold in each part of a training, the last time that it is run, by torch's account."""

    def __enter__(self):
        self._profile = profile(profile_memory=True)
        self._profile.__enter__()
        return self

    def __exit__(self, *raised):
        self._profile.__exit__(*raised)
        events = self._profile.kineto_results.events()
        parts = {one.name(): one for one in events if one.name() in MOMENTS}
        held, self.peaks = 0, dict.fromkeys(parts, 0)
        for event in sorted((one for one in events if one.name() == "[memory]"), key=lambda one: one.start_ns()):
            held += event.nbytes()
            for name, part in parts.items():
                if event.start_ns() < part.start_ns():
                    self.peaks[name] = held  # what is there when it begins
                elif event.start_ns() <= part.start_ns() + part.duration_ns():
                    self.peaks[name] = max(self.peaks[name], held)


class Collectives:
    """The bytes that this process brings to each collective, one entry a call."""

    def __enter__(self):
        self.given = []
        self._original = dist.all_gather, dist.all_reduce
        dist.all_gather = self._counted("all_gather", dist.all_gather, 1)
        dist.all_reduce = self._counted("all_reduce", dist.all_reduce, 0)
        return self

    def __exit__(self, *_):
        dist.all_gather, dist.all_reduce = self._original

    def _counted(self, name, call, place):
        def counted(*arguments, group=None, **options):
            self.add(name, arguments[place], dist.get_world_size(group))
            done = call(*arguments, group=group, **options)
            time.sleep(0.005)  # Gloo's thread lets go of what it was lent before this one does, whose account is kept
            return done

        return counted

    def add(self, name, tensor, size):
        self.given.append([name, size, tensor.nbytes])

    def clear(self):
        self.given = []


class Gathered(torch.autograd.Function):
    """The features of a group, of which a process has the gradient whole and gives its own rows back."""

    @staticmethod
    def forward(ctx, own, group, place):
        ctx.place, ctx.rows, ctx.size = place, len(own), dist.get_world_size(group)
        parts = [torch.empty_like(own) for _ in range(ctx.size)]
        dist.all_gather(parts, own, group=group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.place * ctx.rows :][: ctx.rows] * ctx.size, None, None


def groups(training):
    """This rank's class group, and the ranks that have the same classes."""
    c = training.classes_over
    own = [None, None]
    for first in range(0, training.processes, c):
        group = dist.new_group(range(first, first + c))
        own[0] = group if first <= training.rank < first + c else own[0]
    for place in range(c):
        group = dist.new_group(range(place, training.processes, c))
        own[1] = group if training.rank % c == place else own[1]
    return own


def trained(training, counted):
    """Three steps, of which the last is measured; rows divide, so that no gather is padded."""
    dtype = getattr(torch, training.dtype)
    class_group, data_group = groups(training)
    generator = torch.Generator().manual_seed(training.rank)
    n, D, K = training.own_rows, training.features, training.own_classes
    network = DistributedDataParallel(torch.nn.Linear(INPUTS, D, dtype=dtype))
    network.register_comm_hook(None, lambda _, bucket: averaged_bucket(bucket, counted, training.processes))
    classifier = [torch.nn.Parameter(torch.randn(K, D, dtype=dtype))]
    if not training.normalize_weight:
        classifier.append(torch.nn.Parameter(torch.zeros(K, dtype=dtype)))
    options = {"fused": True} if training.fused else {}
    if training.weight_decay:
        options["weight_decay"] = 0.01
    optimizer = OPTIMIZERS[training.optimizer]([*network.parameters(), *classifier], **options)
    x = torch.randn(n, INPUTS, dtype=dtype, generator=generator)
    labels = torch.randint(training.classes, (n,), generator=generator)
    for _ in range(3):  # DDP lays out its buckets anew behind the first, and there are gradients behind the second
        counted.clear()
        with record_function("forward"):
            told = [torch.empty(3, dtype=torch.int64) for _ in range(training.processes)]
            dist.all_gather(told, torch.tensor([n, -1, 0]))
            own = network(x)
            parts = [torch.empty_like(labels) for _ in range(training.classes_over)]
            dist.all_gather(parts, labels, group=class_group)
            features = Gathered.apply(own, class_group, training.rank % training.classes_over)
            loss = loss_of(training, features, torch.cat(parts), classifier, class_group)
            rows = torch.tensor(n)
            dist.all_reduce(rows, group=class_group)
            loss = loss * share(rows, loss.device)
        optimizer.zero_grad()
        with record_function("backward"):
            loss.backward()
            del loss, parts, own, features
        if training.groups > 1:
            for one in classifier:
                dist.all_reduce(one.grad, group=data_group)
                one.grad /= training.groups
        with record_function("step"):
            optimizer.step()


def loss_of(training, features, target, classifier, group):
    """The operator's loss of a group's rows."""
    weight, bias = classifier if len(classifier) > 1 else (classifier[0], None)
    return class_parallel_linear_l2_softmax_cross_entropy(
        features, weight, target, num_classes=training.classes, group=group, alpha=16.0, linear_bias=bias,
        normalize_weight=training.normalize_weight, impl="triton" if training.uses_kernels else "torch",
    )  # fmt: skip


def product_in_place(total, a, b, out_shape=None, **_):
    """Operations of ``addmm_``, which torch's counter does not know, from shapes."""
    return 2 * a[0] * a[1] * b[1]


def multiplied(training):
    """Operations of the products in the operator's passes, the last one's after the first one's."""
    K, D, N = training.own_classes, training.features, training.group_rows
    features, weight = torch.randn(N, D, requires_grad=True), torch.randn(K, D, requires_grad=True)
    target = torch.zeros(N, dtype=torch.int64)
    group, _ = groups(training)
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product_in_place}) as counter:
        loss = loss_of(replace(training, normalize_weight=True), features, target, [weight], group)
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops() - forward


def averaged_bucket(bucket, counted, size):
    """What DDP does with a bucket, counted."""
    counted.add("all_reduce", bucket.buffer(), size)
    reduced = torch.distributed.distributed_c10d.all_reduce(bucket.buffer(), async_op=True)
    return reduced.get_future().then(lambda done: done.value()[0] / size)


def resident(field):
    """A figure of this process's memory, in bytes, as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main(rank, world_size, store, training):
    """Measures, and prints it."""
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world_size, timeout=timedelta(seconds=120)
    )
    training = replace(training, rank=rank)
    few = {"rows": 2 * world_size, "features": 8, "classes": 64}
    small = replace(training, **few)
    with Collectives() as counted, Memory():
        trained(small, counted)  # libraries take their own memory once
    at_rest = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most resident so far is that of now
    with Collectives() as counted, Memory() as memory:
        trained(training, counted)
    found = {"at rest": at_rest, "resident": resident("VmHWM"), "peaks": memory.peaks}
    found |= {"given": counted.given, "products": multiplied(small), "small": few}
    print(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Training(**json.loads(sys.argv[4])))

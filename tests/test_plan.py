"""``plan``: what it computes of a training is what one takes, measured by torch, by Linux and by counting."""

import gc
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from memory import peak_extra_bytes
from planned_ranks import INPUTS, OPTIMIZERS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from lit_l2softmax.__main__ import main
from lit_l2softmax.errors import ConfigError
from lit_l2softmax.kernels.linear_l2_softmax_cross_entropy import paths
from lit_l2softmax.ops import (
    class_parallel_linear_l2_softmax_cross_entropy,
    class_shard,
    linear_l2_softmax_cross_entropy,
)
from lit_l2softmax.planning import communication, memory, operations, training, working
from lit_l2softmax.planning.training import Training

SCRIPT = Path(__file__).with_name("planned_ranks.py")
ROOT = SCRIPT.parents[1]


def ranks(planned, store):
    """What every rank has measured of a training of as many processes."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    arguments = [str(planned.processes), str(store / "store"), json.dumps(asdict(planned))]
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(planned.processes)
    ]
    said = [process.communicate(timeout=240) for process in processes]
    failed = [errors for process, (_, errors) in zip(processes, said, strict=True) if process.returncode]
    assert not failed, failed[0][-3000:]
    return [json.loads(printed.splitlines()[-1]) for printed, _ in said]


def with_its_network(**changes):
    """A training of the ranks' own network, one linear layer, whose input is all that it keeps."""
    features = changes["features"]
    return Training(**changes, network=(INPUTS + 1) * features, activations=INPUTS, device="cpu")


def not_counted(planned):
    """Bytes by which tensors may hold more or less than was computed.

    Labels, and the inputs behind the backward pass, are data and not counted. Of tensors with N numbers the model
    counts the most there are, which is not more than eight numbers of eight bytes; of those with k numbers one, which
    may be gone already. A tensor without dimensions is some bytes, and there are less than a thousand.
    """
    data = planned.own_rows * (INPUTS * planned.number + 8)
    return data + 64 * planned.group_rows + working.tile_of(planned).classes * planned.computed + 4096


def check_ranks(planned, found):
    for rank, measured in enumerate(found):
        mine = replace(planned, rank=rank)
        forward, loss, network, step, *_ = memory.totals(mine)
        computed = {"forward": forward, "backward": max(loss, network), "step": step}
        for moment, held in computed.items():
            assert abs(measured["peaks"][moment] - held) <= not_counted(mine), (rank, moment, measured["peaks"], held)
        given = Counter((one.name, one.processes, one.given) for one in communication.collectives(mine))
        assert Counter(map(tuple, measured["given"])) == given
        small = {one.name: one.operations for one in operations.work(replace(mine, **measured["small"]))}
        assert measured["products"] == [small["classifier, forward"], small["classifier, backward"]]


SHARED = {"rows": 64, "features": 64, "classes": 20_011, "processes": 2, "classes_over": 2}


def test_two_processes_hold_compute_and_exchange_what_was_computed(tmp_path):
    planned = with_its_network(**SHARED, normalize_weight=True)
    check_ranks(planned, ranks(planned, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"processes": 4, "normalize_weight": True},
        {"processes": 4, "classes_over": 4, "optimizer": "momentum"},
        {"processes": 3, "classes_over": 3, "rows": 63},
        {
            "processes": 4,
            "classes_over": 4,
            "rows": 40_000,
            "features": 2,
            "classes": 400,
        },  # rows are all that there is
        {"optimizer": "adam", "weight_decay": True},
        {"optimizer": "adam", "fused": True, "normalize_weight": True},
        {"optimizer": "sgd", "weight_decay": True},
        {"rows": 600, "dtype": "bfloat16", "optimizer": "momentum"},
        {"rows": 900, "classes": 4001, "dtype": "bfloat16", "normalize_weight": True},
        {"rows": 2400, "classes": 4001, "dtype": "float64"},
    ],
    ids=str,
)
def test_any_processes_hold_compute_and_exchange_what_was_computed(tmp_path, changes):
    planned = with_its_network(**SHARED | changes)
    check_ranks(planned, ranks(planned, tmp_path))


@pytest.mark.slow
def test_a_process_is_as_large_as_was_computed(tmp_path):
    planned = with_its_network(
        rows=64, features=512, classes=200_000, processes=2, classes_over=2, normalize_weight=True
    )
    for measured in ranks(planned, tmp_path):
        computed = max(memory.totals(replace(planned, at_rest=measured["at rest"]))[: memory.CHECKPOINT])
        assert abs(measured["resident"] / computed - 1) <= 0.1, (measured["resident"], computed)


DTYPES = {name: getattr(torch, name) for name in training.DTYPES}


def test_dtypes_have_their_sizes():
    assert {name: dtype.itemsize for name, dtype in DTYPES.items()} == training.DTYPES


def alone(planned):
    """The operator's loss of one process that has all classes, and its parameters."""
    dtype = DTYPES[planned.dtype]
    features, weight = (torch.randn(size, planned.features).to(dtype) for size in (planned.rows, planned.classes))
    bias = None if planned.normalize_weight else torch.zeros(planned.classes, dtype=dtype, requires_grad=True)
    target = torch.arange(planned.rows) % planned.classes
    leaves = [features.requires_grad_(), weight.requires_grad_(), *([] if bias is None else [bias])]

    arguments = {"linear_bias": bias, "alpha": 16.0, "normalize_weight": planned.normalize_weight}

    def loss():
        if planned.uses_kernels:  # the interpreter would keep what they were given until gradients are put together
            return linear_l2_softmax_cross_entropy(features, weight, target, **arguments, impl="triton")
        return class_parallel_linear_l2_softmax_cross_entropy(
            features, weight, target, num_classes=planned.classes, **arguments, impl="torch"
        )

    return loss, leaves


def check_alone(planned):
    """Both passes of the operator take for themselves what was computed."""
    loss, leaves = alone(planned)
    torch.autograd.grad(loss(), leaves)  # libraries take their own memory once
    gc.collect()
    forward = peak_extra_bytes(lambda: loss())
    kept = loss()
    gc.collect()  # the interpreter keeps what a kernel was given in a cycle
    backward = peak_extra_bytes(lambda: torch.autograd.grad(kept, leaves))
    loose = 64 * planned.rows + working.tile_of(planned).classes * planned.computed
    assert abs(forward - sum(working.forward(planned))) <= loose
    gradients = planned.classifier * planned.number
    # What the forward pass keeps was there before.
    assert abs(backward - (sum(working.backward(planned)) - working.kept(planned) + gradients)) <= loose


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", training.DTYPES)
@pytest.mark.parametrize(
    ("rows", "features", "classes"),
    [
        (300, 64, 20_011),  # several ranges of classes, the last of them shorter
        (1500, 96, 3001),  # and of rows
        (20, 100, 5000),  # one tile, of which the classes are the largest part
    ],
)
def test_the_operator_takes_what_was_computed(rows, features, classes, dtype, normalize):
    check_alone(Training(rows, features, classes, dtype=dtype, normalize_weight=normalize, device="cpu"))


@pytest.mark.parametrize("normalize", [False, True])
def test_the_kernels_take_what_was_computed(normalize):
    check_alone(Training(24, 96, 200, normalize_weight=normalize))


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("way", ["loop", "together", "fused"])
def test_an_optimiser_keeps_and_takes_what_was_computed(name, way, decay):
    sizes = [5000, 30_000]
    parameters = [torch.nn.Parameter(torch.randn(size)) for size in sizes]
    options = {"loop": {"foreach": False}, "together": {"foreach": True}, "fused": {"fused": True}}[way]
    optimizer = OPTIMIZERS[name](parameters, weight_decay=decay, **options)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    kept = sum(one.nbytes for state in optimizer.state.values() for one in state.values() if one.ndim)
    planned = Training(
        rows=1, features=30_000, classes=1, network=5000, normalize_weight=True, optimizer=name,
        device="cpu" if way == "loop" else "cuda", weight_decay=decay > 0, fused=way == "fused",
    )  # fmt: skip
    terms = {term.name: max(term.bytes) for term in memory.terms(planned)}
    assert kept == terms.get("  its optimiser's state", 0) + terms.get("  their optimiser's state", 0)
    assert abs(peak_extra_bytes(optimizer.step) - terms.get("optimiser's temporaries", 0)) < 64


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [1, 3, 10, 64])
def test_rows_and_classes_are_dealt_out_as_they_are_in_a_training(total, parts):
    dealt = training.shares(total, parts)
    assert dealt == [len(part) for part in torch.arange(total).tensor_split(parts)]
    assert dealt == [class_shard(total, rank, parts).size for rank in range(parts)]


def test_no_process_has_more_than_the_first():
    planned = Training(rows=29, features=8, classes=1003, processes=12, classes_over=4, network=100)
    totals = [memory.totals(replace(planned, rank=rank)) for rank in range(12)]
    assert all(held <= most for one in totals for held, most in zip(one, totals[0], strict=True))
    assert sum(replace(planned, rank=rank).own_rows for rank in range(12)) == 29
    assert sum(replace(planned, rank=rank).group_rows for rank in (0, 4, 8)) == 29
    assert sum(replace(planned, rank=rank).own_classes for rank in range(4)) == 1003


@pytest.mark.parametrize("rule", [paths.torch_tile, paths.triton_tile])
def test_the_tile_is_the_operators_own(rule):
    planned = Training(512, 512, 100_000, device="cpu" if rule is paths.torch_tile else "cuda")
    assert working.tile_of(planned) == rule(512, 512, 100_000)


def ring(name, sizes, p):
    """Bytes that each of p processes sends where a collective goes round a ring, part by part."""
    sent = [0] * p
    for step in range((p - 1) * (2 if name == "all_reduce" else 1)):
        for process in range(p):
            sent[process] += sizes[(process - step) % p]
    return sent


@pytest.mark.parametrize("p", [2, 3, 5, 8])
def test_rings_send_what_was_computed(p):
    given = 240
    gathered = communication.Collective("", "all_gather", p, "", given)
    reduced = communication.Collective("", "all_reduce", p, "", given)
    assert set(ring("all_gather", [given] * p, p)) == {gathered.sent}
    parts = [given * (part + 1) // p - given * part // p for part in range(p)]
    assert sum(ring("all_reduce", parts, p)) == pytest.approx(p * reduced.sent, abs=p)


@pytest.mark.parametrize("classes_over", [1, 2, 8])
@pytest.mark.parametrize("room", [2**24, 2**33])
def test_the_most_classes_fit_and_one_more_do_not(classes_over, room):
    planned = Training(64, 128, 10, processes=8, classes_over=classes_over, optimizer="adam")
    most = memory.most_classes(planned, room)
    assert memory.peak(replace(planned, classes=most)) <= room < memory.peak(replace(planned, classes=most + 1))


def test_where_not_even_a_class_fits_there_is_none():
    assert memory.most_classes(Training(64, 128, 10, network=2**20), 2**20) == 0


def test_nothing_held_becomes_less_with_more_classes():
    planned = Training(100, 64, 1, processes=4, classes_over=2, network=10)
    held = [memory.totals(replace(planned, classes=classes)) for classes in range(1, 3000, 7)]
    assert all(a <= b for one, more in pairwise(held) for a, b in zip(one, more, strict=True))


def test_sharing_the_classes_spares_their_gradient_the_way():
    planned = Training(64, 512, 1_000_000, processes=8, classes_over=8, network=1000)
    shared, whole = (
        sum(one.sent for one in communication.collectives(replace(planned, classes_over=c))) for c in (8, 1)
    )
    assert whole == pytest.approx(2 * 7 / 8 * (4 * 513 * 1_000_000 + 4 * 1000 + 8), abs=2)
    assert shared < whole / 1000


def test_a_learned_alpha_is_one_number_of_what_shards_add_up():
    fixed = Training(64, 512, 1000, processes=2, classes_over=2)
    given = [
        {one.what: one.given for one in communication.collectives(replace(fixed, learn_alpha=learned))}
        for learned in (False, True)
    ]
    assert given[1]["features' gradient"] - given[0]["features' gradient"] == 4
    assert given[1]["network's gradient"] == 4  # alpha itself is every process's


def test_the_first_process_alone_puts_a_checkpoint_together():
    planned = Training(64, 8, 1000, processes=4, classes_over=2, optimizer="momentum", device="cpu")
    held = [memory.of_host(replace(planned, rank=rank)) for rank in range(4)]
    assert held == [2 * 4 * 9 * 1000, 0, 0, 0]
    assert memory.of_host(replace(planned, classes_over=1)) == 0


def test_a_network_of_linear_layers_computes_what_was_computed():
    network = torch.nn.Sequential(torch.nn.Linear(24, 40, bias=False), torch.nn.Linear(40, 10, bias=False))
    planned = Training(30, 10, 5, network=sum(one.numel() for one in network.parameters()))
    with FlopCounterMode(display=False) as counter:
        features = network(torch.randn(30, 24, requires_grad=True))
        forward = counter.get_total_flops()
        features.sum().backward()
    computed = {one.name: one.operations for one in operations.work(planned)}
    assert forward == computed["network, forward"]
    assert counter.get_total_flops() - forward == computed["network, backward"]


class Elementwise(TorchDispatchMode):
    """Counts the operations of what an optimiser does to each number."""

    EACH: ClassVar = {"add": 1, "add_": 1, "mul_": 1, "lerp_": 3, "addcmul_": 3, "sqrt": 1, "div": 1, "addcdiv_": 3}

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if isinstance(args[0], torch.Tensor) and args[0].ndim:
            name = func.overloadpacket.__name__
            multiplied = name.startswith("add") and "addc" not in name and kwargs.get("alpha", 1) != 1
            self.operations += (self.EACH[name] + multiplied) * args[0].numel()
        return func(*args, **kwargs)


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_computes_what_was_computed(name, decay):
    parameter = torch.nn.Parameter(torch.randn(50))
    optimizer = OPTIMIZERS[name]([parameter], weight_decay=decay, foreach=False)
    parameter.grad = torch.randn(50)
    optimizer.step()  # makes its state
    with Elementwise() as counted:
        optimizer.step()
    planned = Training(1, 50, 1, normalize_weight=True, optimizer=name, weight_decay=decay > 0)
    computed = {one.name: one.operations for one in operations.work(planned)}["optimiser"]
    assert counted.operations == computed


def test_one_process_talks_to_nobody():
    assert communication.collectives(Training(64, 8, 100, network=10, learn_alpha=True)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"network": -1}, "network must be at least 0, got -1"),
        ({"processes": 8, "classes_over": 3}, "classes_over must divide the 8 processes, got 3; there are 1, 2, 4, 8"),
        ({"dtype": "float8"}, "dtype: 'float8' is not known; did you mean"),
        ({"optimizer": "lion"}, "optimizer: 'lion' is not known; there are sgd, momentum, adam"),
        ({"rank": 1}, "rank must be one of 0 to 0, got 1"),
    ],
)
def test_a_training_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Training(**{"rows": 4, "features": 5, "classes": 6} | changes)


COMMAND = ["plan", "--rows=512", "--features=512", "--classes=1000000"]


def test_the_command_prints_what_was_computed(capsys):
    assert main([*COMMAND, "--processes=8", "--classes_over=8", "--network=43,600,000", "--optimizer=momentum"]) == 0
    lines = capsys.readouterr().out.splitlines()
    planned = Training(512, 512, 1_000_000, processes=8, classes_over=8, network=43_600_000, optimizer="momentum")
    rows = [line.split() for line in lines if line.startswith("together")]
    assert rows[0][1:] == [f"{held / 2**20:,.1f}" for held in memory.totals(planned)]
    assert rows[1][1:] == [f"{sum(one.operations for one in operations.work(planned)) / 1e9:,.3f}"]
    sent = sum(one.sent for one in communication.collectives(planned))
    assert rows[2][1:] == [f"{sent / 2**20:,.1f}", "MiB"]
    assert max(map(len, lines)) <= 120
    assert any("3.8 GiB of the host's memory" in line for line in lines)


def test_the_command_says_whether_it_fits(capsys):
    options = ["--optimizer=adam", "--network=1000"]
    most = memory.most_classes(Training(512, 512, 1, optimizer="adam", network=1000), 10 * 2**30)
    assert main([*COMMAND, *options, "--memory=10"]) == 0
    text = capsys.readouterr().out.splitlines()[-1]
    assert text.startswith("fits: ")
    assert f"; {most:,} classes are the most that do" in text
    assert main([*COMMAND, *options, "--memory=1"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("does not fit: ")
    assert main([*COMMAND, *options, "--network=1,000,000,000", "--memory=1"]) == 1
    assert capsys.readouterr().out.endswith("nor would any number of classes\n")


def test_a_process_on_a_cpu_is_something_at_rest(capsys):
    assert main([*COMMAND, "--device=cpu"]) == 0
    assert "the process at rest  measured" in capsys.readouterr().out
    assert main([*COMMAND, "--device=cpu", "--at_rest=0"]) == 0
    assert "at rest" not in capsys.readouterr().out


def test_times_are_of_the_rates_that_are_given(capsys):
    assert main([*COMMAND, "--processes=2", "--classes_over=2", "--tflops=0.25", "--gb_s=2"]) == 0
    *_, products, links = capsys.readouterr().out.splitlines()
    assert products == f"products take {8 * 512 * 512 * 500_000 / 0.25e9:,.3f} ms at 0.25 TFLOP/s"
    sent = sum(one.sent for one in communication.collectives(Training(512, 512, 10**6, processes=2, classes_over=2)))
    assert links == f"communication takes {sent / 2e6:,.3f} ms at 2 GB/s"


def test_readme_shows_what_the_command_prints(capsys):
    text = (ROOT / "README.md").read_text().replace("\\\n", "")
    shown = text[text.index("$ python -m lit_l2softmax plan --rows 64") :].partition("```")[0]
    command, *lines = shown.splitlines()
    assert main(command.split()[4:]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line not in printed] == ["...", "..."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["plan"], "plan needs --rows, --features, --classes"),
        ([*COMMAND[:2]], "plan needs --features, --classes"),
        ([*COMMAND, "--procesess=3"], "'procesess' is not an option; did you mean 'processes'?"),
        ([*COMMAND, "--rank=3"], "'rank' is not an option"),
        ([*COMMAND, "--network=50M"], "argument --network: must be a whole number, got '50M'"),
        ([*COMMAND, "--memory=0"], "argument --memory: must be a positive number, got '0'"),
        ([*COMMAND, "--memory=lots"], "argument --memory: must be a positive number, got 'lots'"),
        ([*COMMAND, "--at_rest=-1"], "--at_rest must be at least 0, got -1"),
        ([*COMMAND, "--optimizer=adm"], "optimizer: 'adm' is not known; did you mean 'adam'?"),
        ([*COMMAND, "--device=xla"], "device: 'xla' is not known; there are cpu, cuda"),
    ],
)
def test_what_cannot_be_planned_is_one_line(capsys, options, message):
    assert main(options) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize("options", [["--help"], COMMAND[1:]])
def test_the_answer_does_not_wait_for_torch(options):
    program = (
        "import sys; from lit_l2softmax.__main__ import main; status = main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "plan", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout

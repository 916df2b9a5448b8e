"""``plan``: what a training of a large classifier takes of each process, and how large it can be."""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.planning import communication, memory, operations
from lit_l2softmax.planning.training import DEVICES, DTYPES, OPTIMIZERS, Training
from lit_l2softmax.program import COMMANDS, PROGRAM

from .option_parser import OptionParser

MIB, GIB = 2**20, 2**30
RATES = ("memory", "tflops", "gb_s")  # options that are of a machine and not of a training
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
# Measured: what a process of ``fit`` has resident in the steps of ``configs/optim/yoghurt.yaml``, which has 45
# parameters, with W&B offline; 499 without it. 2 cores of an AMD EPYC, Python 3.11, torch 2.13.0+cpu, lightning 2.6.6.
# What CUDA and NCCL take of a device has not been measured.
AT_REST_MIB = {"cpu": 522, "cuda": 0}

HELP = f"""usage: {PROGRAM} plan --rows N --features D --classes C [options]

{COMMANDS["plan"]}; trains nothing

  --rows N            of a step, over all processes (batch_size)
  --features D        of a row, as the classifier is given them
  --classes C         of all processes
  --processes W       that train together (default: 1)
  --classes_over C    processes that share the classes, a divisor of W (default: 1, each has all of them)
  --dtype TYPE        of weights, features and gradients: {", ".join(DTYPES)} (default: float32, and bf16-mixed's)
  --normalize_weight  class weights are normalised, and have no bias
  --learn_alpha       alpha is a parameter
  --optimizer NAME    {", ".join(OPTIMIZERS)} (default: sgd; momentum is SGD's)
  --weight_decay      the optimiser has one
  --fused             the optimiser is the fused one
  --network P         the network's parameters (default: 0, not counted)
  --activations A     numbers a row that the network keeps for its backward pass (default: 0, not counted)
  --device NAME       {" or ".join(DEVICES)}: which schedule the operator takes (default: cuda)
  --at_rest MIB       what a process holds beside tensors (default: {AT_REST_MIB["cpu"]} on a CPU, measured; 0 on CUDA)
  --memory GIB        of a process: does it fit, and how many classes would? (status 1 where it does not fit)
  --tflops RATE       10^12 operations a second that a process reaches in products: the time they take
  --gb_s RATE         10^9 bytes a second that a process can send: the time that communication takes

  {PROGRAM} plan --rows 512 --features 512 --classes 1000000 --processes 8 --classes_over 8 --memory 80
"""


def main(arguments: Sequence[str]) -> int:
    """Prints the tables; returns 0, or 1 where ``--memory`` is too little.

    Raises:
        ConfigError: on an option that there is not, or a value that cannot be.
    """
    _, *options = arguments
    if {"-h", "--help"} & set(options):
        print(HELP, end="")
        return 0
    given = _parsed(options)
    room, tflops, gb_s = (given.pop(name) for name in RATES)
    training = Training(**given)
    print(_head(training))
    print(f"\n{_memory(training)}")
    print(f"\n{_operations(training)}")
    if training.processes > 1:
        print(f"\n{_communication(training)}")
    if times := _times(training, tflops, gb_s):
        print(f"\n{times}")
    if room is None:
        return 0
    fits = memory.peak(training) <= room * GIB
    print(f"\n{_answer(training, room, fits)}")
    return 0 if fits else 1


def _parsed(options: Sequence[str]) -> dict[str, Any]:
    needed = ("rows", "features", "classes")
    names = [field.name for field in fields(Training) if field.name != "rank"]
    parser = OptionParser([*names, *RATES])
    for field in fields(Training):
        if field.name == "rank":
            continue
        if field.type is bool:
            parser.add_argument(f"--{field.name}", action="store_true")
        else:
            parser.add_argument(f"--{field.name}", type=_count if field.type is int else str, default=argparse.SUPPRESS)
    for name in RATES:
        parser.add_argument(f"--{name}", type=_positive)
    given = vars(parser.parse_args(options))
    missing = [f"--{name}" for name in needed if name not in given]
    if missing:
        raise ConfigError(f"plan needs {', '.join(missing)}")
    given.setdefault("at_rest", AT_REST_MIB.get(given.get("device", "cuda"), 0))
    if given["at_rest"] < 0:
        raise ConfigError(f"--at_rest must be at least 0, got {given['at_rest']}")
    given["at_rest"] *= MIB
    return given


def _count(text: str) -> int:
    """A whole number, with or without thousands separated."""
    try:
        return int(text.replace(",", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def _positive(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return size


def _head(training: Training) -> str:
    groups, shared = training.groups, training.classes_over
    layout = (
        "1 process"
        if training.processes == 1
        else f"{training.processes:,} processes, each with all classes"
        if shared == 1
        else f"{training.processes:,} processes, which share the classes"
        if groups == 1
        else f"{training.processes:,} processes, {groups:,} groups of {shared:,} that share the classes"
    )
    return (
        f"C = {training.classes:,} classes, D = {training.features:,} features, {training.rows:,} rows a step, "
        f"{training.dtype}, {training.optimizer}\n{layout}\n"
        f"of the first process, which has the most: n = {training.own_rows:,} rows, N = {training.group_rows:,} in its "
        f"group, K = {training.own_classes:,} classes\n"
        f"b = {training.number} bytes of a number, e = {training.computed} of one that is computed in"
    )


def _memory(training: Training) -> str:
    rows = [
        (term.name, term.formula, *(f"{of / MIB:,.1f}" if of else "" for of in term.bytes))
        for term in memory.terms(training)
    ]
    rows.append(("together", "", *(f"{of / MIB:,.1f}" for of in memory.totals(training))))
    if training.classes_over > 1:
        all_classes = memory.totals(replace(training, classes_over=1))
        rows.append(("with all classes in each", "", *(f"{of / MIB:,.1f}" for of in all_classes)))
    text = _table(("memory, MiB", "bytes", *memory.MOMENTS), rows, 2)
    if training.device == "cuda" and memory.of_host(training):
        whole = _size_of(memory.of_host(training))
        text += f"\nand {whole} of the host's memory in the first process, while a checkpoint is written"
    return text


def _operations(training: Training) -> str:
    rows = [(one.name, one.formula, f"{one.operations / 1e9:,.3f}") for one in operations.work(training)]
    total = sum(one.operations for one in operations.work(training))
    return _table(("operations of a step, 10^9", "", ""), [*rows, ("together", "", f"{total / 1e9:,.3f}")], 2)


def _communication(training: Training) -> str:
    found = communication.collectives(training)
    rows = [
        (one.what, f"{one.name} of {one.processes:,}", one.formula, _size_of(one.given), _size_of(one.sent))
        for one in found
    ]
    rows.append(("together", "", "", "", _size_of(sum(one.sent for one in found))))
    if training.classes_over > 1:
        whole = communication.collectives(replace(training, classes_over=1))
        rows.append(("with all classes in each", "", "", "", _size_of(sum(one.sent for one in whole))))
    return _table(("communication of a step", "collective", "bytes", "given", "sent"), rows, 3)


def _size_of(count: int) -> str:
    """Bytes in the unit that leaves one to four digits before the point."""
    power = min(max(0, (count.bit_length() - 1) // 10), len(UNITS) - 1)
    return f"{count} B" if power == 0 else f"{count / 1024**power:,.1f} {UNITS[power]}"


def _times(training: Training, tflops: float | None, gb_s: float | None) -> str:
    """The least that a step takes at given rates, a line each; nothing overlaps and nothing waits."""
    found = []
    if tflops is not None:
        products = sum(one.operations for one in operations.work(training) if one.name != "optimiser")
        found.append(f"products take {products / tflops / 1e9:,.3f} ms at {tflops:g} TFLOP/s")
    if gb_s is not None:
        sent = sum(one.sent for one in communication.collectives(training))
        found.append(f"communication takes {sent / gb_s / 1e6:,.3f} ms at {gb_s:g} GB/s")
    return "\n".join(found)


def _answer(training: Training, room: float, fits: bool) -> str:
    most, peak = memory.most_classes(training, int(room * GIB)), memory.peak(training)
    when = memory.MOMENTS[memory.totals(training).index(peak)]
    largest = f"{most:,} classes are the most that do" if most else "nor would any number of classes"
    held = f"{_size_of(peak)} of {_size_of(int(room * GIB))} at the most ({when})"
    return f"{'fits' if fits else 'does not fit'}: {held}; {largest}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Columns side by side, the first ``left`` of them text and the others numbers."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Iterable[str]) -> str:
        aligned = (
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    return "\n".join(line(row) for row in (head, *rows))

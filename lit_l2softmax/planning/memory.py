"""What a process holds at each moment of a step, and while a checkpoint is written.

Lightning sets gradients to None between the forward and the backward pass, so the forward pass still has those of the
step before, and the loss's backward pass has none of the network's yet. It does so before a validation too, so that the
checkpoint behind one is written without them, but one that Ctrl-C asks for behind a step is not.
DistributedDataParallel keeps all gradients that it averages once more, in its buckets; shards of the classifier are
none of its business.

Not counted: what a library takes inside a call (MKL, cuBLAS, NCCL), what an allocator holds without using it.

Legend: as in ``training.py``; s numbers of the optimiser's state for each one that it changes, A numbers a row that the
network keeps, r rows and k classes of a tile.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from . import working
from .training import OPTIMIZERS, Training
from .working import LABEL

MOMENTS = ("forward", "back: loss", "back: network", "optimiser", "checkpoint", "interrupted")
FORWARD, LOSS, NETWORK, STEP, CHECKPOINT, INTERRUPTED = range(len(MOMENTS))
ALWAYS = range(len(MOMENTS))


class Term(NamedTuple):
    """Something that is held, with its formula.

    Attributes:
        name: what it is.
        formula: its bytes, in the letters of the legend.
        bytes: at each of ``MOMENTS``.
    """

    name: str
    formula: str
    bytes: tuple[int, ...]


def terms(training: Training) -> list[Term]:
    """Everything that is held; those that are nothing are left out."""
    b, e = training.number, training.computed
    N, D = training.group_rows, training.features
    shared, alone = training.classes_over > 1, training.processes == 1
    states = OPTIMIZERS[training.optimizer].states
    learned = training.replicated + (0 if shared else training.classifier)
    forward, backward = working.forward(training), working.backward(training)
    features = N * D * b
    found = [
        _term("the process at rest", "measured", training.at_rest, ALWAYS),
        _term("network", "P b", training.replicated * b, ALWAYS),
        _term("  its gradient", "P b", training.replicated * b, (FORWARD, NETWORK, STEP, INTERRUPTED)),
        _term("  its optimiser's state", "s P b", states * training.replicated * b, ALWAYS),
        _term("class weights", _classifier(training, "K"), training.classifier * b, ALWAYS),
        _term(
            "  their gradient",
            _classifier(training, "K"),
            training.classifier * b,
            (FORWARD, LOSS, NETWORK, STEP, INTERRUPTED),
        ),
        _term("  their optimiser's state", f"s {_classifier(training, 'K')}", states * training.classifier * b, ALWAYS),
        _term(
            "DDP's buckets",
            "P b" if shared else f"P b + {_classifier(training, 'K')}",
            0 if alone else learned * b,
            ALWAYS,
        ),
        _term("activations", "A n b", training.activations * training.own_rows * b, (FORWARD, LOSS, NETWORK)),
        _term("features", "n D b", training.own_rows * D * b, (FORWARD, LOSS)),
        _term("  and labels of the group", "N (D b + 8)", (features + LABEL * N) * shared, (FORWARD, LOSS)),
        _term("  their gradient", "N D e", N * D * e, (NETWORK,)),
        Term("operator's rows", "of N D e", _at({FORWARD: forward.rows, LOSS: backward.rows})),
        Term("operator's tiles", "of r k e, k D e", _at({FORWARD: forward.tiles, LOSS: backward.tiles})),
        _term("optimiser's temporaries", "t of P b, K D b", _temporaries(training), (STEP,)),
    ]
    if training.device == "cpu":
        whole = f"(1 + s) {_classifier(training, 'C')}"
        found.append(_term("whole classifier, its state", whole, of_host(training), (CHECKPOINT, INTERRUPTED)))
    return [term for term in found if any(term.bytes)]


def of_host(training: Training) -> int:
    """Bytes of the host's memory in which the first process puts a checkpoint of all shards together, and their state.

    The others send theirs in parts, and a file is written from where its tensors lie.
    """
    if training.classes_over == 1 or training.rank:
        return 0
    return (1 + OPTIMIZERS[training.optimizer].states) * training.whole_classifier * training.number


def totals(training: Training) -> tuple[int, ...]:
    """Bytes at each of ``MOMENTS``."""
    return tuple(map(sum, zip(*(term.bytes for term in terms(training)), strict=True)))


def peak(training: Training) -> int:
    """The most bytes that are held at any moment."""
    return max(totals(training))


def most_classes(training: Training, memory: int) -> int:
    """The largest number of classes with which the peak is within ``memory`` bytes; 0 where one class is too many.

    Nothing that is held becomes less where there are more classes, so halving finds it.
    """

    def fits(classes: int) -> bool:
        return peak(replace(training, classes=classes)) <= memory

    if not fits(1):
        return 0
    least = 1
    while fits(2 * least):
        least *= 2
    beyond = 2 * least
    while beyond - least > 1:
        middle = (least + beyond) // 2
        least, beyond = (middle, beyond) if fits(middle) else (least, middle)
    return least


def _term(name: str, formula: str, bytes: int, moments: Iterable[int]) -> Term:
    return Term(name, formula, _at(dict.fromkeys(moments, bytes)))


def _at(bytes: dict[int, int]) -> tuple[int, ...]:
    return tuple(bytes.get(moment, 0) for moment in ALWAYS)


def _classifier(training: Training, classes: str) -> str:
    return f"{classes} D b" if training.normalize_weight else f"{classes} (D + 1) b"


def _temporaries(training: Training) -> int:
    """Bytes of new tensors in an optimiser's step: of the largest parameter on a CPU, of all of them on CUDA.

    A loop still has the last tensor of the parameter before when it comes to the next one. Where all are taken
    together, decayed gradients are given up before the root is taken. The network's parameters are taken for one, for
    want of their sizes.
    """
    if training.fused:
        return 0
    optimizer, decayed = OPTIMIZERS[training.optimizer], int(training.weight_decay)
    if training.device == "cpu":
        sizes = training.replicated, training.own_classes * training.features
        left = min(sizes) if optimizer.copies else 0
        return ((optimizer.copies + decayed) * max(sizes) + left) * training.number
    return max(optimizer.copies_of_all, decayed) * (training.replicated + training.classifier) * training.number

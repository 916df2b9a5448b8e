"""The operations of a step in one process: products of matrices, and what the optimiser does to each number.

A multiplication and an addition are two. What is done once to each score, feature or weight beside the products is left
out, one part in some D of them.

Legend: as in ``training.py``.
"""

from typing import NamedTuple

from .training import OPTIMIZERS, Training


class Work(NamedTuple):
    """Operations of one kind, with their formula."""

    name: str
    formula: str
    operations: int


def work(training: Training) -> list[Work]:
    """Everything that is computed; what is nothing is left out.

    The classifier's forward pass is one product of ``(N, D)`` and ``(D, K)``. Its backward pass makes the scores again
    instead of having kept them, and multiplies their gradient with the features and with the class weights: three more.
    A network of linear layers takes 2 operations a parameter and row forward and 4 backward (Kaplan et al. 2020,
    arXiv:2001.08361, section 2.1); one with convolutions takes more.
    """
    n, N = training.own_rows, training.group_rows
    product = 2 * N * training.features * training.own_classes
    optimizer, numbers = OPTIMIZERS[training.optimizer], training.replicated + training.classifier
    each = optimizer.operations + 2 * training.weight_decay
    found = [
        Work("classifier, forward", "2 N D K", product),
        Work("classifier, backward", "6 N D K", 3 * product),
        Work("network, forward", "2 n P", 2 * n * training.network),
        Work("network, backward", "4 n P", 4 * n * training.network),
        Work("optimiser", f"{each} a number", each * numbers),
    ]
    return [one for one in found if one.operations]

"""The collectives of a step, and the bytes that one process sends in them.

Rings: of p processes that have m bytes each, every one sends ``(p - 1) m`` in an all-gather and ``2 (p - 1) / p m`` in
an all-reduce, and nobody can do with less (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for
clusters of workstations", theorem 1 and section 3). What is logged or measured beside the training is not counted.

Legend: as in ``training.py``.
"""

from typing import NamedTuple

from .training import Training
from .working import LABEL

COUNT = 8  # bytes of the float64 in which rows that count are added up


class Collective(NamedTuple):
    """A collective of a step.

    Attributes:
        what: is exchanged.
        name: ``all_gather`` or ``all_reduce``.
        processes: that take part.
        formula: of the bytes given.
        given: bytes that a process brings.
    """

    what: str
    name: str
    processes: int
    formula: str
    given: int

    @property
    def sent(self) -> int:
        """Bytes that a process sends, to the next in the ring."""
        p = self.processes
        return (p - 1) * self.given if self.name == "all_gather" else -(-2 * (p - 1) * self.given // p)


def collectives(training: Training) -> list[Collective]:
    """Those of one step, in their order; without those of one process, or of nothing."""
    W, G, c = training.processes, training.groups, training.classes_over
    n, N, D = training.most_rows, training.group_rows, training.features
    b, e = training.number, training.computed
    K = "K D b" if training.normalize_weight else "K (D + 1) b"
    alpha = int(training.learn_alpha)
    found = [Collective("rows that count", "all_reduce", W, "8", COUNT)]
    if c > 1:
        found += [
            Collective("rows of each, a bad label", "all_gather", W, "24", 3 * LABEL),
            Collective("rows that count in a group", "all_reduce", c, "8", LABEL),
            Collective("features", "all_gather", c, "n D b", n * D * b),
            Collective("labels", "all_gather", c, "8 n", LABEL * n),
            Collective("what shards know of rows", "all_gather", c, "4 N e", 4 * N * e),
            Collective("features' gradient", "all_reduce", c, "(N D + 1) e" if alpha else "N D e", (N * D + alpha) * e),
            Collective("network's gradient", "all_reduce", W, "P b", training.replicated * b),
            Collective("class weights' gradient", "all_reduce", G, K, training.classifier * b),
        ]
    else:
        whole = training.replicated + training.classifier
        found.append(Collective("all gradients", "all_reduce", W, f"P b + {K}", whole * b))
    return [one for one in found if one.processes > 1 and one.given]

"""How large the scale of an L2-constrained softmax has to be."""

import math


def alpha_lower_bound(num_classes: int, probability: float = 0.9) -> float:
    """The smallest alpha at which a perfectly placed feature can reach ``probability`` for its class.

    The paper's model: class centres are unit vectors, one of them opposite to the feature's and the other ``C - 2``
    orthogonal to it, so that ``p = e^a / (e^a + C - 2)`` once ``e^-a`` is dropped.

    Args:
        num_classes: C, at least 3; with two classes nothing is orthogonal and the model has no bound.
        probability: softmax probability to be reachable, in (0, 1).

    Returns:
        ``ln(p (C - 2) / (1 - p))``; 4.28 for 10 classes and p = .9.

    Raises:
        ValueError: on an argument outside these ranges.

    Source: Ranjan et al. 2017, arXiv:1703.09507, section 4.3.
    """
    if num_classes < 3:
        raise ValueError(f"the bound needs at least 3 classes, got {num_classes}")
    if not 0 < probability < 1:
        raise ValueError(f"probability must be in (0, 1), got {probability}")
    return math.log(probability * (num_classes - 2) / (1 - probability))

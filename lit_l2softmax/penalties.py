"""What is added to a loss so that weights stay small."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from .messages import nearest_or_all


class WeightPenalty:
    """``l1 * sum |w| + l2 / 2 * sum w ** 2`` of each of some weights.

    The half is TensorFlow's (``tf.nn.l2_loss``, ``l2_regularizer``), so that for plain SGD ``l2`` is the optimiser's
    ``weight_decay``; the text of System 3 forgets it.

    Args:
        weights: names of parameters of the module that is trained, ``network.local3.weight``.
        l1: strength of the sum of absolute values.
        l2: strength of half the sum of squares.

    Raises:
        ValueError: on a strength that is negative or not finite, or that has no weight to act on.
    """

    def __init__(self, weights: Sequence[str], l1: float = 0.0, l2: float = 0.0) -> None:
        for name, strength in (("l1", l1), ("l2", l2)):
            if not 0 <= strength < math.inf:
                raise ValueError(f"{name} must be 0 or a finite positive number, got {strength}")
            if strength and not weights:
                raise ValueError(f"{name}={strength} penalises nothing: name weights")
        self.weights, self.l1, self.l2 = tuple(weights), l1, l2

    def check(self, module: nn.Module) -> None:
        """Looks whether the weights are there.

        Raises:
            ValueError: naming the first that ``module`` does not have, and what was probably meant.
        """
        names = [name for name, _ in module.named_parameters()]
        for name in self.weights:
            if name not in names:
                raise ValueError(f"penalty: there is no weight {name!r}{nearest_or_all(name, names)}")

    def terms(self, module: nn.Module) -> dict[str, Tensor]:
        """The penalty of each weight, 0-d, as ``penalty/<name>``; none where both strengths are 0."""
        if not self.l1 and not self.l2:
            return {}
        return {f"penalty/{name}": self._of(module.get_parameter(name)) for name in self.weights}

    def _of(self, weight: Tensor) -> Tensor:
        if not self.l1:
            return self.l2 / 2 * weight.square().sum()
        lasso = self.l1 * weight.abs().sum()
        return lasso + self.l2 / 2 * weight.square().sum() if self.l2 else lasso


def penalised(name: str, loss: Tensor, penalty: WeightPenalty | None, module: nn.Module) -> dict[str, Tensor]:
    """What is minimised, as ``loss``, behind the parts it is the sum of, the first under its own name; 0-d each.

    Without a penalty the loss has no parts.
    """
    terms = {} if penalty is None else penalty.terms(module)
    return {name: loss, **terms, "loss": sum(terms.values(), loss)} if terms else {"loss": loss}

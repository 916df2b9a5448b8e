"""Initial weights under TensorFlow's meaning."""

import torch
from torch import Tensor, nn


def truncated_normal_(weight: Tensor, std: float, generator: torch.Generator | None = None) -> Tensor:
    """Fills ``weight`` as ``tf.truncated_normal`` does, and returns it: what is more than two ``std`` off is redrawn.

    The deviation of what remains is .8796 of ``std``. The limits of torch's own function are not in deviations.
    """
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


def tf_layers_defaults_(*layers: nn.Conv2d | nn.Linear) -> None:
    """Fills convolutions and dense layers as ``tf.layers`` does: Glorot-uniform weights, biases of zero."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)

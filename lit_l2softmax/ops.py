"""The operators' public door: what a training script imports."""

from .kernels.l2_softmax_cross_entropy import l2_softmax_cross_entropy
from .kernels.linear_l2_softmax_cross_entropy import (
    ClassShard,
    class_parallel_linear_l2_softmax_cross_entropy,
    class_shard,
    linear_l2_softmax_cross_entropy,
)
from .kernels.local_response_norm import Window, local_response_norm

__all__ = [
    "ClassShard",
    "Window",
    "class_parallel_linear_l2_softmax_cross_entropy",
    "class_shard",
    "l2_softmax_cross_entropy",
    "linear_l2_softmax_cross_entropy",
    "local_response_norm",
]

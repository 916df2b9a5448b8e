"""This project's operators in ONNX's words; whoever exports imports this, and nobody else needs onnxscript."""

from collections.abc import Callable
from typing import Any

import onnxscript
import torch

op: Any = onnxscript.opset18  # its annotations forbid most of what it takes


def local_response_norm(
    input: Any,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    window: str,
    impl: str,  # noqa: ARG001 - its schema
) -> Any:
    """ONNX's own operator, or what it means where ONNX Runtime has no kernel of it."""
    if size % 2:
        return op.LRN(input, size=size, alpha=alpha, beta=beta, bias=k)
    # ONNX Runtime has no kernel for even windows: the sum of all shifts of the squares, zeros beyond both ends.
    behind = size // 2 if window == "torch" else (size - 1) // 2
    axis, squares = op.Constant(value_ints=[1]), op.Mul(input, input)
    pads = op.Constant(value_ints=[behind, size - 1 - behind])
    padded = op.Pad(squares, pads, op.Constant(value_float=0.0), axis)
    energy = None
    for shift in range(size):
        end = shift + 1 - size or 2**31  # counted from the end; the last shift reaches it
        shifted = op.Slice(padded, op.Constant(value_ints=[shift]), op.Constant(value_ints=[end]), axis)
        energy = shifted if energy is None else op.Add(energy, shifted)
    mean = op.Mul(energy, op.Constant(value_float=alpha / size))
    return op.Div(input, op.Pow(op.Add(mean, op.Constant(value_float=k)), op.Constant(value_float=beta)))


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.lit_l2softmax.local_response_norm.default: local_response_norm
}

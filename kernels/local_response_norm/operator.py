"""The operator: its registration with torch, its derivative, and the function people call."""

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .._autograd import called_by_position, first_gradients
from .._library import LIBRARY, register
from .._runtime import Impl, check_floating, check_impl, fastest_impl, import_triton
from . import torch_schedule
from .problem import Problem, Window, checked_size
from .reference import local_response_norm_reference

_ARGUMENTS = "int size, float alpha, float beta, float k, str window, str impl"


@cache
def _schedule(impl: Impl) -> ModuleType:
    if impl == "torch":
        return torch_schedule
    return import_triton("local_response_norm", f"{__package__}.kernels")


def _forward(input: Tensor, *arguments: Any) -> Tensor:
    *numbers, impl = arguments
    if not input.numel():
        return torch.empty_like(input)
    output: Tensor = _schedule(impl).forward(input, Problem.of(input, *numbers))
    return output


def _backward(grad: Tensor, input: Tensor, *arguments: Any) -> Tensor:
    *numbers, impl = arguments
    if not input.numel():
        return torch.empty_like(input)
    dinput: Tensor = _schedule(impl).backward(grad, input, Problem.of(input, *numbers))
    return dinput


def _forward_fake(input: Tensor, *arguments: Any) -> Tensor:  # noqa: ARG001 - the op's schema
    return torch.empty_like(input)


def _backward_fake(grad: Tensor, input: Tensor, *arguments: Any) -> Tensor:  # noqa: ARG001 - the op's schema
    return torch.empty_like(input)


_fwd_op = register(
    f"local_response_norm(Tensor input, {_ARGUMENTS}) -> Tensor",
    _forward,
    _forward_fake,
)
_bwd_op = register(
    f"local_response_norm_backward(Tensor grad, Tensor input, {_ARGUMENTS}) -> Tensor",
    _backward,
    _backward_fake,
)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001 - autograd's signature
    input, *ctx.arguments = inputs
    ctx.save_for_backward(input)


def _differentiate(ctx: Any, grad: Tensor) -> Any:
    (input,) = ctx.saved_tensors
    size, alpha, beta, k, window, _ = ctx.arguments

    def fused(grad: Tensor, input: Tensor) -> tuple[Tensor]:
        return (_bwd_op(grad, input, *ctx.arguments),)

    def reference(input: Tensor) -> Tensor:
        return local_response_norm_reference(input, size, alpha, beta, k, window=window)

    (dinput,) = first_gradients(fused, reference, grad, (input,))
    return dinput, *(None for _ in ctx.arguments)


class _LocalResponseNorm(torch.autograd.Function):
    """The operator with its derivative, as torch.func wants it."""

    @staticmethod
    @called_by_position
    def forward(input: Tensor, size: int, alpha: float, beta: float, k: float, window: Window, impl: Impl) -> Any:
        # Written out, for torch.compile counts these to know whether a context comes first.
        return _fwd_op(input, size, alpha, beta, k, window, impl)

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_differentiate)


# An exported graph has the operator itself in it, without the Function around it, and must be trainable too.
torch.library.register_autograd(
    "lit_l2softmax::local_response_norm", _differentiate, setup_context=_setup_context, lib=LIBRARY
)


def local_response_norm(
    input: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    window: Window = "torch",
    impl: Impl = "auto",
) -> Tensor:
    """Divides each activation by a power of the energy of its neighbours in channel order.

    ``alpha`` is divided by ``size``, as in PyTorch; TensorFlow's and the AlexNet paper's is not.

    Args:
        input: activations, ``(N, C, *)`` with one to three spatial dimensions, float16 | bfloat16 | float32 | float64,
            any strides; dense in whatever order of dimensions, it is not copied. The gradient keeps this tensor and
            nothing else.
        size: channels in a window, >= 1; may be even, and larger than C.
        alpha: weight of the window's mean square, a number >= 0, not a tensor.
        beta: exponent, > 0; 0.75, 0.5 and 1 are the fast ones.
        k: added to the weighted mean square, >= 0. With 0, a window of zeros, or of numbers whose squares are too small
            for float32, is a division by zero.
        window: where an even window lies: ``"torch"`` has the odd channel before the centre, ``"onnx"`` after it.
        impl: ``"auto"`` (Triton on CUDA, PyTorch's schedule elsewhere and for float64) | ``"triton"`` | ``"torch"`` |
            ``"reference"`` (the equations; the only one that keeps more than the input).

    Returns:
        A tensor of ``input``'s shape, dtype and order of dimensions; half types are computed in float32 and rounded
        once. An inf or NaN makes NaN of its own place and stays inside the windows that hold it. Differentiable any
        number of times; ``torch.func.vmap`` and ``jvp`` are not supported.

    Raises:
        ValueError: on a shape, number or window other than the above, or an ``impl`` that cannot run on this device or
            in this precision.
        TypeError: on an input that is not floating-point, a size that is no integer, or a number that is none.
        ImportError: on a CUDA device without Triton.
    """
    if not 3 <= input.ndim <= 5:
        raise ValueError(f"input must have shape (N, C, *) with 1 to 3 spatial dimensions, got {tuple(input.shape)}")
    check_floating("input", input)
    size = checked_size(size, alpha, beta, k, window)
    check_impl(impl, input, operator="local_response_norm")
    if impl == "reference":
        return local_response_norm_reference(input, size, alpha, beta, k, window=window)
    output: Tensor = _LocalResponseNorm.apply(  # type: ignore[no-untyped-call]
        input, size, float(alpha), float(beta), float(k), window, fastest_impl(input) if impl == "auto" else impl
    )
    return output

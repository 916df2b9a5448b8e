"""What the operators' derivatives share: a call without a detour, and second derivatives, those of the reference."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Inputs = tuple[Tensor | None, ...]


class _Positional(inspect.Signature):
    """The signature of a function that is always called with all its arguments, by position."""

    __slots__ = ()

    def bind(self, *args: Any) -> Any:
        return _Bound(args)


class _Bound:
    """What ``inspect.Signature.bind`` returns, of arguments that are complete."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.args, self.kwargs = args, {}  # type: ignore[var-annotated]

    def apply_defaults(self) -> None:
        """There are none."""


def called_by_position(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The ``forward`` of an ``autograd.Function`` with a ``setup_context``, called with all arguments by position.

    ``Function.apply`` binds its arguments to such a forward's signature, to fill in defaults: 13 us of a call, a third
    of what the small losses take in all. There is nothing to fill in, so here the binding returns what it was given.
    """
    forward.__signature__ = _Positional([*inspect.signature(forward).parameters.values()])  # type: ignore[attr-defined]
    return forward


def first_gradients(
    fused: Callable[..., tuple[Tensor, ...]], reference: Callable[..., Tensor], grad: Tensor, inputs: Inputs
) -> tuple[Tensor, ...]:
    """The gradients ``fused(grad, *inputs)``, which can be differentiated again where somebody may ask for that.

    Args:
        fused: returns one gradient for each of ``inputs``, an empty tensor for one that is not wanted.
        reference: the loss as a function of ``inputs``; differentiated twice, at its own cost in memory, if the
            gradients' gradient is asked for, and not run otherwise.
        grad: the gradient of the loss.
        inputs: what the loss depends on, None for what is absent.
    """
    # While compiling, grad mode says nothing about what will be asked for, and a compiled graph is differentiated once.
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        gradients: tuple[Tensor, ...] = _FirstGradients.apply(  # type: ignore[no-untyped-call]
            fused, reference, grad, *inputs
        )
        return gradients
    return fused(grad, *inputs)


class _FirstGradients(torch.autograd.Function):
    @staticmethod
    @called_by_position
    def forward(fused: Callable[..., Any], _: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> Any:
        return fused(grad, *inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004 - autograd's signature
        _, ctx.reference, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        grad, *inputs = ctx.saved_tensors
        present = [i for i, tensor in enumerate(inputs) if tensor is not None]

        def loss(*values: Tensor) -> Tensor:
            arguments = list(inputs)
            for i, value in zip(present, values, strict=True):
                arguments[i] = value
            result: Tensor = ctx.reference(*arguments)
            return result

        def gradients(grad: Tensor, *values: Tensor) -> Any:
            return torch.func.vjp(loss, *values)[1](grad)

        values = [inputs[i] for i in present]
        # An input whose gradient was not wanted got an empty one.
        wanted = [
            cotangents[i] if cotangents[i].shape == inputs[i].shape else torch.zeros_like(inputs[i]) for i in present
        ]
        d_grad, *d_values = torch.func.vjp(gradients, grad, *values)[1](tuple(wanted))
        d_inputs: list[Tensor | None] = [None] * len(inputs)
        for i, value in zip(present, d_values, strict=True):
            d_inputs[i] = value
        return None, None, d_grad, *d_inputs

"""What the benchmarks of the operators share: directions, the gate, and what a provider is made of."""

import torch
from harness import timed


def forward(function, inputs, upstream):  # noqa: ARG001 - as the others are called
    """The result alone, where nobody will ask for a gradient."""

    def call():
        with torch.no_grad():
            return function(*inputs)

    return call


def backward(function, inputs, upstream):
    """The gradients of a result that is at hand."""
    result = function(*inputs)

    def call():
        return torch.autograd.grad(result, inputs, upstream, retain_graph=True)

    return call


def both(function, inputs, upstream):
    """The result and its gradients."""

    def call():
        return torch.autograd.grad(function(*inputs), inputs, upstream)

    return call


DIRECTIONS = {"forward": forward, "backward": backward, "forward and backward": both}


def check(functions, inputs, terms, upstream=None):
    """The gate: what is not the same computation, in the inputs' precision, is not timed.

    The first of ``functions`` is eager PyTorch: in float64 it gives the exact results, as it is the error one has to
    live with. Nobody's error, of a tensor's norm, is above four times that and what independent roundings make of the
    longest sum, of ``terms`` terms, one after the other: sqrt(terms) unit roundoffs.

    Args:
        functions: by name; each takes the inputs.
        inputs: floating-point tensors that ask for a gradient.
        terms: the number of terms of the longest sum.
        upstream: the gradient of the result; none for a loss.
    """
    eager = next(iter(functions.values()))
    exact_upstream = None if upstream is None else upstream.double()
    exact = results(eager, [tensor.detach().double().requires_grad_() for tensor in inputs], exact_upstream)
    usual = results(eager, inputs, upstream)
    roundoff = torch.finfo(inputs[0].dtype).eps / 2
    for name, function in functions.items():
        for got, want, other in zip(results(function, inputs, upstream), exact, usual, strict=True):
            error, allowed = (torch.linalg.vector_norm(of.double() - want) for of in (got, other))
            rounding = terms**0.5 * roundoff * torch.linalg.vector_norm(want)
            assert error <= 4 * (allowed + rounding), f"{name} is wrong; it is not timed"


def results(function, inputs, upstream):
    """The result and its gradients."""
    value = function(*inputs)
    return value.detach(), *torch.autograd.grad(value, inputs, upstream)


def providers(functions, inputs, direction, upstream=None):
    """The timed providers of one direction, and what each would do once, by name."""
    calls = {name: DIRECTIONS[direction](function, inputs, upstream) for name, function in functions.items()}
    return {name: timed(call) for name, call in calls.items()}, calls

"""What the benchmarks of both softmax operators share: directions, the gate, and what a provider is made of."""

import torch
from harness import timed


def forward(loss, inputs):
    """The loss alone, where nobody will ask for a gradient."""

    def call():
        with torch.no_grad():
            return loss(*inputs)

    return call


def both(loss, inputs):
    """The loss and its gradients."""

    def call():
        return torch.autograd.grad(loss(*inputs), inputs)

    return call


DIRECTIONS = {"forward": forward, "forward and backward": both}


def check(losses, inputs, terms):
    """The gate: what is not the same computation, in float32, is not timed.

    The first of ``losses`` is eager PyTorch: in float64 it gives the exact results, in float32 the error one has to
    live with. Nobody's error, of a tensor's norm, is above four times that and what independent roundings make of the
    longest sum, of ``terms`` terms, one after the other: sqrt(terms) unit roundoffs.
    """
    eager = next(iter(losses.values()))
    exact = results(eager, [tensor.detach().double().requires_grad_() for tensor in inputs])
    usual = results(eager, inputs)
    for name, loss in losses.items():
        for got, want, other in zip(results(loss, inputs), exact, usual, strict=True):
            error, allowed = (torch.linalg.vector_norm(of.double() - want) for of in (got, other))
            rounding = terms**0.5 * torch.finfo(torch.float32).eps / 2 * torch.linalg.vector_norm(want)
            assert error <= 4 * (allowed + rounding), f"{name} is wrong; it is not timed"


def results(loss, inputs):
    """The loss and its gradients."""
    value = loss(*inputs)
    return value.detach(), *torch.autograd.grad(value, inputs)


def providers(losses, inputs, direction):
    """The timed providers of one direction, and what each would do once, by name."""
    calls = {name: DIRECTIONS[direction](loss, inputs) for name, loss in losses.items()}
    return {name: timed(call) for name, call in calls.items()}, calls

"""What the benchmarks of the operators share: directions, the gate, and what a provider is made of."""

import itertools

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


def check(functions, inputs, terms, upstream=None, peers=()):
    """The gate: what is not the same computation, in the inputs' precision, is not timed.

    The first of ``functions`` is eager PyTorch: in float64 it gives the exact results, as it is the error one has to
    live with. Nobody's error, of a tensor's norm, is above four times that and what independent roundings make of the
    longest sum, of ``terms`` terms, one after the other: sqrt(terms) unit roundoffs.

    Args:
        functions: by name; each takes the inputs.
        inputs: floating-point tensors that ask for a gradient.
        terms: the number of terms of the longest sum.
        upstream: the gradient of the result; none for a loss.
        peers: names of those that may fail; anybody else's failure is raised.

    Returns:
        For each peer that fails, what happened.
    """
    eager = next(iter(functions.values()))
    exact_upstream = None if upstream is None else upstream.double()
    exact = results(eager, [tensor.detach().double().requires_grad_() for tensor in inputs], exact_upstream)
    allowed = []
    for got, want in zip(results(eager, inputs, upstream), exact, strict=True):
        error = torch.linalg.vector_norm(got.double() - want)
        roundoff = torch.finfo(inputs[0].dtype).eps / 2
        allowed.append(4 * (error + terms**0.5 * roundoff * torch.linalg.vector_norm(want)))
    failures = {}
    for name, function in functions.items():
        try:
            _compare(results(function, inputs, upstream), exact, allowed)
        except (RuntimeError, AssertionError) as failure:
            if name not in peers:
                raise
            failures[name] = _first_line(failure)
    return failures


def _compare(got, exact, allowed):
    for value, want, bound in zip(got, exact, allowed, strict=True):
        error = torch.linalg.vector_norm(value.double() - want)
        assert error <= bound, f"is {float(error / bound):.2g} times as far off as allowed; not timed"


def _first_line(failure):
    return (str(failure).splitlines() or [type(failure).__name__])[0]


def results(function, inputs, upstream):
    """The result and its gradients."""
    value = function(*inputs)
    return value.detach(), *torch.autograd.grad(value, inputs, upstream)


def providers(functions, inputs, direction, upstream=None):
    """The timed providers of one direction, what each would do once, and why one cannot do it twice; by name."""
    direct = DIRECTIONS[direction]
    calls, timers, failures = {}, {}, {}
    for name, function in functions.items():
        try:
            several = [direct(function, copies, upstream) for copies in _input_sets(inputs)]
            for _ in range(2 if direction == "backward" else 0):
                several[0]()
        except RuntimeError as failure:  # a graph that is gone after one pass
            failures[name] = _first_line(failure)
        else:
            calls[name] = several[0]
            timers[name] = timed(several[0] if len(several) == 1 else _in_turn(several))
    return timers, calls, failures


def _input_sets(inputs):
    """As many copies of the inputs as a device's cache cannot hold, eight at most; on a CPU the inputs alone."""
    if inputs[0].device.type == "cpu":
        return [inputs]
    cache = torch.cuda.get_device_properties(inputs[0].device).L2_cache_size
    size = sum(tensor.numel() * tensor.element_size() for tensor in inputs)
    more = min(7, 2 * cache // size)
    return [inputs, *([tensor.detach().clone().requires_grad_() for tensor in inputs] for _ in range(more))]


def _in_turn(calls):
    turns = itertools.cycle(calls)
    return lambda: next(turns)()

"""What a loss does wrong of what ours promises, found by trying; shown beside its times.

Each question is small, for faults of meaning do not need size, and each peer is asked in a process of its own, which
one of the answers may end: ``python bench/faults.py PEER`` prints them, a line each.
"""

import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from memory import DEVICE
from peers import PEERS, Loss, Problem, UnavailableError, eager
from torch import Tensor

N, D, C = 48, 16, 1500
ALPHA = 16.0


class Probe:
    """One loss at one size, made anew for each question."""

    def __init__(self, make: Callable[[Problem], Loss]) -> None:
        self.make = make

    def problem(self, last: int = 0) -> Problem:
        """A problem whose last row is of the class ``last``."""
        target = torch.arange(N) * 31 % C
        target[-1] = last
        return Problem(target.to(DEVICE), D, C, ALPHA, normalize_weight=True)

    def inputs(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Features and class weights that ask for gradients."""
        generator = torch.Generator().manual_seed(0)
        return [
            torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_() for shape in ((N, D), (C, D))
        ]

    def loss(self, *inputs: Tensor, last: int = 0) -> Tensor:
        """The loss of these inputs."""
        return self.make(self.problem(last))(*inputs)

    def exact(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """The gradients, in float64."""
        exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
        return torch.autograd.grad(eager(self.problem())(*exact), exact)


def _off(got: Tensor | None, want: Tensor) -> float:
    """The error of a tensor over its norm; infinite where there is none."""
    if got is None:
        return float("inf")
    return float(torch.linalg.vector_norm(got.double() - want) / torch.linalg.vector_norm(want))


def second_backward(probe: Probe) -> str:
    """A backward pass repeated on a graph that was kept."""
    x, w = probe.inputs()
    loss = probe.loss(x, w)
    first = [gradient.clone() for gradient in torch.autograd.grad(loss, (x, w), retain_graph=True)]
    try:
        again = torch.autograd.grad(loss, (x, w))
    except RuntimeError:
        return "a second backward pass raises"
    factor = float(torch.linalg.vector_norm(again[0]) / torch.linalg.vector_norm(first[0]))
    same = all(torch.allclose(a, b) for a, b in zip(first, again, strict=True))
    return "" if same else f"a second backward pass gives {factor:.3g} times the gradient, without a word"


def frozen_side(probe: Probe) -> str:
    """A gradient for one side alone."""
    for side, name in enumerate(("class weights beside frozen features", "features beside frozen class weights")):
        inputs = probe.inputs()
        want = probe.exact(inputs)[1 - side]
        inputs[side].requires_grad_(False)
        wanted = inputs[1 - side]
        try:
            probe.loss(*inputs).backward()
        except RuntimeError:
            return f"no gradient for {name}"
        if not _off(wanted.grad, want) < 1e-3:
            return f"no gradient for {name}" if wanted.grad is None else f"a wrong gradient for {name}"
    return ""


def half_loss(probe: Probe) -> str:
    """The precision a loss of bfloat16 inputs is returned in."""
    loss = probe.loss(*probe.inputs(torch.bfloat16))
    return "" if loss.dtype == torch.float32 else f"a loss in {str(loss.dtype).removeprefix('torch.')}"


def half_gradient(probe: Probe) -> str:
    """The class weights' gradient in bfloat16, beside that of eager PyTorch."""
    inputs = probe.inputs(torch.bfloat16)
    want = probe.exact(inputs)[1]
    ours, usual = (
        _off(torch.autograd.grad(make(probe.problem())(*inputs), inputs)[1], want) for make in (probe.make, eager)
    )
    return "" if ours <= 2 * usual else f"dW in bfloat16 {ours / usual:.2g} times as far off as eager PyTorch's"


def zero_row(probe: Probe) -> str:
    """A feature vector of zeros."""
    x, w = probe.inputs()
    with torch.no_grad():
        x[3] = 0
    (dx,) = torch.autograd.grad(probe.loss(x, w), x)
    largest = float(dx[3].abs().max())
    if largest < 1e3:
        return ""
    return "NaN at a zero row" if largest != largest else f"a gradient of {largest:.0e} at a zero row"


def bad_target(probe: Probe) -> str:
    """A class that is none; asked last, for the answer may be the end of the process."""
    try:
        float(probe.loss(*probe.inputs(), last=C))
    except (IndexError, RuntimeError, AssertionError) as error:
        # The text of an error of torch.compile ends with advice.
        named = re.search(rf"\b{N - 1}\b", str(error).splitlines()[0])
        return "" if named else "a bad target is refused without its row"
    return "a bad target is taken"


def second_derivative(probe: Probe) -> str:
    """The derivative of a gradient: right, or refused."""

    def of(make: Callable[[Problem], Loss], x: Tensor, w: Tensor) -> Tensor:
        (dx,) = torch.autograd.grad(make(probe.problem())(x, w), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), x)[0]

    x, w = probe.inputs()
    want = of(eager, *(tensor.detach().double().requires_grad_() for tensor in (x, w)))
    try:
        got = of(probe.make, x, w)
    except RuntimeError:
        return "no second derivatives"
    return "" if _off(got, want) < 1e-3 else "wrong second derivatives"


def repeats(probe: Probe) -> str:
    """The same bits from the same input."""
    inputs = probe.inputs()
    first, again = (torch.autograd.grad(probe.loss(*inputs), inputs) for _ in range(2))
    return "" if all(torch.equal(a, b) for a, b in zip(first, again, strict=True)) else "not the same bits twice"


QUESTIONS = (
    second_backward,
    frozen_side,
    half_loss,
    half_gradient,
    zero_row,
    second_derivative,
    repeats,
    bad_target,
)


def answers(make: Callable[[Problem], Loss]) -> Iterator[str]:
    """What each of ``QUESTIONS`` finds, one after the other, empty for no fault; nothing of a loss that cannot run."""
    try:
        probe = Probe(make)
        probe.loss(*probe.inputs())
    except (UnavailableError, RuntimeError):
        return
    for question in QUESTIONS:
        try:
            yield question(probe)
        except Exception as error:
            yield f"{question.__name__.replace('_', ' ')}: {type(error).__name__}"


def _asked(peer: str) -> str:
    done = subprocess.run([sys.executable, __file__, peer], capture_output=True, text=True)
    found = done.stdout.splitlines()
    if done.returncode and len(found) < len(QUESTIONS):  # it may also end behind the last answer, as a device's error
        found.append(f"{QUESTIONS[len(found)].__name__.replace('_', ' ')}: ends the process")
    return "; ".join(fault for fault in found if fault)


@cache
def faults() -> dict[str, str]:
    """What each of ``PEERS`` does wrong, separated by semicolons; empty for nothing."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(PEERS, pool.map(_asked, PEERS), strict=True))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for answer in answers(PEERS[sys.argv[1]]):
        print(answer, flush=True)

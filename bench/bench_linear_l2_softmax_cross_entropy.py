"""The L2-constrained softmax loss with its classifier: sizes of the tutorials, of face recognition, of language models.

Providers: eager PyTorch as people write it; the same through torch.compile; the loss torch 2.13 has for large
classifiers and Liger-Kernel's, in chunks of their own choice and in their best, behind a normalisation they do not
offer; pytorch-metric-learning's, where the weights are normalised; ours, as ``impl="auto"`` picks it. Beside its times
stands what each does wrong (``faults.py``) or why it cannot run.
"""

import pytest
import torch
from directions import check, providers
from faults import faults
from limits import limits
from memory import DEVICE
from peers import COMPILED, EAGER, PEERS, Problem, UnavailableError, best_chunks, compiled
from records import OURS

ON_CUDA = DEVICE == "cuda"
DTYPE = torch.bfloat16 if ON_CUDA else torch.float32
LONG, NEEDS_CUDA = pytest.mark.long, pytest.mark.skipif(not ON_CUDA, reason="minutes a call on a CPU")
NEEDS_CPU = pytest.mark.skipif(ON_CUDA, reason="there is a minute or two for all shapes of a device that is lent")
# N, D, C and whether the class weights are normalised.
SHAPES = [
    (20, 1024, 10, False),
    (128, 1024, 10, False),
    (256, 64, 100_000, True),
    (512, 128, 200_000, True),
    pytest.param(512, 512, 85_742, True, marks=LONG),
    pytest.param(256, 64, 100_000, False, marks=[LONG, NEEDS_CPU]),
    pytest.param(1024, 128, 1000, True, marks=[LONG, NEEDS_CPU]),
    pytest.param(1024, 512, 360_232, True, marks=LONG),
    pytest.param(1024, 512, 1_000_000, True, marks=[LONG, NEEDS_CUDA]),
    pytest.param(8192, 4096, 128_256, False, marks=[LONG, NEEDS_CUDA]),
]
# Operations, as multiples of N D C, and passes over the features and the class weights with their gradients. The logits
# are needed once, though ours computes them again for the backward pass rather than keep them.
LEAST = {"forward": (2, 1), "forward and backward": (6, 3), "backward": (4, 2)}
PATIENCE_S = 20.0


@pytest.mark.filterwarnings("ignore:::torch")  # its compiler's own
@pytest.mark.filterwarnings("ignore:::liger_kernel")
@pytest.mark.parametrize(("n", "d", "c", "normalize"), SHAPES)
def test_linear(measure, request, n, d, c, normalize):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator).to(DEVICE, DTYPE).requires_grad_()
    w = torch.randn(c, d, generator=generator).div(d**0.5).to(DEVICE, DTYPE).requires_grad_()
    problem = Problem(torch.randint(c, (n,), generator=generator).to(DEVICE), d, c, 16.0, normalize)
    timing = request.config.getoption("benchmark")
    losses, absent = _made(problem, timing)
    if timing and c >= 1000:
        losses |= best_chunks(problem, [x, w])
    peers = losses.keys() - {EAGER, OURS}
    absent |= check(losses, [x, w], terms=c, peers=peers)
    losses = {name: loss for name, loss in losses.items() if name not in absent}
    for direction, (products, passes) in LEAST.items():
        if direction == "backward" and COMPILED in losses:
            losses[COMPILED] = compiled(losses[EAGER], repeats_backward=True)
        timed, calls, once_only = providers(losses, [x, w], direction)
        measure(
            f"linear L2 softmax cross-entropy, {direction}",
            f"N={n}, D={d}, C={c:,}{', normalised weights' if normalize else ''}, {str(DTYPE).removeprefix('torch.')}",
            timed,
            baseline=EAGER,
            once=calls,
            work=n,
            rate_unit="rows/s",
            least=(passes * (n + c) * d * DTYPE.itemsize / 1e9, products * n * d * c / 1e9, DTYPE),
            notes={name: faults()[name.split(", best chunk")[0]] for name in losses} if timing else None,
            absent=absent | once_only,
        )


def _made(problem, timing):
    """The losses that are to be had, and why the others are not."""
    losses, absent = {}, {}
    for name, make in PEERS.items():
        try:
            if name == COMPILED and not timing:
                raise UnavailableError("compiling takes longer than a check may")
            if name == "torch's chunked loss":
                _be_worth_waiting_for(problem, timing)
            losses[name] = make(problem)
        except UnavailableError as reason:
            absent[name] = str(reason)
    return losses, absent


def _be_worth_waiting_for(problem, timing):
    """Refuses PyTorch's own choice of chunks where it takes long: each reads the class weights for every product."""
    if problem.C < 1000:
        raise UnavailableError("chunks of rows are for many classes")
    n = len(problem.target)
    chunk = 1 << max(0, (-(-n // -(-problem.C // problem.D)) - 1).bit_length() - 1)
    passes = n // chunk
    gigabytes = 4 * passes * problem.C * problem.D * DTYPE.itemsize / 1e9
    if timing and (seconds := gigabytes / limits(DTYPE).copy_gb_s) > PATIENCE_S:
        raise UnavailableError(f"{passes} passes over the class weights, some {seconds:.0f} s a call")

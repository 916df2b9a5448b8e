"""Cross-entropy of L2-normalised logits, a row of C numbers each.

Providers: eager PyTorch as people write it; the same through torch.compile; ours, as ``impl="auto"`` picks it.
"""

import pytest
import torch
import torch.nn.functional as F
from directions import check, providers
from memory import DEVICE
from peers import COMPILED, EAGER, UnavailableError, compiled
from records import OURS

from lit_l2softmax.ops import l2_softmax_cross_entropy

ON_CUDA = DEVICE == "cuda"
DTYPE = torch.bfloat16 if ON_CUDA else torch.float32
ROWS = 4096
CHECKED = 1000  # rows: the exact results of all do not fit into memory beside the rest
# Tensors of the logits' size that the least possible number of passes reads and writes; operations on each number.
PASSES = {"forward": 1, "forward and backward": 3, "backward": 2}
OPERATIONS = {"forward": 6, "forward and backward": 15, "backward": 9}


@pytest.mark.filterwarnings("ignore:::torch")  # its compiler's own
@pytest.mark.parametrize("c", [1024, 4096, *(pytest.param(c, marks=pytest.mark.long) for c in (32_768, 131_072))])
def test_rows(measure, request, c):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, c, generator=generator).to(DEVICE, DTYPE).requires_grad_()
    target = torch.randint(c, (ROWS,), generator=generator).to(DEVICE)
    few = slice(CHECKED)
    timing = request.config.getoption("benchmark")
    checked, _ = _losses(target[few], timing)
    check(checked, [logits[few].detach().clone().requires_grad_()], terms=c)
    losses, absent = _losses(target, timing)
    for direction, passes in PASSES.items():
        if direction == "backward" and not ON_CUDA and c > 32_768:
            continue  # what all providers keep for it does not fit into memory together
        if direction == "backward" and COMPILED in losses:
            losses[COMPILED] = compiled(losses[EAGER], repeats_backward=True)
        timed, calls, _ = providers(losses, [logits], direction)
        gigabytes = passes * logits.numel() * logits.element_size() / 1e9
        measure(
            f"L2 softmax cross-entropy of logits, {direction}",
            f"N={ROWS:,}, C={c:,}, {str(DTYPE).removeprefix('torch.')}",
            timed,
            baseline=EAGER,
            once=calls,
            work=gigabytes,
            rate_unit="GB/s at least",
            least=(gigabytes, OPERATIONS[direction] * logits.numel() / 1e9, DTYPE),
            absent=absent,
        )


def _losses(target, timing):
    """The losses of these targets that are to be had, and why one is not."""
    losses = {
        EAGER: lambda logits: F.cross_entropy(16 * F.normalize(logits), target),
        OURS: lambda logits: l2_softmax_cross_entropy(logits, target, alpha=16.0),
    }
    if not timing:
        return losses, {}
    try:
        return {**losses, COMPILED: compiled(losses[EAGER])}, {}
    except UnavailableError as reason:
        return losses, {COMPILED: str(reason)}

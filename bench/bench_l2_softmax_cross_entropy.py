"""Cross-entropy of L2-normalised logits, a row of C numbers each."""

import pytest
import torch
import torch.nn.functional as F
from directions import check, providers
from memory import DEVICE

from lit_l2softmax.ops import l2_softmax_cross_entropy

EAGER = "eager PyTorch"
ROWS = 4096
# Tensors of the logits' size that the least possible number of passes reads and writes.
PASSES = {"forward": 1, "forward and backward": 3}


@pytest.mark.parametrize("direction", ["forward", "forward and backward"])
@pytest.mark.parametrize("c", [1024, 4096, pytest.param(32_768, marks=pytest.mark.long)])
def test_rows(measure, direction, c):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, c, generator=generator).to(DEVICE).requires_grad_()
    target = torch.randint(c, (ROWS,), generator=generator).to(DEVICE)
    losses = {
        EAGER: lambda logits: F.cross_entropy(16 * F.normalize(logits), target),
        "lit_l2softmax": lambda logits: l2_softmax_cross_entropy(logits, target, alpha=16.0),
    }
    check(losses, [logits], terms=c)
    timed, calls = providers(losses, [logits], direction)
    measure(
        f"L2 softmax cross-entropy of logits, {direction}",
        f"N={ROWS:,}, C={c:,}, float32",
        timed,
        baseline=EAGER,
        once=calls,
        work=PASSES[direction] * logits.numel() * logits.element_size() / 1e9,
        rate_unit="GB/s at least",
    )

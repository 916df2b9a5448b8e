"""The L2-constrained softmax loss with its classifier, at the tutorials' sizes and at those of face recognition.

Providers: eager PyTorch as people write it; the same through torch.compile; the loss torch 2.13 has for large
classifiers, in chunks of its own choice, behind a normalisation it does not offer; pytorch-metric-learning's, where the
weights are normalised; ours, as ``impl="auto"`` picks it.
"""

import pytest
import torch
import torch.nn.functional as F
from directions import check, providers
from memory import DEVICE
from peers import compiled, pytorch_metric_learning

from lit_l2softmax.ops import linear_l2_softmax_cross_entropy

EAGER = "eager PyTorch"
# N, D, C and whether the class weights are normalised.
SHAPES = [
    (20, 1024, 10, False),
    (128, 1024, 10, False),
    (256, 64, 100_000, True),
    (512, 128, 200_000, True),
    pytest.param(256, 64, 100_000, False, marks=pytest.mark.long),
    pytest.param(512, 128, 200_000, False, marks=pytest.mark.long),
    pytest.param(1024, 128, 1000, True, marks=pytest.mark.long),
]


@pytest.mark.filterwarnings("ignore:::torch")  # its compiler's own
@pytest.mark.parametrize("direction", ["forward", "forward and backward"])
@pytest.mark.parametrize(("n", "d", "c", "normalize"), SHAPES)
def test_linear(measure, request, direction, n, d, c, normalize):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator).to(DEVICE).requires_grad_()
    w = torch.randn(c, d, generator=generator).div(d**0.5).to(DEVICE).requires_grad_()
    target = torch.randint(c, (n,), generator=generator).to(DEVICE)

    def classes(w):
        return F.normalize(w) if normalize else w

    losses = {
        EAGER: lambda x, w: F.cross_entropy(F.linear(16 * F.normalize(x), classes(w)), target),
        "lit_l2softmax": lambda x, w: linear_l2_softmax_cross_entropy(
            x, w, target, alpha=16.0, normalize_weight=normalize
        ),
    }
    if hasattr(F, "linear_cross_entropy") and c >= 1000:
        options = torch.nn.LinearCrossEntropyOptions()
        losses["torch's chunked loss"] = lambda x, w: F.linear_cross_entropy(
            16 * F.normalize(x), classes(w), target, options=options
        )
    if request.config.getoption("benchmark") and (other := compiled(losses[EAGER])):
        losses[f"{EAGER}, compiled"] = other
    if normalize and (other := pytorch_metric_learning(target, c, d, alpha=16.0)):
        losses["pytorch-metric-learning"] = other
    check(losses, [x, w], terms=c)
    timed, calls = providers(losses, [x, w], direction)
    measure(
        f"linear L2 softmax cross-entropy, {direction}",
        f"N={n}, D={d}, C={c:,}{', normalised weights' if normalize else ''}, float32",
        timed,
        baseline=EAGER,
        once=calls,
        work=n,
        rate_unit="rows/s",
    )

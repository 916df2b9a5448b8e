"""Local response normalisation with System 2's numbers, at its sizes and at those of AlexNet.

Providers: PyTorch's own; the same through torch.compile, where there is a compiler; a copy of the input, which is the
least that reading it and writing a result can take; ours, as ``impl="auto"`` picks it.
"""

import pytest
import torch
import torch.nn.functional as F
from directions import check, providers
from harness import timed
from memory import DEVICE
from peers import UnavailableError, compiled
from records import COPY, OURS

from lit_l2softmax.ops import local_response_norm

TORCH = "torch.nn.functional"
SIZE, ALPHA, BETA, K = 9, 1e-3, 0.75, 1.0
# What each direction cannot but read and write.
TENSORS = {
    "forward": ("x", "y"),
    "backward": ("x", "gradient of y", "gradient of x"),
    "forward and backward": ("x", "y", "x", "gradient of y", "gradient of x"),
}
# On each number: a window's squares and sum, the power and its product; backward one window more.
OPERATIONS = {"forward": 2 * SIZE + 5, "backward": 4 * SIZE + 12, "forward and backward": 6 * SIZE + 17}
SHAPES = [(1, 64, 12, 12), (128, 64, 12, 12), (128, 64, 24, 24), (128, 96, 55, 55), (256, 256, 27, 27)]
FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def cases():
    """Every shape, layout and precision; all shapes but the last in the plainest of each are the short set."""
    for shape in SHAPES:
        for layout in FORMATS:
            for dtype in (torch.float32, torch.bfloat16):
                plain = shape != SHAPES[-1] and layout == "channels first" and dtype == torch.float32
                name = f"{'x'.join(map(str, shape))}, {layout}, {dtype}"
                yield pytest.param(shape, layout, dtype, marks=() if plain else pytest.mark.long, id=name)


def torchs(x):
    """PyTorch's own, which on a CPU takes no half types: they are converted as a person would."""
    if DEVICE == "cpu" and x.dtype == torch.bfloat16:
        return F.local_response_norm(x.float(), SIZE, ALPHA, BETA, K).to(x.dtype)
    return F.local_response_norm(x, SIZE, ALPHA, BETA, K)


@pytest.mark.filterwarnings("ignore:::torch")  # its compiler's own
@pytest.mark.parametrize("direction", TENSORS)
@pytest.mark.parametrize(("shape", "layout", "dtype"), list(cases()))
def test_normalisation(measure, request, direction, shape, layout, dtype):
    generator = torch.Generator().manual_seed(0)
    x, g = (
        torch.randn(shape, generator=generator).to(DEVICE, dtype).to(memory_format=FORMATS[layout]) for _ in range(2)
    )
    x.requires_grad_()
    functions, absent = {TORCH: torchs, OURS: lambda x: local_response_norm(x, SIZE, ALPHA, BETA, K)}, {}
    if request.config.getoption("benchmark"):
        try:
            functions[f"{TORCH}, compiled"] = compiled(torchs, repeats_backward=direction == "backward")
        except UnavailableError as reason:
            absent[f"{TORCH}, compiled"] = str(reason)
    check(functions, [x], SIZE, g)
    timed_providers, calls, _ = providers(functions, [x], direction, g)
    if direction == "forward":
        y = torch.empty_like(x)
        calls[COPY] = lambda: y.copy_(x.detach())
        timed_providers[COPY] = timed(calls[COPY])
    gigabytes = len(TENSORS[direction]) * x.numel() * x.element_size() / 1e9
    measure(
        f"local response normalisation, {str(dtype).removeprefix('torch.')}, {direction}",
        f"{' x '.join(map(str, shape))}, {layout}",
        timed_providers,
        baseline=TORCH,
        once=calls,
        work=gigabytes,
        rate_unit="GB/s at least",
        least=(gigabytes, OPERATIONS[direction] * x.numel() / 1e9, torch.float32),
        absent=absent,
    )

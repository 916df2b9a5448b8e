"""How much memory local response normalisation takes, how large a tensor it may be given, how often it launches."""

import pytest
import torch
import torch.nn.functional as F
from lrn_cases import DEVICE, Case, force
from memory import peak_extra_bytes

from lit_l2softmax.kernels.local_response_norm.problem import Layout, Problem
from lit_l2softmax.ops import local_response_norm

CUDA = pytest.mark.skipif(DEVICE != "cuda", reason="a CUDA device's")


def both(norm, x, g):
    return lambda: torch.autograd.grad(norm(x), x, g)


@pytest.mark.parametrize(
    "shape", [(16, 64, 24, 24), (128, 64, 12, 12), (8, 64, 12, 12), (1, 64, 100, 100), (60_000, 64, 1)]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_both_directions_of_nine_channels_take_three_tensors_at_most_where_torch_takes_eight(shape, memory_format):
    """In float32; half types are converted a tile at a time, which is more of their own small tensors."""
    if len(shape) == 3 and memory_format == torch.channels_last:
        pytest.skip("has no such format")
    x = torch.randn(shape, device=DEVICE).to(memory_format=memory_format).requires_grad_()
    g = torch.randn(shape, device=DEVICE).to(memory_format=memory_format)
    tensor = x.numel() * x.element_size()
    fused = both(lambda x: local_response_norm(x, 9), x, g)
    fused()  # libraries take their own memory once
    assert peak_extra_bytes(fused) <= 3 * tensor
    if len(shape) == 4 and shape[0] > 1:
        assert peak_extra_bytes(both(lambda x: F.local_response_norm(x, 9), x, g)) > 7 * tensor


@pytest.mark.skipif(DEVICE != "cpu", reason="only the interpreter runs a few programs of a grid")
@pytest.mark.parametrize("schedule", ["kernels", "kernels, a window for each number"])
@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_kernels_count_beyond_32_bits(schedule, shape, tmp_path, monkeypatch):
    """Channels or samples 2^30 numbers long, of which programs see a few at both ends; the rest of a file is a hole."""
    import faithful_interpreter

    impl, positions = force(monkeypatch, schedule), 2**30
    case = Case((*shape, 128), 5, dtype=torch.bfloat16)
    x, g = case.tensors()
    large_x, large_g = (
        torch.from_file(str(tmp_path / name), shared=True, size=3 * positions, dtype=torch.bfloat16).view(*shape, -1)
        for name in "xg"
    )
    for large, small in ((large_x, x), (large_g, g)):
        large[..., :128] = large[..., -128:] = small
    expected = case.solve(impl, x, g)
    # A program that walks sees its positions' channels, another one neighbouring numbers; and the first of two kernels,
    # whose programs would have written what those of the second read.
    walks = schedule == "kernels"
    with faithful_interpreter.ends(1):
        results = case.solve(impl, large_x, large_g) if walks else [case.norm(large_x, impl)]
    first, last = ((0, slice(None)), (-1, slice(None))) if walks else ((0, 0), (-1, -1))
    for large, small in zip(results, expected, strict=False):
        assert torch.equal(large[..., :128][first], small[first])
        assert torch.equal(large[..., -128:][last], small[last])


def test_a_window_is_cut_to_the_channels_there_are():
    x = torch.empty(2, 7, 3)
    assert Problem.of(x, 1001, 1.0, 0.75, 1.0, "torch")[:2] == (6, 6)
    assert Problem.of(x, 10, 1.0, 0.75, 1.0, "torch")[:2] == (5, 4)
    assert Problem.of(x, 14, 1.0, 0.75, 1.0, "onnx")[:2] == (6, 6)


@pytest.mark.parametrize(
    ("shape", "size", "walks"),
    [
        ((1, 2**24 - 1, 1), 9, True),
        ((1, 2**24, 1), 9, False),
        ((1, 2**24, 2), 9, True),
        ((1, 2**30, 2), 9, False),
        ((1, 2, 2**31 - 129), 9, True),
        ((1, 2, 2**31 - 128), 9, False),
        ((1, 64, 12), 16, True),
        ((1, 64, 12), 17, True),
        ((1, 64, 12), 18, False),
    ],
)
def test_kernels_that_count_positions_with_32_bits_are_given_no_more(shape, size, walks):
    from lit_l2softmax.kernels.local_response_norm import kernels

    x = torch.empty(shape, device="meta")
    assert kernels._walks(Problem.of(x, size, 1e-4, 0.75, 1.0, "torch"), Layout(x)) == walks


@CUDA
def test_tensors_of_more_than_32_bits_are_counted_right():
    shape = (2, 33, 2**26 + 5)  # a program has positions of both samples
    x = torch.randn(shape, device=DEVICE, dtype=torch.bfloat16)
    g = torch.randn(shape, device=DEVICE, dtype=torch.bfloat16)
    for size in (5, 18):
        case = Case(shape, size, dtype=torch.bfloat16)
        y, dx = case.solve("triton", x, g)
        for part in (slice(0, 200), slice(2**25, 2**25 + 200), slice(-200, None)):
            expected = case.solve("triton", x[..., part].contiguous(), g[..., part].contiguous())
            assert torch.equal(y[..., part], expected[0])
            assert torch.equal(dx[..., part], expected[1])


@CUDA
def test_each_direction_is_one_launch():
    x = torch.randn(128, 64, 12, 12, device=DEVICE, requires_grad=True)
    g = torch.randn_like(x)
    both(lambda x: local_response_norm(x, 9), x, g)()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiled:
        both(lambda x: local_response_norm(x, 9), x, g)()
        torch.cuda.synchronize()
    assert sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profiled.events()) == 2

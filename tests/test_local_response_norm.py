"""Every implementation of local response normalisation: torch's in float64, a loop, inputs that break others."""

import contextlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lrn_cases import DEVICE, EVERY, FUSED, KERNELS, Case, check, exact_parts, force

from lit_l2softmax.kernels.local_response_norm.problem import Layout
from lit_l2softmax.ops import local_response_norm

HALF, BRAIN, SINGLE, DOUBLE = torch.float16, torch.bfloat16, torch.float32, torch.float64

N, C, H, W = 2, 7, 3, 5
SIZES = [1, 2, 4, 5, 9, C, C + 3, 2 * C + 1]
SHAPES = [
    (9, 7, 3, 5),  # less than a group of channels; tiles of several samples, the last one shorter
    (2, 19, 3, 4),  # two groups and some; a program's share ends within the channels
    (1, 37, 6),  # three shares
    (2, 16, 2, 3, 5),  # groups that fill
    (3, 1, 2, 2),  # one channel
    (2, 10, 9, 11),  # more positions than a program has, some of them another sample's
]
LAST = {3: None, 4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.fixture(params=EVERY)
def impl(request, monkeypatch):
    return force(monkeypatch, request.param)


@pytest.fixture(params=FUSED)
def fused(request, monkeypatch):
    return force(monkeypatch, request.param)


def loop(x, size, alpha, beta, k, window):
    """Channel by channel, neighbour by neighbour."""
    behind, ahead = (size // 2, (size - 1) // 2) if window == "torch" else ((size - 1) // 2, size // 2)
    y = torch.empty_like(x)
    for c in range(x.shape[1]):
        s = torch.full_like(x[:, c], k)
        for j in range(max(0, c - behind), min(x.shape[1], c + ahead + 1)):
            s += alpha / size * x[:, j] ** 2
        y[:, c] = x[:, c] / s**beta
    return y


def memory_formats(x):
    """The same numbers with channels first and, where there is such a format, last."""
    yield x
    if LAST[x.ndim]:
        yield x.to(memory_format=LAST[x.ndim])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", ["torch", "onnx"])
def test_it_is_exact_but_for_rounding_both_ways(impl, size, window):
    for shape in SHAPES:
        case = Case(shape, size, window=window)
        x, g = case.tensors()
        for laid_out in memory_formats(x):
            check(case, impl, laid_out, g)


@pytest.mark.parametrize("size", [16, 17, 18, 19, 22])  # about the widest that a kernel holds in registers, and beyond
def test_wide_windows_are_exact_but_for_rounding(impl, size):
    for window in ("torch", "onnx"):
        check(Case((2, 19, 3, 4), size, window=window), impl)
        check(Case((2, 40, 3), size, window=window), impl)


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.3, 2.5])
@pytest.mark.parametrize(("alpha", "k"), [(1e-4, 1.0), (0.0, 2.0), (9.0, 1.0), (3.0, 0.1), (1e4, 1e-3)])
def test_every_exponent_is_exact_but_for_rounding(impl, beta, alpha, k):
    check(Case((2, 19, 3, 4), 5, alpha, beta, k), impl)


@pytest.mark.parametrize("dtype", [HALF, BRAIN])
def test_half_types_are_computed_in_float32_and_rounded_once(impl, dtype):
    for beta in (0.75, 0.3):
        case = Case((2, 19, 3, 4), 5, beta=beta, dtype=dtype)
        x, g = case.tensors()
        x[0, 3, 1, 1] = 300.0  # its square is not a float16
        for laid_out in memory_formats(x):
            check(case, impl, laid_out, g)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.3])
@pytest.mark.parametrize("impl", ["reference", "torch"])
def test_it_is_torchs_in_float64(impl, size, beta):
    case = Case((N, C, H, W), size, beta=beta, dtype=DOUBLE)
    x, _ = case.tensors()
    expected = F.local_response_norm(x, size, alpha=2.0, beta=beta, k=1.5)
    torch.testing.assert_close(case.norm(x, impl), expected, rtol=1e-14, atol=1e-15)
    check(case, impl)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", ["torch", "onnx"])
def test_the_equations_are_the_loop_in_either_window(size, window):
    case = Case((N, C, H, W), size, dtype=DOUBLE, window=window)
    x, g = case.tensors()
    expected = loop(x, size, 2.0, 0.75, 1.5, window)
    torch.testing.assert_close(exact_parts(case, x, g)["output"], expected, rtol=1e-14, atol=1e-15)


def test_the_windows_differ_for_even_sizes_only(impl):
    for size in SIZES:
        if size < 2 * C:
            x, _ = Case((N, C, H, W), size).tensors()
            same = torch.equal(
                local_response_norm(x, size, 2.0, impl=impl),
                local_response_norm(x, size, 2.0, window="onnx", impl=impl),
            )
            assert same == (size % 2 == 1)


def test_it_is_tensorflows_with_alpha_times_the_size():
    x, _ = Case((N, C, H, W), 9, dtype=DOUBLE).tensors()
    depth_radius, bias, alpha, beta = 4, 1.0, 0.001 / 9, 0.75
    padded = F.pad(x.square(), (0, 0, 0, 0, depth_radius, depth_radius))
    sums = sum(padded[:, offset : offset + C] for offset in range(2 * depth_radius + 1))
    expected = x / (bias + alpha * sums) ** beta  # tf.nn.lrn's documented equation
    actual = local_response_norm(x, size=2 * depth_radius + 1, alpha=alpha * 9, beta=beta, k=bias)
    torch.testing.assert_close(actual, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.3])
def test_a_channel_that_is_not_finite_stays_inside_its_windows(impl, bad, beta):
    case = Case((2, 19, 3, 4), 4, beta=beta)
    x, g = case.tensors()
    clean = case.solve(impl, x, g)
    x[:, 8] = bad
    poisoned = case.solve(impl, x, g)
    exact = exact_parts(case, x, g)
    # It lies in the windows of channels 7 to 10, and they in the mirrored windows of channels 5 to 11.
    for name, touched, before, after in zip(("output", "gradient"), ((7, 11), (5, 12)), clean, poisoned, strict=True):
        for channels in (slice(0, touched[0]), slice(touched[1], 19)):
            assert torch.equal(after[:, channels], before[:, channels]), name
        assert torch.equal(after.isnan(), exact[name].isnan()), name


def test_one_outlier_costs_no_precision_in_other_windows(impl):
    case = Case((2, 19, 3, 4), 3)
    x, g = case.tensors()
    clean = case.solve(impl, x, g)
    x[:, 5] = 1e4
    check(case, impl, x, g)
    for before, after in zip(clean, case.solve(impl, x, g), strict=True):
        assert torch.equal(after[:, 8:], before[:, 8:])
        assert torch.equal(after[:, :3], before[:, :3])


def test_without_k_only_windows_of_zeros_are_not_numbers(impl):
    case = Case((2, 19, 3, 4), 4, k=0.0)
    x, g = case.tensors()
    x[:, 14:] = 0  # the windows of 16, 17 and 18 are empty
    x[:, :3] = 0  # as is that of 0 and of 1
    exact = exact_parts(case, x, g)
    for name, actual in zip(("output", "gradient"), case.solve(impl, x, g), strict=True):
        assert exact[name].isnan().any()
        assert not exact[name].isnan().all()
        assert torch.equal(actual.isnan(), exact[name].isnan()), name


@pytest.mark.parametrize("k", [0.0, 1.0])
def test_channels_that_are_not_there_add_nothing(impl, k):
    case = Case((2, 19, 3, 4), 9, k=k)
    x, g = case.tensors()
    x[:, [0, 18]] = 0  # beside a channel that is not there, and whose window is but for this one
    check(case, impl, x, g)


def layouts(x):
    """The same numbers ``(N, C, H, W)`` in every order of dimensions, and in memory that is not dense."""
    for order in ((0, 1, 3, 2), (0, 2, 3, 1), (0, 2, 1, 3), (1, 0, 2, 3), (2, 3, 1, 0), (3, 1, 0, 2)):
        yield x.permute(order).contiguous().permute([order.index(d) for d in range(4)]), True
    yield F.pad(x, (0, 2))[..., : x.shape[-1]], False
    yield torch.stack((x, x), 2)[:, :, 1], False
    yield x[:, :, :1].expand_as(x), False  # memory that is shared
    yield torch.cat((x, x), 1)[:, x.shape[1] :], False


def test_strides_change_nothing_and_a_dense_tensor_is_not_copied(fused):
    case = Case((2, 19, 3, 4), 5)
    x, g = case.tensors()
    for view, is_dense in layouts(x):
        expected = case.solve(fused, view.contiguous(), g)
        output, gradient = case.solve(fused, view, g)
        assert torch.equal(output, expected[0])
        assert torch.equal(gradient, expected[1])
        assert output.stride() == torch.empty_like(view).stride()
        if is_dense:
            assert output.stride() == view.stride()
            assert Layout(view).planes(view).data_ptr() == view.data_ptr()


def test_an_upstream_gradient_may_have_any_strides(fused):
    case = Case((2, 19, 3, 4), 5)
    x, g = case.tensors()
    for view, _ in layouts(g):
        for laid_out in memory_formats(x):
            assert torch.equal(case.solve(fused, laid_out, view)[1], case.solve(fused, x, view.contiguous())[1])
    x.requires_grad_()
    summed = torch.autograd.grad(case.norm(x, fused).sum(), x)[0]
    assert torch.equal(summed, case.solve(fused, x, torch.ones_like(x))[1])


@pytest.mark.parametrize("shape", [(0, 7, 3, 5), (2, 7, 0, 5), (2, 0, 3, 5), (0, 7, 2), (2, 7, 0, 3, 5)])
def test_no_elements_are_no_elements(impl, shape):
    x = torch.empty(shape, device=DEVICE).requires_grad_()
    y = local_response_norm(x, 4, 2.0, impl=impl)
    assert y.shape == shape
    assert torch.autograd.grad(y.sum(), x)[0].shape == shape


def test_sharing_the_channels_out_changes_no_bit(monkeypatch):
    case = Case((2, 37, 3, 4), 9)
    x, g = case.tensors()
    for laid_out in memory_formats(x):
        with monkeypatch.context() as patch:
            shared = case.solve("triton", laid_out, g)
            whole = case.solve(force(patch, KERNELS[1]), laid_out, g)
        for left, right in zip(shared, whole, strict=True):
            assert torch.equal(left, right)


def test_tiles_change_no_bit(monkeypatch):
    case = Case((9, 7, 3, 5), 5)
    x, g = case.tensors()
    whole = case.solve("torch", x, g)
    tiled = case.solve(force(monkeypatch, "torch, short tiles"), x, g)
    for left, right in zip(whole, tiled, strict=True):
        assert torch.equal(left, right)


def test_two_runs_agree_to_the_bit_whatever_order_programs_run_in(fused):
    case = Case((2, 37, 9, 11), 5)
    x, g = case.tensors()
    orders = [contextlib.nullcontext()] * 3
    if DEVICE == "cpu" and fused == "triton":
        import faithful_interpreter

        orders = [faithful_interpreter.order(name) for name in ("forward", "reverse", "shuffled")]
    runs = []
    for order in orders:
        with order:
            runs.append(case.solve(fused, x, g))
    for run in runs[1:]:
        assert torch.equal(run[0], runs[0][0])
        assert torch.equal(run[1], runs[0][1])


def test_every_number_that_is_returned_has_been_written(fused):
    torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN
    try:
        for shape in SHAPES:
            for size in (1, 5, 9, 18):
                case = Case(shape, size)
                x, g = case.tensors()
                for laid_out in memory_formats(x):
                    assert all(result.isfinite().all() for result in case.solve(fused, laid_out, g))
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_second_backward_gives_the_same_gradient_and_inputs_stay_as_they_are(impl):
    case = Case((2, 19, 3, 4), 5)
    x, g = case.tensors()
    before = x.clone(), g.clone()
    x.requires_grad_()
    y = case.norm(x, impl)
    first = torch.autograd.grad(y, x, g, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(y, x, g, retain_graph=True)[0], first)
    (y + y).backward(g)
    torch.testing.assert_close(x.grad, 2 * first)
    assert torch.equal(x, before[0])
    assert torch.equal(g, before[1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, ValueError, r"size must be at least 1 channel and at most 1e\+18, got 0"),
        ({"size": 2**63}, ValueError, "size must be at least 1 channel and at most"),
        ({"size": 5.0}, TypeError, r"size must be an integer, got 5\.0"),
        ({"size": True}, TypeError, "size must be an integer, got True"),
        ({"size": torch.tensor(5)}, TypeError, r"size must be an integer, got tensor\(5\)"),
        ({"alpha": -1e-4}, ValueError, r"alpha must be at least 0 and at most 1e\+18, got -0.0001"),
        ({"alpha": float("nan")}, ValueError, "alpha must be at least 0 and at most .*, got nan"),
        ({"alpha": torch.tensor(1e-4)}, TypeError, "alpha must be a number, got Tensor"),
        ({"beta": "0.75"}, TypeError, "beta must be a number, got str"),
        ({"k": -1.0}, ValueError, "k must be at least 0 and at most .*, got -1"),
        ({"k": float("inf")}, ValueError, "k must be at least 0 and at most .*, got inf"),
        ({"beta": 0.0}, ValueError, "beta must be above 0: with 0 nothing is normalised"),
        ({"beta": float("inf")}, ValueError, "beta must be at least 0 and at most .*, got inf"),
        ({"window": "tf"}, ValueError, "window must be 'torch' or 'onnx', got 'tf'"),
        ({"input": torch.randn(2, 3)}, ValueError, "1 to 3 spatial dimensions"),
        ({"input": torch.randn(1, 2, 3, 4, 5, 6)}, ValueError, "1 to 3 spatial dimensions"),
        ({"input": torch.zeros(1, 2, 3).long()}, TypeError, "input must hold floating-point"),
        ({"impl": "triton"}, ValueError, "needs a CUDA tensor, got one on cpu"),
        ({"impl": "triton", "input": torch.zeros(1, 2, 3).double()}, ValueError, "needs a CUDA tensor|refuses float64"),
        ({"impl": "fast"}, ValueError, "impl must be one of 'auto', 'triton', 'torch', 'reference', got 'fast'"),
    ],
)
def test_bad_arguments_are_refused_in_one_clear_sentence(options, error, message, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(error, match=message):
        local_response_norm(**{"input": torch.randn(N, C, H, W), "size": 5} | options)


def test_the_largest_numbers_there_may_be_give_numbers(impl):
    case = Case((2, 7, 3), 10**18, alpha=1e18, beta=0.75, k=1e18)
    assert all(result.isfinite().all() for result in case.solve(impl, *case.tensors()))
    case = Case((2, 7, 3), np.int64(3), alpha=np.float32(1e18), beta=1, k=np.float64(1.0))
    assert all(result.isfinite().all() for result in case.solve(impl, *case.tensors()))


def test_float64_is_refused_by_the_kernels_and_taken_by_the_schedule():
    case = Case((2, 7, 3), 5, dtype=DOUBLE)
    x, _ = case.tensors()
    with pytest.raises(ValueError, match="computes in float32 and refuses float64"):
        case.norm(x, "triton")
    check(case, "auto")

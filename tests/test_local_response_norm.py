"""Local response normalisation, on its reference: torch's in float64, a loop, and inputs that break others."""

import pytest
import torch
import torch.nn.functional as F
from bounds import gamma

from lit_l2softmax.ops import local_response_norm

N, C, H, W = 2, 7, 3, 5
SIZES = [1, 2, 4, 5, 9, C, C + 3]


def activations(dtype=torch.float64, shape=(N, C, H, W)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(3).to(dtype)


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


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.3])
def test_it_is_torchs_in_float64(size, beta):
    x = activations()
    expected = F.local_response_norm(x, size, alpha=2.0, beta=beta, k=1.5)
    torch.testing.assert_close(local_response_norm(x, size, 2.0, beta, 1.5), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", ["torch", "onnx"])
def test_it_is_the_loop_in_either_window(size, window):
    x = activations()
    expected = loop(x, size, 2.0, 0.75, 1.0, window)
    torch.testing.assert_close(local_response_norm(x, size, 2.0, window=window), expected, rtol=1e-14, atol=1e-15)


def test_the_windows_differ_for_even_sizes_only():
    x = activations()
    for size in SIZES:
        same = torch.equal(local_response_norm(x, size, 2.0), local_response_norm(x, size, 2.0, window="onnx"))
        assert same == (size % 2 == 1)


def test_it_is_tensorflows_with_alpha_times_the_size():
    x = activations()
    depth_radius, bias, alpha, beta = 4, 1.0, 0.001 / 9, 0.75
    padded = F.pad(x.square(), (0, 0, 0, 0, depth_radius, depth_radius))
    window_sums = sum(padded[:, offset : offset + C] for offset in range(2 * depth_radius + 1))
    expected = x / (bias + alpha * window_sums) ** beta  # tf.nn.lrn's documented equation
    actual = local_response_norm(x, size=2 * depth_radius + 1, alpha=alpha * 9, beta=beta, k=bias)
    torch.testing.assert_close(actual, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("window", ["torch", "onnx"])
@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_gradients_of_both_orders_are_right(size, window):
    x = activations(shape=(2, 6, 2)).requires_grad_()

    def norm(x):
        return local_response_norm(x, size, 2.0, 0.75, window=window)

    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradgradcheck(norm, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_types_are_computed_in_float32_and_rounded_once(dtype):
    x = activations(dtype)
    x[0, 3, 1, 1] = 300.0  # its square is not a float16
    exact = local_response_norm(x.double(), 5, 2.0)
    actual = local_response_norm(x, 5, 2.0)
    assert actual.dtype == dtype
    # s: 5 squares, 4 additions, a product, an addition; the power passes .75 of that on and adds 4 ulp; a product.
    band = exact.abs() * gamma(20, torch.float32) + exact.abs() * torch.finfo(dtype).eps / 2
    assert ((actual.double() - exact).abs() <= band + torch.finfo(dtype).smallest_normal).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_channel_that_is_not_finite_stays_inside_its_windows(bad):
    x = activations()
    clean = local_response_norm(x, 3, 2.0)
    x[:, 2] = bad
    x.requires_grad_()
    y = local_response_norm(x, 3, 2.0)
    outside = [0, 4, 5, 6]
    assert torch.equal(y[:, outside], clean[:, outside])
    (dx,) = torch.autograd.grad(y[:, outside].sum(), x)
    assert dx[:, [5, 6]].isfinite().all()


def test_one_outlier_costs_no_precision_in_other_windows():
    x = activations(torch.float32)
    clean = local_response_norm(x, 3, 2.0)
    x[:, 0] = 1e4
    assert torch.equal(local_response_norm(x, 3, 2.0)[:, 2:], clean[:, 2:])


@pytest.mark.parametrize("shape", [(2, 7, 3), (2, 7, 3, 5), (2, 7, 3, 5, 2), (0, 7, 3, 5), (2, 1, 3, 5), (2, 7, 0, 5)])
def test_any_number_of_spatial_dimensions_and_no_elements_at_all(shape):
    x = activations(shape=shape)
    torch.testing.assert_close(
        local_response_norm(x, 4, 2.0), loop(x, 4, 2.0, 0.75, 1.0, "torch"), rtol=1e-14, atol=1e-15
    )


def test_strides_do_not_matter():
    x = activations()
    expected = local_response_norm(x, 5, 2.0)
    for view in (
        x.to(memory_format=torch.channels_last),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        F.pad(x, (0, 2))[..., :W],
    ):
        assert torch.equal(local_response_norm(view, 5, 2.0), expected)


def test_it_compiles_exports_and_ignores_autocast():
    x = activations(torch.float32)
    expected = local_response_norm(x, 5, 2.0)
    compiled = torch.compile(
        lambda x: local_response_norm(x, 5, 2.0), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    assert torch.equal(compiled(x), expected)
    assert torch.equal(compiled(x[:1, :5]), local_response_norm(x[:1, :5], 5, 2.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(local_response_norm(x, 5, 2.0), expected)

    class Norm(torch.nn.Module):
        def forward(self, x):
            return local_response_norm(x, 5, 2.0)

    torch.testing.assert_close(torch.export.export(Norm(), (x,)).module()(x), expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, ValueError, "size must be at least 1"),
        ({"window": "tf"}, ValueError, "window must be 'torch' or 'onnx', got 'tf'"),
        ({"input": torch.randn(2, 3)}, ValueError, "1 to 3 spatial dimensions"),
        ({"input": torch.randn(1, 2, 3, 4, 5, 6)}, ValueError, "1 to 3 spatial dimensions"),
        ({"input": torch.zeros(1, 2, 3).long()}, TypeError, "input must hold floating-point"),
        ({"impl": "triton"}, ValueError, "needs a CUDA tensor, got one on cpu"),
        ({"impl": "torch"}, NotImplementedError, "does not exist yet"),
    ],
)
def test_bad_arguments_are_refused_in_one_clear_sentence(options, error, message, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(error, match=message):
        local_response_norm(**{"input": activations(), "size": 5} | options)

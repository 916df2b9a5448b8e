"""The row operator, on its reference: what LogitNorm means, and the contract of its arguments."""

import math

import pytest
import torch
import torch.nn.functional as F
from bounds import gamma, softmax_cross_entropy_bound

from lit_l2softmax.ops import l2_softmax_cross_entropy

# torch.compile instantiates a Function where it traces one
DYNAMOS_OWN = "ignore:.*Function.> should not be instantiated:DeprecationWarning"
SHAPES = [(1, 2), (7, 1), (5, 13), (33, 100)]  # two classes, one class, primes, more rows than a warp


def logits(n, c, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, c, generator=generator, dtype=torch.float64).mul(3).to(dtype),
        torch.randint(c, (n,), generator=generator),
    )


@pytest.mark.parametrize(("n", "c"), SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_cross_entropy_of_normalised_scaled_logits(n, c, reduction, smoothing):
    x, y = logits(n, c)
    weight = torch.rand(c, dtype=torch.float64) + 0.5
    expected = F.cross_entropy(7 * F.normalize(x), y, weight, reduction=reduction, label_smoothing=smoothing)
    actual = l2_softmax_cross_entropy(x, y, alpha=7, weight=weight, reduction=reduction, label_smoothing=smoothing)
    torch.testing.assert_close(actual, expected, rtol=gamma(4 * c + 16, torch.float64), atol=1e-300)


def test_the_length_of_a_row_of_logits_does_not_matter():
    x, y = logits(5, 13)
    lengths = torch.tensor([1e-3, 1.0, 7.0, 1e3, 2.0**20], dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        l2_softmax_cross_entropy(lengths * x, y, alpha=5.0),
        l2_softmax_cross_entropy(x, y, alpha=5.0),
        rtol=1e-14,
        atol=0,
    )


def test_equal_logits_cost_log_c():
    loss = l2_softmax_cross_entropy(torch.full((3, 9), 4.0, dtype=torch.float64), torch.tensor([0, 4, 8]), alpha=11.0)
    assert abs(float(loss) - math.log(9)) < 1e-15 * 20


def test_a_vanishing_alpha_costs_log_c():
    x, y = logits(5, 13)
    assert abs(float(l2_softmax_cross_entropy(x, y, alpha=1e-12)) - math.log(13)) < 2.1e-12  # |l - l_y| <= 2 alpha


def test_gradients_of_both_orders_are_right_for_logits_and_a_learned_alpha():
    x, y = logits(4, 6)
    y[1] = -100
    x.requires_grad_()
    alpha = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(6, dtype=torch.float64) + 0.5

    def loss(x, alpha):
        return l2_softmax_cross_entropy(x, y, alpha=alpha, weight=weight, label_smoothing=0.1, reduction="none")

    assert torch.autograd.gradcheck(loss, (x, alpha))
    assert torch.autograd.gradgradcheck(loss, (x, alpha))


def test_the_gradient_has_no_radial_part():
    x, y = logits(5, 13)
    x.requires_grad_()
    (dx,) = torch.autograd.grad(l2_softmax_cross_entropy(x, y, alpha=16.0), x)
    assert (dx * x).sum(1).abs().max() < gamma(64, torch.float64) * (dx.norm(dim=1) * x.norm(dim=1)).max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_types_are_computed_and_returned_in_float32(dtype):
    x, y = logits(33, 100, dtype)
    loss = l2_softmax_cross_entropy(x.requires_grad_(), y, alpha=16.0, reduction="none")
    assert loss.dtype == torch.float32
    exact = l2_softmax_cross_entropy(x.detach().double(), y, alpha=16.0, reduction="none")
    assert exact.dtype == torch.float64
    bound = softmax_cross_entropy_bound(100, gamma(100 // 2 + 4, torch.float32) * 16, 16, torch.float32)
    assert (loss - exact).abs().max() <= bound
    loss.sum().backward()
    assert x.grad.dtype == dtype


def test_ignored_rows_have_no_loss_and_no_gradient():
    x, y = logits(5, 13)
    y[[1, 3]] = 7
    x.requires_grad_()
    loss = l2_softmax_cross_entropy(x, y, alpha=4.0, ignore_index=7)
    (dx,) = torch.autograd.grad(loss, x)
    kept = (y != 7).nonzero()[:, 0]
    torch.testing.assert_close(loss, l2_softmax_cross_entropy(x[kept], y[kept], alpha=4.0))
    assert not dx[[1, 3]].any()


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mean_over_no_rows_is_nan_with_zero_gradients_as_in_torch(rows, smoothing):
    x = torch.randn(rows, 5, requires_grad=True)
    y = torch.full((rows,), -100)
    loss = l2_softmax_cross_entropy(x, y, alpha=4.0, label_smoothing=smoothing)
    assert loss.isnan()
    assert F.cross_entropy(x, y, label_smoothing=smoothing).isnan()
    assert not torch.autograd.grad(loss, x)[0].nan_to_num(nan=9.0).any()
    assert l2_softmax_cross_entropy(x, y, alpha=4.0, reduction="sum", label_smoothing=smoothing) == 0


def test_a_row_shorter_than_eps_has_a_finite_loss_and_a_zero_gradient():
    x = torch.tensor([[0.0, 0.0, 0.0], [1e-15, 0.0, -1e-15], [1.0, 2.0, -1.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 2])
    loss = l2_softmax_cross_entropy(x, y, alpha=4.0, reduction="none")
    torch.testing.assert_close(loss, F.cross_entropy(4 * F.normalize(x), y, reduction="none"))
    (dx,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
    assert not dx[:2].any()
    assert dx[2].any()
    (ddx,) = torch.autograd.grad(dx.square().sum(), x)
    assert ddx.isfinite().all()


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_a_poisoned_row_is_nan_and_leaves_the_others_bitwise_untouched(poison):
    x, y = logits(5, 13, torch.float32)
    clean = l2_softmax_cross_entropy(x, y, alpha=4.0, reduction="none")
    x[2, 4] = poison
    x.requires_grad_()
    loss = l2_softmax_cross_entropy(x, y, alpha=4.0, reduction="none")
    others = [0, 1, 3, 4]
    assert loss[2].isnan()
    assert torch.equal(loss[others], clean[others])
    loss.sum().backward()
    assert x.grad[others].isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.float32, 1e17),
        (torch.float32, 1e-15),
        (torch.float16, 65504.0),
        (torch.float16, 1e-7),
        (torch.bfloat16, 1e17),
    ],
)
def test_large_and_tiny_rows_stay_finite_as_far_as_their_type_can_hold_the_gradient(dtype, value):
    x = (torch.randn(4, 9).sign() * value).to(dtype).requires_grad_()
    y = torch.tensor([0, 1, 2, 3])
    loss = l2_softmax_cross_entropy(x, y, alpha=4.0)
    assert loss.isfinite()
    loss.backward()
    exact = x.detach().double().requires_grad_()
    l2_softmax_cross_entropy(exact, y, alpha=4.0).backward()
    # A row of length 3e-7 has a gradient of some 1e6, and float16 ends at 65,504.
    holdable = exact.grad.abs() < 0.99 * torch.finfo(dtype).max
    assert holdable.any()
    assert x.grad[holdable].isfinite().all()


def test_a_large_common_offset_in_the_logits_does_not_overflow():
    x, y = logits(5, 13, torch.float32)
    for offset in (1e4, -1e4):
        assert l2_softmax_cross_entropy(x + offset, y, alpha=1e4).isfinite()


def views(x):
    n, c = x.shape
    yield "contiguous", x
    yield "transposed", x.T.contiguous().T
    yield "every other column", torch.stack((x, x), -1).view(n, 2 * c)[:, ::2]
    yield "padded rows", F.pad(x, (0, 3))[:, :c]
    yield "broadcast rows", x[:1].expand(n, c)


def test_strides_do_not_matter():
    x, y = logits(5, 13)
    for name, view in views(x):
        actual = l2_softmax_cross_entropy(view, y, alpha=4.0, reduction="none")
        assert torch.equal(actual, l2_softmax_cross_entropy(view.contiguous(), y, alpha=4.0, reduction="none")), name


def test_a_second_backward_gives_the_same_gradient_and_inputs_are_not_modified():
    x, y = logits(5, 13)
    before = x.clone(), y.clone()
    x.requires_grad_()
    loss = l2_softmax_cross_entropy(x, y, alpha=4.0)
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss, x)
    assert torch.equal(first, second)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


def test_autocast_does_not_change_a_bit():
    x, y = logits(5, 13, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = l2_softmax_cross_entropy(x, y, alpha=4.0)
    assert torch.equal(inside, l2_softmax_cross_entropy(x, y, alpha=4.0))


@pytest.mark.filterwarnings(DYNAMOS_OWN)
def test_it_compiles_without_a_graph_break_for_any_size():
    compiled = torch.compile(
        lambda x, y: l2_softmax_cross_entropy(x, y, alpha=4.0, reduction="none"),
        fullgraph=True,
        dynamic=True,
        backend="aot_eager",
    )
    for n, c in SHAPES[2:]:
        x, y = logits(n, c)
        x.requires_grad_()
        (dx,) = torch.autograd.grad(compiled(x, y).sum(), x)
        (expected,) = torch.autograd.grad(l2_softmax_cross_entropy(x, y, alpha=4.0, reduction="sum"), x)
        torch.testing.assert_close(dx, expected)


def test_func_grad_and_export_see_through_it():
    x, y = logits(5, 13)
    expected = torch.autograd.grad(l2_softmax_cross_entropy(x.requires_grad_(), y, alpha=4.0), x)[0]
    torch.testing.assert_close(
        torch.func.grad(lambda x: l2_softmax_cross_entropy(x, y, alpha=4.0))(x.detach()), expected
    )

    class Loss(torch.nn.Module):
        def forward(self, x, y):
            return l2_softmax_cross_entropy(x, y, alpha=4.0)

    exported = torch.export.export(Loss(), (x.detach(), y)).module()
    torch.testing.assert_close(exported(x.detach(), y), l2_softmax_cross_entropy(x.detach(), y, alpha=4.0))

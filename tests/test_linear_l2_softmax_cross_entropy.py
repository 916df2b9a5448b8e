"""The linear operator, on its reference: the L2-constrained loss, its margins, and the contract of its arguments."""

import math

import pytest
import torch
import torch.nn.functional as F
from bounds import gamma, linear_l2_loss_bound

from lit_l2softmax.ops import l2_softmax_cross_entropy, linear_l2_softmax_cross_entropy

# torch.compile instantiates a Function where it traces one
DYNAMOS_OWN = "ignore:.*Function.> should not be instantiated:DeprecationWarning"
SHAPES = [(1, 3, 2), (7, 5, 1), (5, 13, 11), (20, 64, 10)]  # two classes, one class, primes, the tutorials'


def problem(n, d, c, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return normal(n, d), normal(c, d), torch.randint(c, (n,), generator=generator), normal(c)


def close_in_float64(actual, expected, operations):
    torch.testing.assert_close(actual, expected, rtol=gamma(operations, torch.float64), atol=1e-15)


@pytest.mark.parametrize(("n", "d", "c"), SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("normalize_weight", [False, True])
def test_it_is_cross_entropy_of_a_classifier_on_features_of_length_alpha(
    n, d, c, reduction, smoothing, normalize_weight
):
    x, w, y, b = problem(n, d, c)
    bias = None if normalize_weight else b
    weight = torch.rand(c, dtype=torch.float64) + 0.5
    expected = F.cross_entropy(
        F.linear(6 * F.normalize(x), F.normalize(w) if normalize_weight else w, bias),
        y,
        weight,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    actual = linear_l2_softmax_cross_entropy(
        x,
        w,
        y,
        linear_bias=bias,
        alpha=6,
        normalize_weight=normalize_weight,
        weight=weight,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    close_in_float64(actual, expected, 100 * (d + c))


def test_it_is_not_the_normalisation_of_logits():
    x, w, y, _ = problem(5, 13, 11)
    features = linear_l2_softmax_cross_entropy(x, w, y, alpha=6.0)
    assert (features - l2_softmax_cross_entropy(x @ w.T, y, alpha=6.0)).abs() > 0.1


def loop_over_angles(x, w, y, alpha, angular, cosine):
    """NormFace, CosFace and ArcFace as their papers write them: angle by angle, in Python's own arithmetic."""
    losses = []
    for row, label in zip(x.tolist(), y.tolist(), strict=True):
        scores = []
        for j, column in enumerate(w.tolist()):
            c = sum(a * b for a, b in zip(row, column, strict=True)) / (math.hypot(*row) * math.hypot(*column))
            if j == label:
                theta = math.acos(c)
                c = math.cos(theta + angular) if theta + angular <= math.pi else c - angular * math.sin(angular)
                c -= cosine
            scores.append(alpha * c)
        losses.append(math.log(sum(math.exp(s) for s in scores)) - scores[label])
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("angular", [0.0, 0.5, 2.5])  # 2.5 radians push many angles past pi
@pytest.mark.parametrize("cosine", [0.0, 0.35, -0.2])
def test_margins_are_those_of_the_papers(angular, cosine):
    x, w, y, _ = problem(40, 3, 11)  # three dimensions spread the angles over [0, pi]
    actual = linear_l2_softmax_cross_entropy(
        x, w, y, alpha=8.0, normalize_weight=True, angular_margin=angular, cosine_margin=cosine, reduction="none"
    )
    theta = torch.acos((F.normalize(x) * F.normalize(w)[y]).sum(1))
    if angular == 2.5:
        assert (theta + angular > math.pi).any()
        assert (theta + angular < math.pi).any()
    torch.testing.assert_close(actual, loop_over_angles(x, w, y, 8.0, angular, cosine), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize_weight": True},
        {"normalize_weight": True, "angular_margin": 0.5},
        {"normalize_weight": True, "angular_margin": 2.5, "cosine_margin": 0.2},
    ],
    ids=str,
)
def test_gradients_of_both_orders_are_right_for_every_input(options):
    x, w, y, b = problem(5, 3, 4)
    y[2] = -100
    alpha = torch.tensor(3.0, dtype=torch.float64)
    weight = torch.rand(4, dtype=torch.float64) + 0.5
    inputs = [t.requires_grad_() for t in ((x, w, alpha) if options else (x, w, alpha, b))]

    def loss(x, w, alpha, b=None):
        return linear_l2_softmax_cross_entropy(
            x, w, y, linear_bias=b, alpha=alpha, weight=weight, label_smoothing=0.1, reduction="none", **options
        )

    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_feature_on_its_class_or_opposite_to_it_has_a_finite_gradient_under_an_angular_margin(dtype, direction):
    w = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    x = (direction * 2 * w.detach()[[1, 3]]).requires_grad_()
    linear_l2_softmax_cross_entropy(
        x, w, torch.tensor([1, 3]), alpha=16.0, normalize_weight=True, angular_margin=0.5
    ).backward()
    assert x.grad.isfinite().all()
    assert w.grad.isfinite().all()


@pytest.mark.parametrize(
    "dtypes", [(torch.float32,) * 2, (torch.bfloat16,) * 2, (torch.float16, torch.float32)], ids=str
)
def test_half_and_mixed_types_are_computed_in_float32_within_its_rounding(dtypes):
    x, w, y, b = problem(20, 64, 10)
    x, w, b = x.to(dtypes[0]), w.to(dtypes[1]), b.float()
    loss = linear_l2_softmax_cross_entropy(x, w, y, linear_bias=b, alpha=16.0, reduction="none")
    exact = linear_l2_softmax_cross_entropy(
        x.double(), w.double(), y, linear_bias=b.double(), alpha=16.0, reduction="none"
    )
    assert loss.dtype == torch.float32
    assert (loss - exact).abs().max() <= linear_l2_loss_bound(x, w, 16.0, float(b.abs().max()), torch.float32)


def test_either_side_may_be_frozen():
    x, w, y, b = problem(5, 13, 11)
    full = [t.clone().requires_grad_() for t in (x, w, b)]
    loss = linear_l2_softmax_cross_entropy(full[0], full[1], y, linear_bias=full[2], alpha=6.0)
    gradients = torch.autograd.grad(loss, full)
    for position, expected in enumerate(gradients):
        inputs = [x, w, b]
        inputs[position] = inputs[position].clone().requires_grad_()
        alone = linear_l2_softmax_cross_entropy(inputs[0], inputs[1], y, linear_bias=inputs[2], alpha=6.0)
        assert torch.equal(torch.autograd.grad(alone, inputs[position])[0], expected)


def test_ignored_rows_have_no_loss_and_no_gradient_with_and_without_a_margin():
    x, w, y, _ = problem(6, 13, 11)
    y[[0, 4]] = -100
    kept = [1, 2, 3, 5]
    for margin in (0.0, 0.5):
        x.requires_grad_()
        loss = linear_l2_softmax_cross_entropy(x, w, y, alpha=6.0, normalize_weight=True, angular_margin=margin)
        expected = linear_l2_softmax_cross_entropy(
            x[kept], w, y[kept], alpha=6.0, normalize_weight=True, angular_margin=margin
        )
        torch.testing.assert_close(loss, expected)
        assert not torch.autograd.grad(loss, x)[0][[0, 4]].any()


@pytest.mark.parametrize("rows", [0, 3])
def test_a_mean_over_no_rows_is_nan_with_zero_gradients_as_in_torch(rows):
    x, w, _, _ = problem(rows, 4, 5)
    x.requires_grad_()
    w.requires_grad_()
    loss = linear_l2_softmax_cross_entropy(x, w, torch.full((rows,), -100), alpha=6.0)
    assert loss.isnan()
    for gradient in torch.autograd.grad(loss, (x, w)):
        assert not gradient.nan_to_num(nan=9.0).any()


def test_the_length_of_features_does_not_matter_but_their_direction_does():
    x, w, y, b = problem(5, 13, 11)
    base = linear_l2_softmax_cross_entropy(x, w, y, linear_bias=b, alpha=6.0)
    close_in_float64(linear_l2_softmax_cross_entropy(7 * x, w, y, linear_bias=b, alpha=6.0), base, 100)
    assert linear_l2_softmax_cross_entropy(-x, w, y, linear_bias=b, alpha=6.0) != base


def test_a_zero_feature_has_the_bias_for_logits_and_a_zero_gradient():
    x, w, y, b = problem(3, 13, 11)
    x[1] = 0
    x.requires_grad_()
    loss = linear_l2_softmax_cross_entropy(x, w, y, linear_bias=b, alpha=6.0, reduction="none")
    torch.testing.assert_close(loss[1], F.cross_entropy(b, y[1]))
    assert not torch.autograd.grad(loss.sum(), x)[0][1].any()


def test_rows_shorter_than_eps_are_divided_by_it_features_and_class_weights_alike():
    x, w, y, _ = problem(4, 5, 3)
    x[1] *= 0.01
    w[2] *= 0.01
    eps = 0.5
    unit = [t / t.norm(dim=1, keepdim=True).clamp_min(eps) for t in (x, w)]
    x.requires_grad_()
    w.requires_grad_()
    loss = linear_l2_softmax_cross_entropy(x, w, y, alpha=6.0, normalize_weight=True, eps=eps, reduction="none")
    close_in_float64(loss, F.cross_entropy(6 * unit[0] @ unit[1].T, y, reduction="none"), 500)
    dx, dw = torch.autograd.grad(loss.sum(), (x, w))
    assert not dx[1].any()
    assert not dw[2].any()
    assert dx[[0, 2, 3]].abs().sum(1).all()
    assert dw[[0, 1]].abs().sum(1).all()


def test_a_row_exactly_as_long_as_eps_has_a_gradient():
    x, w, y, _ = problem(1, 2, 3)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(linear_l2_softmax_cross_entropy(x, w, y, alpha=6.0, eps=1.0), x)
    assert dx[0, 1] != 0


def test_types_may_differ_and_float64_anywhere_decides():
    x, w, y, b = problem(20, 64, 10)
    weight = torch.rand(10) + 0.5
    expected = linear_l2_softmax_cross_entropy(
        x.float().double(), w, y, linear_bias=b, alpha=6.0, weight=weight.double()
    )
    actual = linear_l2_softmax_cross_entropy(x.float(), w, y, linear_bias=b, alpha=6.0, weight=weight)
    assert actual.dtype == torch.float64
    close_in_float64(actual, expected, 1000)
    mixed = linear_l2_softmax_cross_entropy(
        x.bfloat16(), w.half(), y, linear_bias=b.bfloat16(), alpha=6.0, weight=weight.half()
    )
    assert mixed.dtype == torch.float32


def test_ignore_index_may_be_a_class_under_a_margin():
    x, w, y, _ = problem(6, 5, 4)
    y = torch.tensor([0, 1, 2, 3, 1, 0])
    options = {"alpha": 6.0, "normalize_weight": True, "angular_margin": 0.5, "reduction": "none"}
    ignoring = linear_l2_softmax_cross_entropy(x, w, y, ignore_index=1, **options)
    plain = linear_l2_softmax_cross_entropy(x, w, y, **options)
    assert not ignoring[[1, 4]].any()
    assert torch.equal(ignoring[[0, 2, 3, 5]], plain[[0, 2, 3, 5]])


def test_a_margin_is_exact_close_to_the_class_too():
    w = F.normalize(torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    for angle in (1e-3, 1e-5):
        orthogonal = F.normalize(w[1] - (w[1] @ w[0]) * w[0], dim=0)
        x = (math.cos(angle) * w[0] + math.sin(angle) * orthogonal)[None]
        loss = linear_l2_softmax_cross_entropy(
            x, w, torch.tensor([0]), alpha=8.0, normalize_weight=True, angular_margin=0.5
        )
        scores = 8 * (x @ w.T)[0]
        scores[0] = 8 * math.cos(angle + 0.5)
        # c = cos(angle) is off by its rounding u, which sqrt(1 - c^2) turns into u / angle
        torch.testing.assert_close(loss, scores.logsumexp(0) - scores[0], rtol=0, atol=8 * 20 * 1.2e-16 / angle)


def test_a_learned_alpha_may_be_a_half_type():
    x, w, y, b = problem(5, 13, 11, torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        alpha = torch.tensor(6.0, dtype=dtype, requires_grad=True)
        loss = linear_l2_softmax_cross_entropy(x, w, y, linear_bias=b, alpha=alpha)
        assert torch.equal(loss, linear_l2_softmax_cross_entropy(x, w, y, linear_bias=b, alpha=6.0))
        loss.backward()
        assert alpha.grad.dtype == dtype
        assert alpha.grad != 0


def test_autocast_does_not_change_a_bit():
    x, w, y, b = problem(5, 13, 11, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = linear_l2_softmax_cross_entropy(x, w, y, linear_bias=b, alpha=6.0)
    assert torch.equal(inside, linear_l2_softmax_cross_entropy(x, w, y, linear_bias=b, alpha=6.0))


@pytest.mark.filterwarnings(DYNAMOS_OWN)
def test_it_compiles_without_a_graph_break_for_any_size():
    def loss(x, w, y, alpha):
        return linear_l2_softmax_cross_entropy(x, w, y, alpha=alpha, normalize_weight=True, angular_margin=0.5)

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    alpha = torch.tensor(6.0, dtype=torch.float64, requires_grad=True)
    for n, d, c in SHAPES[2:]:
        x, w, y, _ = problem(n, d, c)
        inputs = x.requires_grad_(), w.requires_grad_(), alpha
        actual = torch.autograd.grad(compiled(x, w, y, alpha), inputs)
        torch.testing.assert_close(actual, torch.autograd.grad(loss(x, w, y, alpha), inputs))


def test_func_grad_and_export_see_through_it():
    x, w, y, b = problem(5, 13, 11)

    class Loss(torch.nn.Module):
        def forward(self, x, w, y, b):
            return linear_l2_softmax_cross_entropy(x, w, y, linear_bias=b, alpha=6.0)

    loss = Loss()
    expected = torch.autograd.grad(loss(x, w.requires_grad_(), y, b), w)[0]
    w = w.detach()
    torch.testing.assert_close(torch.func.grad(loss.forward, argnums=1)(x, w, y, b), expected)
    torch.testing.assert_close(torch.export.export(loss, (x, w, y, b)).module()(x, w, y, b), loss(x, w, y, b))

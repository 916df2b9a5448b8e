"""The heads: their loss is the operator's, their features lie on the sphere, the tutorial's keeps its bugs."""

import math
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from bounds import gamma, l2_softmax_bounds, linear_l2_loss_bound, unit_roundoff
from sklearn.datasets import load_digits
from softmax_cases import Case, exact_parts

from lit_l2softmax.layers import L2SoftmaxLoss, LocalResponseNorm, TutorialL2SoftmaxHead
from lit_l2softmax.ops import linear_l2_softmax_cross_entropy

D, C, N = 24, 10, 20


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, D, generator=generator) * 3, torch.randint(C, (N,), generator=generator)


@pytest.mark.parametrize("alpha", [5.0, 16.0, 50.0])
def test_constrained_features_have_length_alpha(batch, alpha):
    lengths = L2SoftmaxLoss(D, C, alpha).constrain(batch[0]).double().norm(dim=1)
    assert (lengths / alpha - 1).abs().max() < 1e-5


@pytest.mark.parametrize("options", [{}, {"learn_alpha": True}, {"normalize_weight": True}], ids=str)
def test_the_loss_composed_from_the_constrained_features_is_the_operators(batch, options):
    torch.manual_seed(0)
    head = L2SoftmaxLoss(D, C, 16.0, **options)
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    composed = F.cross_entropy(head.logits(batch[0]), batch[1]).detach()
    weight = F.normalize(head.weight) if head.normalize_weight else head.weight
    bias_size = 0.0 if head.bias is None else float(head.bias.detach().abs().max())
    bound = 2 * linear_l2_loss_bound(batch[0], weight, 16.0, bias_size, torch.float32)
    assert (head(*batch).detach() - composed).abs() <= bound
    assert bound < 1e-3


def test_margins_are_in_the_loss_and_not_in_the_logits(batch):
    torch.manual_seed(0)
    plain = L2SoftmaxLoss(D, C, 16.0, normalize_weight=True)
    margin = L2SoftmaxLoss(D, C, 16.0, normalize_weight=True, angular_margin=0.3, cosine_margin=0.1)
    margin.load_state_dict(plain.state_dict())
    assert torch.equal(margin.logits(batch[0]), plain.logits(batch[0]))
    expected = linear_l2_softmax_cross_entropy(
        batch[0], plain.weight, batch[1], alpha=16.0, normalize_weight=True, angular_margin=0.3, cosine_margin=0.1
    )
    assert torch.equal(margin(*batch), expected)
    assert margin(*batch) > plain(*batch)


def test_alpha_0_is_the_plain_softmax(batch):
    head = L2SoftmaxLoss(D, C, alpha=0)
    assert torch.equal(head.constrain(batch[0]), batch[0])
    assert torch.equal(head(*batch), F.cross_entropy(F.linear(batch[0], head.weight, head.bias), batch[1]))


def test_a_learned_alpha_is_a_parameter_with_a_gradient_and_a_fixed_one_is_not(batch):
    learned, fixed = L2SoftmaxLoss(D, C, learn_alpha=True), L2SoftmaxLoss(D, C)
    learned(*batch).backward()
    assert learned.alpha.grad.abs() > 0
    assert "alpha" in dict(learned.named_parameters())
    assert "alpha" not in dict(fixed.named_parameters())


def test_it_starts_from_glorots_uniform_distribution():
    torch.manual_seed(0)
    head = L2SoftmaxLoss(1024, 10)
    limit = math.sqrt(6 / (1024 + 10))
    assert 0.99 * limit < float(head.weight.detach().abs().max()) <= limit
    assert not head.bias.any()


@pytest.mark.parametrize(
    ("alpha", "classes", "warned"),
    [(4.2, 10, True), (4.3, 10, False), (0, 10, False), (0.5, 2, False), (9.0, 1000, True)],
)
def test_a_fixed_alpha_under_the_papers_bound_is_warned_of(alpha, classes, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        L2SoftmaxLoss(D, classes, alpha)
    assert len(caught) == warned
    if warned:
        assert "below the lower bound" in str(caught[0].message)


@pytest.mark.parametrize("head", [L2SoftmaxLoss(D, C, alpha=0), TutorialL2SoftmaxHead(D, C, alpha=0, dropout=0.0)])
def test_the_plain_softmax_of_half_types_is_computed_in_float32(batch, head):
    loss = head.to(torch.bfloat16)(batch[0].bfloat16(), batch[1])
    assert loss.dtype == torch.float32
    logits = head.logits(batch[0].bfloat16())
    torch.testing.assert_close(
        loss, F.cross_entropy(logits.float(), batch[1]), rtol=gamma(C + 10, torch.float32), atol=0
    )


def test_a_learned_alpha_may_start_anywhere():
    L2SoftmaxLoss(D, C, alpha=1.0, learn_alpha=True)


@pytest.mark.parametrize("head", [L2SoftmaxLoss, TutorialL2SoftmaxHead])
@pytest.mark.parametrize("alpha", [-1.0, float("nan"), float("inf")])
def test_an_impossible_alpha_is_refused(head, alpha):
    with pytest.raises(ValueError, match="alpha must be 0 "):
        head(D, C, alpha)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0, "learn_alpha": True},
        {"alpha": 0, "normalize_weight": True},
        {"angular_margin": 0.5},
        {"cosine_margin": 0.1},
    ],
    ids=str,
)
def test_options_that_need_a_sphere_are_refused_without_one(options):
    with pytest.raises(ValueError, match=r"need .*normalize_weight=True|need a positive alpha"):
        L2SoftmaxLoss(D, C, **options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_head_of_another_type_keeps_its_features_precise(batch, dtype):
    head = L2SoftmaxLoss(D, C).to(dtype)
    features = batch[0].to(dtype)
    assert head.logits(features).dtype == dtype
    lengths = head.constrain(features).double().norm(dim=1)
    assert (lengths / 16 - 1).abs().max() < 1e-5
    assert head(features, batch[1]).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_print_shows_what_matters():
    assert repr(L2SoftmaxLoss(D, C)) == "L2SoftmaxLoss(24, 10, alpha=16)"
    assert repr(L2SoftmaxLoss(D, C, learn_alpha=True)) == "L2SoftmaxLoss(24, 10, alpha=16, learned)"
    assert repr(TutorialL2SoftmaxHead(D, C)) == "TutorialL2SoftmaxHead(24, 10, alpha=50 a batch, dropout=0.75 after it)"


def test_the_tutorials_head_is_the_specifications_equation(batch):
    torch.manual_seed(0)
    head = TutorialL2SoftmaxHead(D, C, alpha=50.0, dropout=0.0)
    features, labels = batch
    scaled = 50.0 * features / features.square().sum().sqrt()  # tf.norm without an axis: one norm for the whole batch
    expected = F.cross_entropy(F.linear(scaled, head.weight, head.bias), labels)
    torch.testing.assert_close(head(features, labels), expected, rtol=gamma(D * N + 100, torch.float32), atol=0)
    lengths = scaled.norm(dim=1)
    assert lengths.square().sum().sqrt() == pytest.approx(50.0, rel=1e-5)
    assert lengths.max() / lengths.min() > 1.2  # not a constraint on each sample


def test_the_tutorials_head_drops_after_the_norm_in_evaluation_too(batch):
    head = TutorialL2SoftmaxHead(D, C).eval()
    losses = {head(*batch).item() for _ in range(5)}
    assert len(losses) == 5


def test_the_tutorials_dropout_drops_three_quarters_and_multiplies_the_rest_by_four(batch, monkeypatch):
    head = TutorialL2SoftmaxHead(D, C)
    seen = []
    monkeypatch.setattr(head, "logits", lambda features: seen.append(features) or F.linear(features, head.weight))
    for _ in range(50):
        head(*batch)
    scaled = 50.0 * batch[0] / batch[0].square().sum().sqrt()
    dropped = torch.stack(seen)
    share = float((dropped == 0).float().mean())
    # 24,000 draws of .75: five standard deviations are 5 sqrt(.75 .25 / 24000) = .014
    assert abs(share - 0.75) < 0.014
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 4 * scaled.expand_as(dropped)[kept])


def test_the_tutorials_scores_skip_its_constraint(batch):
    head = TutorialL2SoftmaxHead(D, C)
    assert torch.equal(head.logits(batch[0]), F.linear(batch[0], head.weight, head.bias))
    assert torch.equal(head.constrain(batch[0]), batch[0])


def test_the_tutorials_alpha_0_is_its_plain_softmax_with_dropout(batch):
    head = TutorialL2SoftmaxHead(D, C, alpha=0, dropout=0.0)
    assert torch.equal(head(*batch), F.cross_entropy(F.linear(batch[0], head.weight, head.bias), batch[1]))


def test_a_training_through_the_fused_operator_and_through_its_reference_is_the_same(monkeypatch):
    """200 steps of a head on real digits, apart by no more than what rounding can make of it.

    The loss is convex in the class weights and the bias. Its second derivative is at most L = (alpha^2 + 1) / 2, so a
    gradient step shorter than 2 / L brings two points no further apart: what the trainings differ by is at most the sum
    of what their steps add, a gradient's error times the step and the rounding of the update.
    """
    digits = load_digits()
    features = torch.tensor(digits.data[:200]).float()
    labels = torch.tensor(digits.target[:200])
    alpha, step = 16.0, 0.01
    assert step < 2 / ((alpha**2 + 1) / 2)
    single = partial(linear_l2_softmax_cross_entropy, impl="reference")
    trained = {}
    for name in ("fused", "reference"):
        torch.manual_seed(0)
        head = L2SoftmaxLoss(64, 10, alpha)
        if name == "reference":
            monkeypatch.setattr("lit_l2softmax.layers.linear_l2_softmax_cross_entropy", single)
        optimizer = torch.optim.SGD(head.parameters(), step)
        curve, apart, unit = [], [0.0], unit_roundoff(torch.float32)
        for _ in range(200):
            optimizer.zero_grad()
            loss = head(features, labels)
            loss.backward()
            optimizer.step()
            case = Case(200, 64, 10, alpha=alpha, bias=True, ignored=())
            inputs = {"input": features, "linear_weight": head.weight.detach(), "linear_bias": head.bias.detach()}
            parts = exact_parts(case, inputs, labels, None, torch.tensor(1.0).double(), {"loss": loss.detach()})
            bounds = l2_softmax_bounds(parts, torch.float32)
            error = sum(bounds[name].square().sum() for name in ("linear_weight", "linear_bias")).sqrt()
            rounding = 2 * unit * sum(p.detach().double().square().sum() for p in head.parameters()).sqrt()
            apart.append(apart[-1] + 2 * float(step * error + rounding))
            curve.append((loss.item(), bounds["loss"].mean().item()))
        trained[name] = curve
    assert trained["fused"][-1][0] < 0.5 * trained["fused"][0][0]
    for (fused, bound), (reference, _), distance in zip(*trained.values(), apart[:-1], strict=True):
        assert abs(fused - reference) <= 2 * bound + math.sqrt(2 * (alpha**2 + 1)) * distance
    assert apart[-1] * math.sqrt(2 * (alpha**2 + 1)) < 0.1 * trained["fused"][0][0]  # the bound says something


def activations(dtype=torch.float64):
    return torch.randn(2, 11, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(3).to(dtype)


@pytest.mark.parametrize("arguments", [(5,), (4, 2.0), (9, 1e-3, 0.75, 1.0), (20, 3.0, 0.5, 2.0)])
def test_local_response_norm_takes_torchs_arguments_and_gives_its_results(arguments):
    x = activations()
    mine, torchs = LocalResponseNorm(*arguments), torch.nn.LocalResponseNorm(*arguments)
    torch.testing.assert_close(mine(x), torchs(x), rtol=1e-14, atol=1e-15)
    assert not mine.state_dict()  # a network may take either's checkpoint


def test_local_response_norm_with_onnxs_window_looks_the_other_way():
    x = activations()
    mirrored = LocalResponseNorm(4, 2.0)(x.flip(1)).flip(1)
    torch.testing.assert_close(LocalResponseNorm(4, 2.0, window="onnx")(x), mirrored, rtol=1e-14, atol=1e-15)
    assert not torch.equal(LocalResponseNorm(4, 2.0)(x), mirrored)


@pytest.mark.parametrize("arguments", [{"depth_radius": 4, "bias": 1.0, "alpha": 0.001 / 9, "beta": 0.75}, {}])
def test_local_response_norm_takes_tensorflows_numbers_as_they_are(arguments):
    x = activations()
    # tf.nn.local_response_normalization's documented equation and defaults
    numbers = {"depth_radius": 5, "bias": 1.0, "alpha": 1.0, "beta": 0.5} | arguments
    radius = numbers["depth_radius"]
    padded = F.pad(x**2, (0, 0, 0, 0, radius, radius))
    sums = sum(padded[:, offset : offset + 11] for offset in range(2 * radius + 1))
    expected = x / (numbers["bias"] + numbers["alpha"] * sums) ** numbers["beta"]
    torch.testing.assert_close(LocalResponseNorm.tensorflow(**arguments)(x), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_local_response_norm_takes_half_types_on_a_cpu_where_torchs_refuses(dtype):
    x = activations(dtype)
    assert LocalResponseNorm(5)(x).dtype == dtype
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.nn.LocalResponseNorm(5)(x)


def test_print_shows_a_normalisations_numbers():
    assert repr(LocalResponseNorm(9, 1e-3)) == "LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1)"
    assert repr(LocalResponseNorm(4, window="onnx")).endswith("k=1, window='onnx')")


def test_a_normalisation_that_cannot_be_is_refused_where_it_is_made():
    with pytest.raises(TypeError, match=r"size must be an integer, got 5\.0"):
        LocalResponseNorm(5.0)
    with pytest.raises(ValueError, match="window must be 'torch' or 'onnx'"):
        LocalResponseNorm(5, window="tf")
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        LocalResponseNorm.tensorflow(alpha=-1.0)


def test_class_weights_can_start_from_a_cut_normal():
    torch.manual_seed(0)
    weight = L2SoftmaxLoss(5000, 20, alpha=0.0, weight_std=0.01).weight.detach()
    assert 0.0199 < weight.abs().max() <= 0.02
    # A normal cut at two deviations has .8796 of its deviation; that of n numbers is off by some 1 / sqrt(2 n).
    assert abs(weight.std() / (0.8796 * 0.01) - 1) < 5 / (2 * weight.numel()) ** 0.5
    for std in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weight_std must be a finite positive number, got"):
            L2SoftmaxLoss(4, 3, weight_std=std)

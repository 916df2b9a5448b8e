"""What both softmax operators refuse, and in which words."""

import pytest
import torch

from lit_l2softmax.ops import l2_softmax_cross_entropy, linear_l2_softmax_cross_entropy

N, D, C = 4, 5, 3
# torch.compile instantiates a Function where it traces one
DYNAMOS_OWN = "ignore:.*Function.> should not be instantiated:DeprecationWarning"


def rows(input=None, target=None, **options):
    input = torch.randn(N, C) if input is None else input
    return l2_softmax_cross_entropy(
        input, torch.zeros(N).long() if target is None else target, **{"alpha": 4.0} | options
    )


def linear(input=None, target=None, linear_weight=None, **options):
    input = torch.randn(N, D) if input is None else input
    linear_weight = torch.randn(C, D) if linear_weight is None else linear_weight
    target = torch.zeros(N).long() if target is None else target
    return linear_l2_softmax_cross_entropy(input, linear_weight, target, **{"alpha": 4.0} | options)


BOTH = pytest.mark.parametrize("operator", [rows, linear], ids=["rows", "linear"])


@BOTH
@pytest.mark.parametrize("alpha", [0, 0.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e-46])
def test_alpha_must_be_finite_and_positive(operator, alpha):
    with pytest.raises(ValueError, match="alpha must be finite and > 0, got"):
        operator(alpha=alpha)


@BOTH
@pytest.mark.parametrize("alpha", [torch.ones(1), torch.tensor(3)], ids=["a vector", "an integer"])
def test_a_tensor_alpha_must_be_0d_and_floating(operator, alpha):
    with pytest.raises(ValueError, match="0-d floating-point tensor"):
        operator(alpha=alpha)


@BOTH
@pytest.mark.parametrize("value", [3, -1, 2**40, -101])
def test_a_target_out_of_range_is_named_with_its_row(operator, value):
    target = torch.tensor([0, 2, value, 1])
    with pytest.raises(IndexError, match=rf"target\[2\] is {value}: neither a class in \[0, 3\) nor ignore_index"):
        operator(target=target)


@BOTH
@pytest.mark.filterwarnings(DYNAMOS_OWN)
def test_a_target_out_of_range_is_named_inside_a_compiled_graph_too(operator):
    compiled = torch.compile(lambda target: operator(target=target), fullgraph=True, backend="aot_eager")
    with pytest.raises(IndexError, match=r"target\[1\] is 7"):
        compiled(torch.tensor([0, 7, 0, 0]))


def test_the_check_of_targets_is_a_well_behaved_operator():
    arguments = torch.tensor([0, 2, -100]), 3, -100
    torch.library.opcheck(torch.ops.lit_l2softmax.check_target.default, arguments)


@BOTH
def test_ignore_index_may_be_any_number_a_class_included(operator):
    for ignored in (-100, -1, 2, 3, 255):
        loss = operator(target=torch.tensor([0, ignored, 1, 0]), ignore_index=ignored, reduction="none")
        assert loss[1] == 0
        assert (loss[[0, 2, 3]] > 0).all()


@BOTH
@pytest.mark.parametrize("name", ["target", "weight", "alpha"])
def test_tensors_on_two_devices_are_refused_by_name(operator, name):
    elsewhere = {"target": torch.zeros(N).long(), "weight": torch.ones(C), "alpha": torch.tensor(4.0)}[name].to("meta")
    input = torch.randn(N, C) if operator is rows else None
    with pytest.raises(ValueError, match=f"input is on cpu, but {name} is on meta"):
        operator(input=input, **{name: elsewhere})


@BOTH
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": torch.zeros(N + 1).long()}, ValueError, r"target must have shape \(4,\)"),
        ({"target": torch.zeros(N, 1).long()}, ValueError, r"target must have shape \(4,\)"),
        ({"target": torch.zeros(N).int()}, TypeError, r"target must be int64, got torch.int32; target.long\(\)"),
        ({"target": torch.zeros(N)}, TypeError, "target must be int64"),
        ({"input": torch.randn(N)}, ValueError, "input must have shape"),
        ({"input": torch.zeros(N, D).long()}, TypeError, "input must hold floating-point numbers"),
        ({"input": torch.zeros(N, D).to(torch.float8_e4m3fn)}, TypeError, "of 16, 32 or 64 bits, got torch.float8"),
        ({"weight": torch.ones(C + 1)}, ValueError, r"weight must have shape \(3,\)"),
        ({"weight": torch.ones(C).long()}, TypeError, "weight must hold floating-point numbers"),
        ({"weight": torch.ones(C).to(torch.float8_e4m3fn)}, TypeError, "weight must hold floating-point numbers"),
        ({"weight": torch.ones(C, requires_grad=True)}, ValueError, r"has no gradient; pass weight.detach\(\)"),
        ({"reduction": "average"}, ValueError, "reduction must be 'mean', 'sum' or 'none', got 'average'"),
        ({"label_smoothing": 1.5}, ValueError, r"label_smoothing must be in \[0, 1\]"),
        ({"label_smoothing": float("nan")}, ValueError, r"label_smoothing must be in \[0, 1\]"),
        ({"eps": 0.0}, ValueError, "eps must be finite and at least"),
        ({"eps": -1e-3}, ValueError, "eps must be finite and at least"),
        ({"eps": 1e-19}, ValueError, "eps must be finite and at least"),
        ({"alpha": 2e14}, ValueError, r"alpha / eps\*\*2 must be at most 1.7e38"),
        ({"eps": 2.0**-63, "alpha": 64.0}, ValueError, r"alpha / eps\*\*2 must be at most 1.7e38"),
        ({"impl": "cuda"}, ValueError, "impl must be one of 'auto', 'triton', 'torch', 'reference', got 'cuda'"),
        ({"impl": "triton"}, ValueError, "impl='triton' needs a CUDA tensor, got one on cpu"),
    ],
)
def test_bad_arguments_are_refused_in_one_clear_sentence(operator, options, error, message, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if operator is rows and options.get("weight") is not None and options["weight"].shape == (C,):
        options = {**options, "input": torch.randn(N, C)}
    with pytest.raises(error, match=message):
        operator(**options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"linear_weight": torch.randn(C, D + 1)}, ValueError, "with the same D"),
        ({"linear_weight": torch.zeros(C, D).long()}, TypeError, "linear_weight must hold floating-point"),
        ({"linear_bias": torch.zeros(C + 1)}, ValueError, r"linear_bias must have shape \(3,\)"),
        ({"linear_bias": torch.zeros(C).long()}, TypeError, "linear_bias must hold floating-point"),
        (
            {"linear_bias": torch.zeros(C), "normalize_weight": True},
            ValueError,
            "cannot be combined with normalize_weight",
        ),
        ({"angular_margin": 0.5}, ValueError, "need normalize_weight=True"),
        ({"cosine_margin": 0.5}, ValueError, "need normalize_weight=True"),
        ({"angular_margin": -0.1, "normalize_weight": True}, ValueError, r"must be in \[0, pi\)"),
        ({"angular_margin": 3.2, "normalize_weight": True}, ValueError, r"must be in \[0, pi\)"),
        ({"cosine_margin": float("inf"), "normalize_weight": True}, ValueError, "cosine_margin must be finite"),
    ],
)
def test_the_linear_operator_refuses_what_its_mathematics_does(options, error, message):
    with pytest.raises(error, match=message):
        linear(**options)


@BOTH
@pytest.mark.parametrize("impl", ["torch", "triton", "reference"])
def test_no_classes_at_all_are_refused(operator, impl):
    more = {"input": torch.randn(N, 0)} if operator is rows else {"linear_weight": torch.randn(0, D)}
    with pytest.raises(ValueError, match="at least one class"):
        operator(impl=impl, target=torch.full((N,), -100), **more)


@BOTH
def test_shapes_can_be_worked_out_on_the_meta_device(operator):
    with torch.device("meta"):
        assert operator(reduction="none").shape == (N,)


@BOTH
def test_the_reference_can_be_asked_for_by_name(operator):
    torch.manual_seed(0)
    asked = operator(impl="reference")
    torch.manual_seed(0)
    torch.testing.assert_close(asked, operator())

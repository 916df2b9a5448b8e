"""The softmax operators as torch's own machinery sees them: compiled, exported, transformed, differentiated twice."""

import math
import subprocess
import sys

import pytest
import torch
from softmax_cases import DEVICE, SCHEDULES, Case, force, leaves

from lit_l2softmax.kernels.l2_softmax_cross_entropy import operator as rows
from lit_l2softmax.kernels.linear_l2_softmax_cross_entropy import operator as linear
from lit_l2softmax.ops import l2_softmax_cross_entropy, linear_l2_softmax_cross_entropy

# torch.compile instantiates a Function where it traces one
DYNAMOS_OWN = "ignore:.*Function.> should not be instantiated:DeprecationWarning"
BOTH = pytest.mark.parametrize("d", [None, 9], ids=["rows", "linear"])
IMPLS = pytest.mark.parametrize("impl", ["torch", "triton"])


@IMPLS
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("learn", [False, True])
def test_the_registered_operators_are_well_behaved(impl, reduction, learn):
    options = -100, reduction, 0.1, 1e-12
    x, w, b = (torch.randn(*shape, device=DEVICE) for shape in ((5, 9), (13, 9), (13,)))
    alpha = torch.tensor(6.0, device=DEVICE) if learn else None
    target = torch.tensor([0, 12, -100, 3, 4], device=DEVICE)
    forward = (x, w, target, b, None, alpha, 6.0, False, 0.0, 0.0, impl, *options)
    torch.library.opcheck(linear._fwd_op, forward)
    loss, *kept = linear._fwd_op(*forward)
    for wanted in ((True, True, True, learn), (False, True, False, False), (True, False, True, False)):
        torch.library.opcheck(linear._bwd_op, (torch.ones_like(loss), *kept, *wanted, *forward))
    for logits in (w.T.contiguous()[:5], w[:, :5].T):
        forward = (logits, target, None, alpha, 6.0, impl, *options)
        torch.library.opcheck(rows._fwd_op, forward)
        loss, total, kept = rows._fwd_op(*forward)
        for wants_input in (True, False):
            arguments = (torch.ones_like(loss), *forward[:5], total, kept, wants_input, *forward[5:])
            torch.library.opcheck(rows._bwd_op, arguments)


@BOTH
@IMPLS
@pytest.mark.filterwarnings(DYNAMOS_OWN)
def test_they_compile_without_a_graph_break_for_any_size(d, impl):
    def loss(inputs, target, weight):
        return Case(1, d, 1, bias=d is not None, learn=True, smoothing=0.1).loss(inputs, target, weight, impl)

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for n, c in ((5, 13), (7, 17), (9, 21)):
        inputs, target, weight = Case(n, d, c, bias=d is not None, learn=True, smoothing=0.1, weight=True).tensors()
        one, two = leaves(inputs), leaves(inputs)
        actual = torch.autograd.grad(compiled(one, target, weight), one.values())
        expected = torch.autograd.grad(loss(two, target, weight), two.values())
        for left, right in zip(actual, expected, strict=True):
            torch.testing.assert_close(left, right)
    with torch.no_grad():
        torch.testing.assert_close(compiled(inputs, target, weight), loss(inputs, target, weight))


@BOTH
@IMPLS
def test_they_are_exported_and_their_gradient_is_a_function(d, impl):
    case = Case(5, d, 13, learn=True)
    inputs, target, weight = case.tensors()

    class Loss(torch.nn.Module):
        def forward(self, inputs, target):
            return case.loss(inputs, target, None, impl)

    exported = torch.export.export(Loss(), (inputs, target)).module()
    assert torch.equal(exported(inputs, target), case.loss(inputs, target, None, impl))
    mine = leaves(inputs)
    expected = torch.autograd.grad(case.loss(mine, target, weight, impl), mine.values())
    transformed = torch.func.grad(lambda inputs: case.loss(inputs, target, weight, impl))(inputs)
    for name, value in zip(inputs, expected, strict=True):
        assert torch.equal(transformed[name], value)


@BOTH
@IMPLS
def test_an_exported_head_can_be_trained(d, impl):
    case = Case(5, d, 13, learn=True)
    inputs, target, _ = case.tensors()

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parameters_ = torch.nn.ParameterDict(
                {name: t.clone() for name, t in inputs.items() if name != "input"}
            )

        def forward(self, input, target):
            return case.loss({"input": input, **self.parameters_}, target, None, impl)

    module = Loss()
    exported = torch.export.export(module, (inputs["input"], target)).module()
    module(inputs["input"], target).backward()
    exported(inputs["input"], target).backward()
    expected = {name.removeprefix("parameters_."): p.grad for name, p in module.named_parameters()}
    for name, parameter in exported.named_parameters():
        assert torch.equal(parameter.grad, expected[name.removeprefix("parameters_.")])


@BOTH
@IMPLS
@pytest.mark.slow
@pytest.mark.filterwarnings(DYNAMOS_OWN)
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # inductor's own
def test_inductor_takes_them_at_any_stride(d, impl):
    def loss(inputs, target):
        return Case(1, d, 1, learn=True).loss(inputs | {"input": (2 * inputs["input"]).T}, target, None, impl)

    inputs, target, _ = Case(5, d, 13, learn=True).tensors()
    inputs["input"] = inputs["input"].T.contiguous()
    one, two = leaves(inputs), leaves(inputs)
    compiled = torch.compile(loss, fullgraph=True)
    actual = torch.autograd.grad(compiled(one, target), one.values())
    for left, right in zip(actual, torch.autograd.grad(loss(two, target), two.values()), strict=True):
        torch.testing.assert_close(left, right)


@BOTH
@IMPLS
def test_a_batch_size_may_stay_open_in_an_exported_graph(d, impl):
    case = Case(5, d, 13)
    inputs, target, _ = case.tensors()

    class Loss(torch.nn.Module):
        def forward(self, input, target):
            return case.loss(inputs | {"input": input}, target, None, impl)

    batch = torch.export.Dim("batch", min=2)
    shapes = {"input": {0: batch}, "target": {0: batch}}
    exported = torch.export.export(Loss(), (inputs["input"], target), dynamic_shapes=shapes).module()
    longer = inputs["input"].repeat(3, 1), target.repeat(3)
    expected = case.loss(inputs | {"input": longer[0]}, longer[1], None, impl)
    torch.testing.assert_close(exported(*longer), expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_autocast_does_not_change_a_bit(schedule, monkeypatch):
    impl = force(monkeypatch, schedule)
    case = Case(11, 9, 13, bias=True)
    inputs, target, weight = case.tensors()
    gradients = []
    for enabled in (False, True):
        mine = leaves(inputs)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=enabled):
            loss = case.loss(mine, target, weight, impl)
            gradients.append((loss.detach(), *torch.autograd.grad(loss, mine.values())))
    for left, right in zip(*gradients, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("schedule", ["torch, whole", "torch, tiled"])
@pytest.mark.parametrize(
    "options",
    [
        {"bias": True, "smoothing": 0.1, "weight": True},
        {"normalize": True},
        {"normalize": True, "angular": 0.5, "cosine": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize(("d", "c"), [(3, 9), (5, 4)])
def test_gradients_of_both_orders_are_right_in_float64(schedule, options, d, c, monkeypatch):
    impl = force(monkeypatch, schedule)
    case = Case(6, d, c, torch.float64, torch.float64, alpha=3.0, learn=True, reduction="none", **options)
    inputs, target, weight = case.tensors()
    inputs = leaves(inputs, torch.float64)

    def loss(*values):
        return case.loss(dict(zip(inputs, values, strict=True)), target, weight, impl)

    assert torch.autograd.gradcheck(loss, tuple(inputs.values()))
    assert torch.autograd.gradgradcheck(loss, tuple(inputs.values()))


@BOTH
@IMPLS
def test_a_second_derivative_is_the_references(d, impl):
    case = Case(5, d, 7, learn=True)
    inputs, target, weight = case.tensors()
    seconds = []
    for asked in (impl, "reference"):
        mine = leaves(inputs)
        first = torch.autograd.grad(case.loss(mine, target, weight, asked), mine.values(), create_graph=True)
        penalty = sum((gradient**2).sum() for gradient in first)
        seconds.append(torch.autograd.grad(penalty, mine.values()))
    for actual, expected in zip(*seconds, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("d", "c"), [(6, 4), (4, 6)])
def test_short_rows_are_constants_to_derivatives_of_every_order(d, c, normalize):
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(n, d, generator=generator, dtype=torch.float64) for n in (5, c))
    x[1], w[0] = 0, 0
    x[2] *= 1e-3
    w[1] *= 1e-3
    target = torch.arange(5) % c
    upstream = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in (x, w)]

    def orders(impl):
        inputs = [tensor.clone().requires_grad_() for tensor in (x, w)]
        value = linear_l2_softmax_cross_entropy(
            *inputs, target, alpha=4.0, normalize_weight=normalize, eps=1e-2, impl=impl
        )
        found = []
        for _ in range(3):
            gradients = torch.autograd.grad(value, inputs, create_graph=True)
            found += [gradient.detach() for gradient in gradients]
            value = sum((gradient * times).sum() for gradient, times in zip(gradients, upstream, strict=True))
        return found

    for ours, expected in zip(orders("torch"), orders("reference"), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@BOTH
def test_a_second_derivative_of_one_input_alone_is_right(d):
    case = Case(5, d, 7)
    inputs, target, weight = case.tensors()
    seconds = []
    for asked in ("torch", "reference"):
        x = inputs["input"].clone().requires_grad_()
        loss = case.loss(inputs | {"input": x}, target, weight, asked)
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*seconds, rtol=1e-4, atol=1e-5)


def test_a_large_loss_keeps_its_digits_in_float64():
    logits = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
    loss = l2_softmax_cross_entropy(logits, torch.tensor([0]), alpha=25 / 2**0.5)
    assert abs(loss.item() - (25 + math.log1p(math.exp(-25)))) <= 8 * math.ulp(25)


def test_float64_is_refused_by_the_kernels_and_taken_by_the_schedule():
    case = Case(5, 9, 13, torch.float64, torch.float32)
    inputs, target, weight = case.tensors()
    with pytest.raises(ValueError, match="computes in float32 and refuses float64"):
        case.loss(inputs, target, weight, "triton")
    assert case.loss(inputs, target, weight, "auto").dtype == torch.float64


WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # what an import of it meets where it is not installed
import torch
from lit_l2softmax.ops import l2_softmax_cross_entropy, linear_l2_softmax_cross_entropy

x, w, y = torch.randn(4, 8, requires_grad=True), torch.randn(300, 8), torch.tensor([0, 1, 2, 299])
linear_l2_softmax_cross_entropy(x, w, y, alpha=16.0).backward()
l2_softmax_cross_entropy(w.T[:4], y, alpha=16.0)
for call in (
    lambda: linear_l2_softmax_cross_entropy(x, w, y, alpha=16.0, impl="triton"),
    lambda: l2_softmax_cross_entropy(w.T[:4], y, alpha=16.0, impl="triton"),
):
    try:
        call()
    except ImportError as error:
        print(error)
"""


def test_a_machine_without_triton_is_told_so_only_where_it_needs_it():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TRITON],
        capture_output=True,
        text=True,
        env={"TRITON_INTERPRET": "1", "PATH": ""},
        check=True,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for name, line in zip(("linear_l2_softmax_cross_entropy", "l2_softmax_cross_entropy"), lines, strict=True):
        assert line.startswith(f"{name}: impl='triton', which 'auto' takes for CUDA tensors, needs the package triton")
        assert line.endswith("install it, or pass impl='torch'")


def test_jacobians_by_torch_func_are_right_with_few_classes():
    """Their vmap over the backward pass warns of each operation that it has no rule for."""
    x, w = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 0, 1])

    def losses(impl):
        return lambda x: linear_l2_softmax_cross_entropy(x, w, target, alpha=4.0, reduction="none", impl=impl)

    once, twice = torch.func.jacrev, lambda f: torch.func.jacrev(torch.func.jacrev(f))
    for jacobian in (once, twice):
        torch.testing.assert_close(jacobian(losses("torch"))(x), jacobian(losses("reference"))(x))


@pytest.mark.filterwarnings(DYNAMOS_OWN)
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # inductor's own
def test_a_row_whose_squares_overflow_is_a_zero_row_when_compiled_too():
    x = torch.full((1, 4), 3e19)
    w, target = torch.randn(3, 4), torch.tensor([1])

    def loss(x):
        return linear_l2_softmax_cross_entropy(x, w, target, alpha=4.0, impl="torch")

    compiled = torch.compile(loss, backend="aot_eager_decomp_partition", fullgraph=True)
    for value in (compiled(x), loss(x)):
        assert float(value) == pytest.approx(math.log(3), rel=1e-6)

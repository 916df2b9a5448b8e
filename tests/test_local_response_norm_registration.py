"""Local response normalisation as torch's own machinery sees it: compiled, exported, transformed, differentiated."""

import subprocess
import sys

import pytest
import torch
from lrn_cases import DEVICE, Case, force

from lit_l2softmax.kernels.local_response_norm import operator
from lit_l2softmax.ops import local_response_norm

# torch.compile instantiates a Function where it traces one
DYNAMOS_OWN = "ignore:.*Function.> should not be instantiated:DeprecationWarning"
IMPLS = pytest.mark.parametrize("impl", ["torch", "triton"])
CASE = Case((2, 11, 3, 4), 5)


@IMPLS
@pytest.mark.parametrize("size", [5, 18])
def test_the_registered_operators_are_well_behaved(impl, size):
    x, _ = CASE.tensors()
    for view in (x, x.to(memory_format=torch.channels_last), x.transpose(2, 3), x[..., ::2], x[:, :, :1].expand_as(x)):
        arguments = size, 2.0, 0.75, 1.5, "torch", impl
        torch.library.opcheck(operator._fwd_op, (view, *arguments))
        torch.library.opcheck(operator._fwd_op, (view.detach().requires_grad_(), *arguments))
        torch.library.opcheck(operator._bwd_op, (torch.randn_like(view), view, *arguments))
    torch.library.opcheck(operator._fwd_op, (x[:0], *arguments))


@IMPLS
@pytest.mark.filterwarnings(DYNAMOS_OWN)
def test_it_compiles_without_a_graph_break_for_any_shape(impl):
    compiled = torch.compile(
        lambda x: CASE.norm(2 * x, impl), fullgraph=True, dynamic=True, backend="aot_eager"
    )  # fmt: skip
    for shape in ((2, 11, 3, 4), (3, 20, 5, 2), (4, 9, 6, 6)):
        x, g = Case(shape, 5).tensors()
        for laid_out in (x, x.to(memory_format=torch.channels_last)):
            one, two = (laid_out.clone().requires_grad_() for _ in range(2))
            actual, expected = compiled(one), CASE.norm(2 * two, impl)
            assert torch.equal(actual, expected)
            assert actual.stride() == expected.stride()
            assert torch.equal(torch.autograd.grad(actual, one, g)[0], torch.autograd.grad(expected, two, g)[0])
    with torch.no_grad():
        assert torch.equal(compiled(x), CASE.norm(2 * x, impl))


@pytest.mark.filterwarnings(DYNAMOS_OWN)
def test_its_numbers_may_change_between_calls_of_a_compiled_function():
    def norm(x, alpha):
        return local_response_norm(x, x.shape[1] // 2, alpha)

    compiled = torch.compile(norm, fullgraph=True, dynamic=True, backend="aot_eager")
    for channels, alpha in ((6, 0.5), (10, 0.25), (14, 2.0)):
        x, _ = Case((2, channels, 3), 1).tensors()
        assert torch.equal(compiled(x, alpha), norm(x, alpha))


@IMPLS
@pytest.mark.slow
@pytest.mark.filterwarnings(DYNAMOS_OWN)
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # inductor's own
def test_inductor_takes_it_between_other_calls_in_any_layout(impl):
    def network(x):
        return CASE.norm((2 * x).relu().transpose(2, 3), impl).sin()

    compiled = torch.compile(network, fullgraph=True)
    x, g = CASE.tensors()
    for laid_out in (x, x.to(memory_format=torch.channels_last)):
        one, two = (laid_out.clone().requires_grad_() for _ in range(2))
        actual = torch.autograd.grad(compiled(one), one, g.transpose(2, 3))[0]
        torch.testing.assert_close(actual, torch.autograd.grad(network(two), two, g.transpose(2, 3))[0])


class Norm(torch.nn.Module):
    def __init__(self, impl):
        super().__init__()
        self.impl = impl
        self.gain = torch.nn.Parameter(torch.tensor(1.25, device=DEVICE))

    def forward(self, x):
        return CASE.norm(self.gain * x, self.impl)


@IMPLS
def test_an_exported_network_with_it_can_be_trained_at_any_batch_size(impl):
    x, _ = CASE.tensors()
    module = Norm(impl)
    shapes = {"x": {0: torch.export.Dim("batch", min=1)}}
    exported = torch.export.export(module, (x,), dynamic_shapes=shapes).module()
    for batch in (x, x.repeat(3, 1, 1, 1)):
        module.zero_grad()
        module(batch).square().sum().backward()
        output = exported(batch)
        assert torch.equal(output, module(batch))
        (gradient,) = torch.autograd.grad(output.square().sum(), list(exported.parameters()))
        assert torch.equal(gradient, module.gain.grad)


@IMPLS
def test_its_gradient_is_a_function(impl):
    x, g = CASE.tensors()
    transformed = torch.func.grad(lambda x: (CASE.norm(x, impl) * g).sum())(x)
    assert torch.equal(transformed, CASE.solve(impl, x, g)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("impl", ["torch", "triton"])
def test_autocast_does_not_change_a_bit(impl, dtype):
    if impl == "triton" and dtype == torch.float64:
        pytest.skip("the kernels refuse float64")
    for beta in (0.75, 0.3):
        case = Case((2, 11, 3, 4), 5, beta=beta, dtype=dtype)
        x, g = case.tensors()
        expected = case.solve(impl, x, g)
        with torch.autocast(DEVICE, torch.bfloat16):
            actual = case.solve(impl, x, g)
        for left, right in zip(actual, expected, strict=True):
            assert left.dtype == dtype
            assert torch.equal(left, right)


@pytest.mark.parametrize("schedule", ["reference", "torch", "torch, short tiles"])
@pytest.mark.parametrize("window", ["torch", "onnx"])
@pytest.mark.parametrize("size", [1, 4, 5, 9])
@pytest.mark.parametrize("beta", [0.75, 0.3])
def test_gradients_of_both_orders_are_right(schedule, size, window, beta, monkeypatch):
    impl = force(monkeypatch, schedule)
    case = Case((2, 6, 2), size, beta=beta, dtype=torch.float64, window=window)
    x = case.tensors()[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: case.norm(x, impl), x)
    assert torch.autograd.gradgradcheck(lambda x: case.norm(x, impl), x)


@IMPLS
def test_a_second_derivative_is_the_references(impl):
    x, g = CASE.tensors()
    seconds = []
    for asked in (impl, "reference"):
        mine, upstream = x.clone().requires_grad_(), g.clone().requires_grad_()
        (first,) = torch.autograd.grad(CASE.norm(mine, asked), mine, upstream, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), (mine, upstream)))
    for actual, expected in zip(*seconds, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@IMPLS
def test_the_input_is_all_that_is_kept_for_the_gradient(impl):
    x, _ = CASE.tensors()
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        CASE.norm(x.requires_grad_(), impl)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr()]


WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # what an import of it meets where it is not installed
import torch
from lit_l2softmax.ops import local_response_norm

x = torch.randn(2, 8, 3, requires_grad=True)
local_response_norm(x, 5).sum().backward()
try:
    local_response_norm(x, 5, impl="triton")
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
    assert done.stdout.startswith("local_response_norm: impl='triton', which 'auto' takes for CUDA tensors, needs")


def test_what_auto_takes_is_one_of_them():
    x, _ = CASE.tensors()
    fastest = "triton" if DEVICE == "cuda" else "torch"
    assert torch.equal(local_response_norm(x, 5), local_response_norm(x, 5, impl=fastest))

"""Every schedule of the softmax operators, the kernels among them, against the reference in float64."""

import contextlib
import dataclasses
import itertools

import pytest
import torch
from softmax_cases import DEVICE, ROW_SCHEDULES, SCHEDULES, Case, check, force, force_rows, leaves, results

from lit_l2softmax.kernels import _softmax_kernels
from lit_l2softmax.ops import l2_softmax_cross_entropy, linear_l2_softmax_cross_entropy

HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32

# One class, two classes; a single row; sizes of which nothing divides anything; a block of classes more than one tile.
SHAPES = [(1, 3, 2), (4, 5, 1), (7, 5, 13), (11, 70, 33)]
# A covering set of the options: each on and off, margins alone and together, past pi.
OPTIONS = [
    {},
    {"bias": True, "smoothing": 0.1, "learn": True},
    {"bias": True, "weight": True, "reduction": "none"},
    {"weight": True, "smoothing": 0.1, "reduction": "sum", "learn": True},
    {"normalize": True},
    {"normalize": True, "alpha": 200.0, "learn": True, "weight": True},  # too large for a constant shift
    {"normalize": True, "angular": 0.5, "learn": True},
    {"normalize": True, "angular": 2.5, "cosine": 0.2, "smoothing": 0.1, "weight": True, "learn": True},
    {"normalize": True, "cosine": -0.3, "reduction": "none", "smoothing": 0.2},
    {"alpha": -6.0, "learn": True, "smoothing": 0.1},  # where a learned alpha may end up
]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_linear_schedules_are_right_for_every_option(schedule, options, monkeypatch):
    impl = force(monkeypatch, schedule)
    for shape in SHAPES:
        check(Case(*shape, **options), impl)


@pytest.mark.parametrize("schedule", ROW_SCHEDULES)
@pytest.mark.parametrize("options", [o for o in OPTIONS if not {"bias", "normalize"} & set(o)] + [
    {"smoothing": 1.0, "reduction": "none"}, {"alpha": 1e3, "weight": True, "learn": True},
    {"alpha": -300.0, "learn": True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize(("n", "c"), [(1, 2), (4, 1), (7, 13), (3, 200)])
def test_row_schedules_are_right_for_every_option(schedule, options, n, c, monkeypatch):
    impl = force_rows(monkeypatch, schedule)
    check(Case(n, None, c, **options), impl)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtypes", [(HALF, HALF), (BRAIN, BRAIN), (BRAIN, SINGLE), (SINGLE, HALF)], ids=str)
@pytest.mark.parametrize("options", [{"bias": True}, {"normalize": True, "angular": 0.5, "alpha": 64.0}], ids=str)
def test_half_and_mixed_types_err_no_more_than_float32_does(schedule, dtypes, options, monkeypatch):
    impl = force(monkeypatch, schedule)
    same = BRAIN if schedule == "kernels, tiled" and dtypes == (BRAIN, BRAIN) else None
    check(Case(11, 40, 33, *dtypes, **options), impl, tile_dtype=same)


@pytest.mark.parametrize("impl", ["torch", "triton"])
@pytest.mark.parametrize("dtype", [HALF, BRAIN])
def test_half_rows_err_no_more_than_float32_does(impl, dtype):
    check(Case(5, None, 300, dtype, alpha=40.0, smoothing=0.1, weight=True), impl)


EVERY = [("linear", schedule) for schedule in SCHEDULES] + [("rows", schedule) for schedule in ROW_SCHEDULES]


def solver_of(request, monkeypatch):
    """An operator under one schedule: makes a case of it, and the ``impl`` to ask for."""
    operator, schedule = request.param
    impl = (force if operator == "linear" else force_rows)(monkeypatch, schedule)

    def case(n=11, c=13, **options):
        if operator == "rows":
            options = {name: value for name, value in options.items() if name not in ("normalize", "bias", "angular")}
        return Case(n, 9 if operator == "linear" else None, c, **options)

    return case, impl


def solvers(which):
    return pytest.fixture(params=which, ids=", ".join)(solver_of)


solver = solvers(EVERY)
linear_solver = solvers([one for one in EVERY if one[0] == "linear"])
kernel_solver = solvers([one for one in EVERY if "kernels" in one[1]])
# One of them is made of PyTorch's own softmax, which has not these digits.
exact_solver = solvers([one for one in EVERY if one != ("linear", "torch, whole")])


def solve(case, impl, tensors=None, upstream=None):
    inputs, target, weight = case.tensors() if tensors is None else tensors
    inputs = leaves(inputs)
    loss = case.loss(inputs, target, weight, impl)
    return results(loss, inputs, torch.ones_like(loss) if upstream is None else upstream)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_second_backward_gives_the_same_gradient_and_inputs_stay_as_they_are(solver):
    case, impl = solver
    case = case(learn=True)
    inputs, target, weight = case.tensors()
    before = {name: tensor.clone() for name, tensor in inputs.items()}, target.clone()
    inputs = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    loss = case.loss(inputs, target, weight, impl)
    first = torch.autograd.grad(loss, inputs.values(), retain_graph=True)
    second = torch.autograd.grad(loss, inputs.values(), retain_graph=True)
    (3 * loss + loss).backward()  # a loss used twice
    for name, one, two in zip(inputs, first, second, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(inputs[name], before[0][name])
        torch.testing.assert_close(inputs[name].grad, 4 * one)
    assert torch.equal(target, before[1])


def test_each_gradient_is_the_same_whether_it_is_asked_for_alone_or_not(solver):
    case, impl = solver
    for options in ({"bias": True, "learn": True}, {"normalize": True, "angular": 0.5, "learn": True}):
        one = case(**options)
        inputs, target, weight = one.tensors()
        everything = solve(one, impl)
        for name in inputs:
            alone = dict(inputs) | {name: inputs[name].clone().requires_grad_()}
            (gradient,) = torch.autograd.grad(one.loss(alone, target, weight, impl), alone[name])
            assert torch.equal(gradient, everything[name]), name


def test_two_runs_agree_to_the_bit_whatever_order_programs_run_in(solver):
    case, impl = solver
    case = case(n=23, learn=True, smoothing=0.1)
    orders = [contextlib.nullcontext()] * 3
    if DEVICE == "cpu" and impl == "triton":
        import faithful_interpreter

        orders = [faithful_interpreter.order(name) for name in ("forward", "reverse", "shuffled")]
    runs = []
    for order in orders:
        with order:
            runs.append(solve(case, impl))
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])


def test_every_number_that_is_returned_has_been_written(solver):
    case, impl = solver
    torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN
    try:
        for options in ({"learn": True, "bias": True}, {"normalize": True, "reduction": "none"}, {"c": 1}, {"n": 1}):
            for name, result in solve(case(**options), impl).items():
                assert result.isfinite().all(), name
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [SINGLE, HALF, BRAIN])
def test_poisoned_rows_are_nan_and_leave_the_others_bitwise_untouched(solver, dtype):
    case, impl = solver
    one = case(reduction="none", x_dtype=dtype, w_dtype=dtype)
    inputs, target, weight = one.tensors()
    poisons = itertools.product((float("nan"), float("inf"), -float("inf")), (0, 4))
    poisoned = dict(zip((0, 3, 4, 6, 8, 10), poisons, strict=True))  # among rows that are not, in every tile
    target[[*poisoned]] = 4
    clean = solve(one, impl, (inputs, target, weight))
    for row, (poison, column) in poisoned.items():
        inputs["input"][row, column] = poison
    result = solve(one, impl, (inputs, target, weight))
    for row in poisoned:
        assert result["loss"][row].isnan(), row
        assert result["input"][row].isnan().any(), row
    others = [row for row in range(one.n) if row not in poisoned]
    assert torch.equal(result["loss"][others], clean["loss"][others])
    assert torch.equal(result["input"][others], clean["input"][others])


@pytest.mark.parametrize(
    ("dtype", "length"),
    [(SINGLE, 0.0), (SINGLE, 1e-15), (SINGLE, 1e12), (SINGLE, 1e17), (HALF, 1e-7), (HALF, 6e4), (BRAIN, 1e38)],
)
def test_short_and_long_rows_have_the_loss_of_their_direction_and_a_finite_gradient(solver, dtype, length):
    case, impl = solver
    for options in ({"bias": True}, {"normalize": True}):
        one = case(x_dtype=dtype, w_dtype=dtype, reduction="none", ignored=(), **options)
        inputs, target, weight = one.tensors()
        inputs["input"][1] = inputs["input"][1].float().sign() * length
        result = solve(one, impl, (inputs, target, weight))
        double = {name: tensor.double() for name, tensor in inputs.items()}
        if dtype == BRAIN:  # its squares overflow float32: the norm is infinite and the row zero, as F.normalize's
            double["input"][1] = 0
        exact = one.loss(double, target, weight, "reference")
        torch.testing.assert_close(result["loss"].double(), exact, rtol=1e-4, atol=1e-4)
        holdable = result["input"][1].abs() <= torch.finfo(dtype).max
        assert (holdable | (dtype == HALF)).all()  # the gradient of a row of 1e-7 does not fit into float16
        assert not result["input"][1].isnan().any()
        if length < 1e-12 or dtype == BRAIN:
            assert not result["input"][1].any()
        assert result["input"][0].any()
        assert all(value.isfinite().all() for name, value in result.items() if name != "input")


def test_rows_exactly_as_long_as_eps_have_a_gradient_and_shorter_ones_have_none(solver):
    case, impl = solver
    one = case(n=2, c=3, ignored=())
    inputs, target, _ = one.tensors()
    x = torch.zeros_like(inputs["input"])
    x[0, 1], x[1, 1] = 0.5, 0.25
    x.requires_grad_()
    rows = {"normalize_weight": True} if "linear_weight" in inputs else {}
    operator = linear_l2_softmax_cross_entropy if rows else l2_softmax_cross_entropy
    more = {"linear_weight": inputs["linear_weight"], **rows} if rows else {}
    loss = operator(input=x, target=target, alpha=6.0, eps=0.5, impl=impl, **more)
    (dx,) = torch.autograd.grad(loss, x)
    assert dx[0].any()
    assert not dx[1].any()


@pytest.mark.parametrize(("alpha", "eps"), [(1.9, 2.0**-63), (64.0, 1e-18), (1.7e14, 1e-12)])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_least_eps_and_the_largest_alpha_leave_a_row_of_zeros_what_it_is(solver, alpha, eps, normalize):
    case, impl = solver
    inputs, target, _ = case(n=2, c=3, ignored=()).tensors()
    inputs["input"][1] = 0
    x = inputs.pop("input").requires_grad_()
    options = {"alpha": alpha, "eps": eps, "label_smoothing": 0.1, "reduction": "none", "impl": impl}
    if inputs:
        loss = linear_l2_softmax_cross_entropy(x, **inputs, target=target, normalize_weight=normalize, **options)
    else:
        loss = l2_softmax_cross_entropy(x, target, **options)
    (dx,) = torch.autograd.grad(loss[1], x)
    torch.testing.assert_close(loss[1], torch.tensor(3.0, device=DEVICE).log())
    assert not dx[1].any()


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
def test_short_class_weights_have_no_gradient_where_they_are_normalised(linear_solver, dtype):
    case, impl = linear_solver
    one = case(normalize=True, n=5, c=9, x_dtype=dtype, w_dtype=dtype)
    inputs, target, weight = one.tensors()
    inputs["linear_weight"][[0, 8]] = 0
    check(one, impl, (inputs, target, weight))
    result = solve(one, impl, (inputs, target, weight))
    assert not result["linear_weight"][[0, 8]].any()


@pytest.mark.parametrize("ignore", ["all", "none at all"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mean_over_no_rows_is_nan_with_zero_gradients_as_in_torch(solver, ignore, smoothing):
    case, impl = solver
    one = case(n=3 if ignore == "all" else 0, ignored=(0, 1, 2), learn=True, smoothing=smoothing)
    result = solve(one, impl)
    assert result.pop("loss").isnan()
    for name, gradient in result.items():
        assert not gradient.nan_to_num(nan=9.0).any(), name
    total = solve(dataclasses.replace(one, reduction="sum"), impl)
    assert total["loss"] == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [False, True])
def test_an_ignored_row_of_nan_reaches_no_loss(solver, smoothing, weight):
    case, impl = solver
    one = case(ignored=(3,), reduction="none", smoothing=smoothing, weight=weight)
    inputs, target, weight = one.tensors()
    inputs["input"][3] = torch.nan
    result = solve(one, impl, (inputs, target, weight))
    assert result["loss"][3] == 0
    assert result["loss"].isfinite().all()


@pytest.mark.parametrize("value", [-1, 13, 2**40, -(2**40), -101])
def test_a_target_out_of_range_is_named(solver, value):
    case, impl = solver
    for options in ({}, {"normalize": True, "angular": 0.5}):
        one = case(ignored=(), **options)
        inputs, target, weight = one.tensors()
        target[4] = value
        with pytest.raises(IndexError, match=rf"target\[4\] is {value}: neither a class in \[0, 13\) nor ignore_index"):
            one.loss(inputs, target, weight, impl)


@pytest.mark.skipif(DEVICE != "cpu", reason="only the interpreter sees addresses")
def test_a_target_out_of_range_is_never_an_address(kernel_solver, monkeypatch):
    """On a card the check comes after the kernel; here the interpreter looks at every address."""
    case, impl = kernel_solver
    asserted = []
    monkeypatch.setattr(_softmax_kernels, "names_bad_targets", lambda target: False)
    monkeypatch.setattr(_softmax_kernels, "assert_targets", lambda good, *_: asserted.append(good.tolist()))
    bad = {4: -1, 5: 13, 7: 2**40, 10: -(2**40)}
    for options in ({"bias": True, "weight": True, "smoothing": 0.1}, {"normalize": True, "angular": 0.5}):
        one = case(ignored=(2,), reduction="none", **options)
        inputs, target, weight = one.tensors()
        for row, value in bad.items():
            target[row] = value
        result = solve(one, impl, (inputs, target, weight))
        assert asserted.pop() == [row not in bad for row in range(one.n)]
        assert result["loss"].isnan().tolist() == [row in bad for row in range(one.n)]


def test_any_upstream_gradient_is_taken_as_it_is(solver):
    case, impl = solver
    one = case(reduction="none")
    random = torch.randn(one.n, device=DEVICE)
    for upstream in (torch.zeros(one.n, device=DEVICE), random, random[:1].expand(one.n), random.repeat(2)[::2]):
        contiguous = solve(one, impl, upstream=upstream.clone())
        assert same(solve(one, impl, upstream=upstream), contiguous)
    assert not solve(one, impl, upstream=torch.zeros(one.n, device=DEVICE))["input"].any()


def test_equal_logits_cost_log_c_and_so_does_a_vanishing_alpha(solver):
    case, impl = solver
    for options in ({"alpha": 1e-12}, {}):
        one = case(ignored=(), reduction="none", **options)
        inputs, target, weight = one.tensors()
        if not options:
            name = "linear_weight" if "linear_weight" in inputs else "input"
            inputs[name][:] = inputs[name][0, 0]
        loss = one.loss(inputs, target, weight, impl)
        torch.testing.assert_close(loss, torch.full_like(loss, 13).log(), rtol=1e-6, atol=0)


def test_the_features_gradient_has_no_radial_part(solver):
    case, impl = solver
    one = case(ignored=())
    inputs, _, _ = one.tensors()
    gradient = solve(one, impl)["input"]
    radial = (gradient * inputs["input"]).sum(1).abs()
    assert (radial <= 1e-5 * gradient.norm(dim=1) * inputs["input"].norm(dim=1)).all()


def test_a_fitted_row_keeps_the_digits_of_its_loss(exact_solver):
    """log(1 + e^-38), which a difference of two logarithms of sums would round to zero."""
    case, impl = exact_solver
    one = case(n=1, c=2, alpha=19.0, ignored=())
    inputs, target, weight = one.tensors()
    target[:] = 0
    inputs["input"][:] = 0
    if "linear_weight" in inputs:
        inputs["input"][0, 0] = 3.0
        inputs["linear_weight"][:] = 0
        inputs["linear_weight"][:, 0] = torch.tensor([1.0, -1.0])
        expected = torch.tensor(38.0).neg().exp()
    else:
        inputs["input"][0] = torch.tensor([3.0, -3.0])
        expected = torch.tensor(-19.0 * 2**0.5).exp()
    result = solve(one, impl, (inputs, target, weight))
    torch.testing.assert_close(result["loss"].cpu(), expected, rtol=1e-5, atol=0)


def test_a_float64_bias_does_not_change_the_type_of_the_loss(linear_solver):
    case, impl = linear_solver
    one = case(bias=True, weight=True)
    inputs, target, weight = one.tensors()
    expected = solve(one, impl, (inputs, target, weight))
    result = solve(one, impl, (inputs | {"linear_bias": inputs["linear_bias"].double()}, target, weight))
    assert result["loss"].dtype == torch.float32
    assert torch.equal(result["loss"], expected["loss"])
    assert torch.equal(result["linear_bias"].float(), expected["linear_bias"])


def test_vectors_may_lie_at_any_stride(solver):
    case, impl = solver
    for options in ({"bias": True, "weight": True, "smoothing": 0.1}, {"normalize": True, "weight": True}):
        one = case(**options)
        inputs, target, weight = one.tensors()
        expected = solve(one, impl, (inputs, target, weight))

        def apart(vector):
            return torch.stack((vector, torch.full_like(vector, 7)), 1)[:, 0]

        far = {name: apart(tensor) if tensor.ndim == 1 else tensor for name, tensor in inputs.items()}
        loss = one.loss(far, apart(target), apart(weight), impl)
        assert torch.equal(loss, expected["loss"])
        once = weight[:1].expand(one.c)
        assert torch.equal(one.loss(inputs, target, once, impl), one.loss(inputs, target, once.contiguous(), impl))


def test_alphas_gradient_is_right_to_a_thousandth_and_better(solver):
    """Where its terms have one sign, so that the bound of their sum is one of its relative error."""
    case, impl = solver
    for options in ({}, {"normalize": True}):
        one = case(learn=True, ignored=(), **options)
        inputs, _, weight = one.tensors()
        classes = inputs.get("linear_weight", torch.eye(one.c, device=DEVICE))
        target = (inputs["input"] @ classes.T).argmin(1)
        result = solve(one, impl, (inputs, target, weight))["alpha"]
        double = leaves(inputs, torch.float64)
        (exact,) = torch.autograd.grad(one.loss(double, target, weight, "reference"), double["alpha"])
        assert (result - exact).abs() <= 2e-5 * exact.abs()

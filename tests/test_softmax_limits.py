"""How large the softmax operators' problems may be, and how much memory they take."""

import pytest
import torch
import torch.nn.functional as F
from memory import peak_extra_bytes
from softmax_cases import DEVICE, SCHEDULES, Case, force, leaves, results

from lit_l2softmax.kernels.linear_l2_softmax_cross_entropy import paths
from lit_l2softmax.ops import linear_l2_softmax_cross_entropy

MIB = 2**20


def far_apart(tensor, folder):
    """The same rows, 2^30 numbers apart, so that the third is beyond what 32 bits can count; no memory is used."""
    n, c = tensor.shape
    if DEVICE == "cuda":
        memory = torch.empty(2**31 + c, dtype=tensor.dtype, device=DEVICE)
    else:
        memory = torch.from_file(str(folder / "sparse"), shared=True, size=2**31 + c, dtype=tensor.dtype)
    return memory.as_strided((n, c), (2**30, 1)).copy_(tensor)


@pytest.mark.parametrize("operator", ["rows", *SCHEDULES[2:]])
def test_kernels_count_beyond_32_bits(operator, tmp_path, monkeypatch):
    impl = "triton" if operator == "rows" else force(monkeypatch, operator)
    case = Case(3, None if operator == "rows" else 20, 30, x_dtype=torch.bfloat16, ignored=(), reduction="none")
    inputs, target, weight = case.tensors()
    near, far = leaves(inputs), dict(inputs)
    far["input"] = far_apart(inputs["input"], tmp_path)
    far = {name: tensor.requires_grad_() for name, tensor in far.items()}
    upstream = torch.ones(3, device=DEVICE)
    expected = results(case.loss(near, target, weight, impl), near, upstream)
    actual = results(case.loss(far, target, weight, impl), far, upstream)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@pytest.mark.parametrize("n", [1, 20, 256, 4096, 100_000])
@pytest.mark.parametrize("d", [1, 64, 512, 4096, 100_000])
@pytest.mark.parametrize("c", [129, 10_000, 1_000_000])
def test_tiles_are_within_the_memory_that_is_promised(n, d, c):
    # The logits and for the kernels their gradient; a class range's copy and for the kernels its product and gradient.
    for rows, classes, whole, copies in ((*paths.torch_tile(n, d, c), 4, 8), (*paths.triton_tile(n, d, c), 8, 12)):
        assert 1 <= rows <= n
        assert 1 <= classes <= c
        assert whole * rows * classes + copies * d * classes <= 64 * MIB
        assert rows * classes < 2**31  # offsets within a tile are 32 bits wide


@pytest.mark.parametrize("n", [1, 512, 200_000, 5_000_000])
@pytest.mark.parametrize("d", [1, 8, 64, 1024])
@pytest.mark.parametrize("c", [1, 10, 128, 6000, 12_000])
def test_all_classes_are_taken_at_once_only_where_their_logits_are_within_that_memory(n, d, c):
    promised = 64 * MIB + 32 * n * (d + 8)
    if paths.triton_takes_all_classes(n, d, c):  # the logits' gradient, its sums and the partial sums of dW
        assert 4 * n * c + 2 * n * c + 16 * MIB <= promised
    if paths.torch_takes_all_at_once(n, d, c):  # five tensors like the logits, and the features on the sphere
        assert 20 * n * c + 4 * n * d <= promised


def solve(n, d, c, function):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator).to(DEVICE).requires_grad_()
    w = torch.randn(c, d, generator=generator).to(DEVICE).requires_grad_()
    y = torch.randint(c, (n,), generator=generator).to(DEVICE)
    function(x, w, y)  # libraries take their own memory once
    return peak_extra_bytes(lambda: torch.autograd.grad(function(x, w, y), (x, w)))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("n", "d", "c"), [(512, 16, 6000), (512, 512, 6000), (6000, 512, 500)])
def test_logits_that_exist_whole_take_no_more_than_promised(n, d, c, normalize):
    alpha = torch.tensor(16.0, device=DEVICE, requires_grad=True)

    def loss(x, w, y):
        margin = {"normalize_weight": True, "cosine_margin": 0.1} if normalize else {}
        return linear_l2_softmax_cross_entropy(x, w, y, alpha=alpha, label_smoothing=0.1, **margin)

    if DEVICE == "cpu":
        assert paths.torch_takes_all_at_once(n, d, c)
    assert solve(n, d, c, loss) <= 4 * (n + c) * d + 64 * MIB + 32 * n * (d + 8)


@pytest.mark.parametrize("normalize", [False, True])
def test_logits_never_exist_whole(normalize):
    n, d, c = 512, 16, 50_000
    logits = 4 * n * c
    gradients = 4 * (n + c) * d
    promised = gradients + 64 * MIB + 32 * n * (d + 8)

    def fused(x, w, y):
        return linear_l2_softmax_cross_entropy(x, w, y, alpha=16.0, normalize_weight=normalize)

    def eager(x, w, y):
        return F.cross_entropy(F.linear(16 * F.normalize(x), F.normalize(w) if normalize else w), y)

    assert logits > 64 * MIB
    assert solve(n, d, c, fused) <= promised
    assert solve(n, d, c, fused) < 0.3 * solve(n, d, c, eager)


def test_many_rows_of_few_classes_take_no_more_than_promised():
    n, d, c = 200_000, 32, 20
    peak = solve(n, d, c, lambda x, w, y: linear_l2_softmax_cross_entropy(x, w, y, alpha=16.0))
    assert peak <= 4 * (n + c) * d + 64 * MIB + 32 * n * (d + 8)

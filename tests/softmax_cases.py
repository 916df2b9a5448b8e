"""Cases of both softmax operators: their tensors, their exact results, and the check every implementation must pass."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from bounds import l2_softmax_bounds

from lit_l2softmax.kernels.l2_softmax_cross_entropy import torch_schedule as torch_rows
from lit_l2softmax.kernels.linear_l2_softmax_cross_entropy import operator, paths, torch_schedule
from lit_l2softmax.kernels.linear_l2_softmax_cross_entropy.margin import margin_slope, with_margin
from lit_l2softmax.ops import l2_softmax_cross_entropy, linear_l2_softmax_cross_entropy

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Several ranges of rows and of classes, the last of each shorter than the others.
TILE = paths.Tile(rows=5, classes=7)
SCHEDULES = ["torch, whole", "torch, tiled", "kernels, whole", "kernels, tiled", "kernels, blocks of rows"]
ROW_SCHEDULES = ["torch", "torch, short tiles", "kernels", "kernels, short blocks"]


def force(monkeypatch, schedule, tile=TILE):
    """Makes every problem take one schedule of the linear operator; returns the ``impl`` to ask for."""
    impl, path = schedule.split(", ")
    if path == "blocks of rows":  # as there are for many rows, with several splits of them
        from lit_l2softmax.kernels.linear_l2_softmax_cross_entropy import small_kernels

        path, wide = "whole", small_kernels._row_blocks
        monkeypatch.setattr(small_kernels, "_row_blocks", lambda N, D, C: wide(N, D, C) | {"BLOCK_N": 4, "BLOCK_D": 16})
        monkeypatch.setattr(small_kernels, "_splits", lambda N, D, C: (-(-N // 16), 16))
        monkeypatch.setattr(small_kernels, "SUM_FEATURES", 16)
    if impl == "torch":
        monkeypatch.setattr(operator, "torch_takes_all_at_once", lambda N, D, C: path == "whole")
        monkeypatch.setattr(torch_schedule, "torch_tile", lambda N, D, C: tile)
        return "torch"
    from lit_l2softmax.kernels.linear_l2_softmax_cross_entropy import kernel_schedule

    monkeypatch.setattr(kernel_schedule, "triton_takes_all_classes", lambda N, D, C: path == "whole")
    monkeypatch.setattr(kernel_schedule, "triton_tile", lambda N, D, C: tile)
    return "triton"


def force_rows(monkeypatch, schedule):
    """Makes the row operator cut what it takes at once elsewhere; returns the ``impl`` to ask for."""
    if schedule == "torch, short tiles":
        monkeypatch.setattr(torch_rows, "TILE", 30)
    if schedule.startswith("torch"):
        return "torch"
    from lit_l2softmax.kernels.l2_softmax_cross_entropy import kernels

    if schedule == "kernels, short blocks":
        config = {"BLOCK_C": 4, "ALIGN": 1, "num_warps": 1}
        monkeypatch.setattr(kernels, "_launch_config", lambda C, x_stride: config)
    return "triton"


@dataclass(frozen=True)
class Case:
    """One call of an operator, linear where ``d`` is a number and on rows of logits where it is None."""

    n: int
    d: int | None
    c: int
    x_dtype: torch.dtype = torch.float32
    w_dtype: torch.dtype = torch.float32
    alpha: float = 6.0
    learn: bool = False
    bias: bool = False
    normalize: bool = False
    angular: float = 0.0
    cosine: float = 0.0
    weight: bool = False
    smoothing: float = 0.0
    reduction: str = "mean"
    ignored: tuple[int, ...] = (2,)
    seed: int = 0

    def tensors(self):
        """The tensors a gradient is taken of, by name; the target; the class weights."""
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*shape, dtype):
            return torch.randn(*shape, generator=generator).to(dtype).to(DEVICE)

        inputs = {"input": normal(self.n, self.c if self.d is None else self.d, dtype=self.x_dtype)}
        if self.d is not None:
            inputs["linear_weight"] = normal(self.c, self.d, dtype=self.w_dtype)
        if self.bias:
            inputs["linear_bias"] = normal(self.c, dtype=self.w_dtype)
        if self.learn:
            inputs["alpha"] = torch.tensor(self.alpha, device=DEVICE)
        target = torch.randint(self.c, (self.n,), generator=generator)
        for row in self.ignored:
            if row < self.n:
                target[row] = -100
        weight = torch.rand(self.c, generator=generator) + 0.5 if self.weight else None
        return inputs, target.to(DEVICE), None if weight is None else weight.to(DEVICE)

    def loss(self, inputs, target, weight, impl):
        """The operator's loss."""
        arguments = {"alpha": self.alpha, **inputs, "target": target, "weight": weight}
        arguments |= {"label_smoothing": self.smoothing, "reduction": self.reduction, "impl": impl}
        if self.d is None:
            return l2_softmax_cross_entropy(**arguments)
        margins = {"angular_margin": self.angular, "cosine_margin": self.cosine, "normalize_weight": self.normalize}
        return linear_l2_softmax_cross_entropy(**arguments, **margins)

    def eager(self, inputs, target, weight):
        """What people write without the operator, in float32."""
        inputs = {name: tensor.float() for name, tensor in inputs.items()}
        features = F.normalize(inputs["input"])
        classes = inputs.get("linear_weight", torch.eye(self.c, device=DEVICE))
        cosine = F.linear(features, F.normalize(classes) if self.normalize else classes)
        if self.angular or self.cosine:
            column = torch.where(target == -100, 0, target)[:, None]
            moved = with_margin(cosine.gather(1, column), self.angular, self.cosine)
            cosine = cosine.scatter(1, column, moved)
        logits = inputs.get("alpha", self.alpha) * cosine + inputs.get("linear_bias", 0.0)
        return F.cross_entropy(logits, target, weight, label_smoothing=self.smoothing, reduction=self.reduction)


def results(loss, inputs, upstream):
    """The loss and every gradient, by name."""
    gradients = torch.autograd.grad(loss, inputs.values(), upstream.to(loss.dtype))
    return {"loss": loss.detach(), **dict(zip(inputs, gradients, strict=True))}


def leaves(inputs, dtype=None):
    return {name: tensor.detach().clone().to(dtype or tensor.dtype).requires_grad_() for name, tensor in inputs.items()}


def exact_parts(case, inputs, target, weight, upstream, exact):
    """The quantities that error bounds are made of, in float64."""
    x = inputs["input"].double()
    w = (
        inputs["linear_weight"].double()
        if case.d is not None
        else torch.eye(case.c, dtype=torch.float64, device=DEVICE)
    )
    x_norm, w_norm = x.norm(dim=1).clamp_min(1e-12), w.norm(dim=1).clamp_min(1e-12)
    u, v = x / x_norm[:, None], w / w_norm[:, None] if case.normalize else w
    counts = target != -100
    classes = torch.where(counts, target, 0)
    own = F.one_hot(classes, case.c).bool()
    cosine = u @ v.T
    target_cosine = cosine[own]
    slope, bend = torch.ones_like(target_cosine), torch.zeros_like(target_cosine)
    if case.angular:
        slope = margin_slope(target_cosine, case.angular)
        bend = (1 - target_cosine.square()).clamp_min(1e-7).pow(-1.5)
    if case.angular or case.cosine:
        moved = with_margin(target_cosine, case.angular, case.cosine)
        cosine = cosine.masked_scatter(own, moved)
    bias = inputs["linear_bias"].double() if case.bias else torch.zeros(case.c, dtype=torch.float64, device=DEVICE)
    logits = case.alpha * cosine + bias
    weights = torch.ones_like(bias) if weight is None else weight.double()
    scale = (1 - case.smoothing) * weights[classes] + case.smoothing * weights.mean()
    total = (weights[classes] * counts).sum() if case.reduction == "mean" else 1.0
    g = torch.where(counts, (upstream / total).abs().expand(case.n), 0.0)
    probability = logits.softmax(1)
    others = torch.where(own, 1 - probability, probability)
    smoothed = case.smoothing * (weights / case.c + own * weights.mean())
    majorant = g[:, None] * (scale[:, None] * others + smoothed)
    x_factor = torch.where(x.norm(dim=1) < 1e-12, 0.0, case.alpha / x_norm)
    return {
        "u": u, "v": v, "alpha": case.alpha, "target": own, "slope": slope, "bend": bend, "logits": logits,
        "bias": bias, "weights": weights, "smoothing": case.smoothing, "scale": scale, "majorant": majorant,
        "x_factor": x_factor, "w_factor": 1 / w_norm if case.normalize else torch.ones_like(w_norm),
        "normalized": case.normalize, "loss": exact["loss"] * (total if case.reduction == "mean" else 1.0),
        "gradients": exact, "whole": g * scale,
        "total": total, "counts": counts,
    }  # fmt: skip


def check(case, impl, tensors=None, tile_dtype=None):
    """An implementation's error is at most twice eager PyTorch's in float32, plus a derived bound of its rounding."""
    inputs, target, weight = case.tensors() if tensors is None else tensors
    generator = torch.Generator().manual_seed(case.seed + 1)
    upstream = torch.randn(case.n if case.reduction == "none" else (), generator=generator).to(DEVICE)
    mine = leaves(inputs)
    got = results(case.loss(mine, target, weight, impl), mine, upstream)
    double = leaves(inputs, torch.float64)
    double_weight = None if weight is None else weight.double()
    exact = results(case.loss(double, target, double_weight, "reference"), double, upstream.double())
    single = leaves(inputs)
    eager = results(case.eager(single, target, weight), single, upstream)

    parts = exact_parts(case, inputs, target, weight, upstream.double(), exact)
    stored = {name: tensor.dtype for name, tensor in inputs.items()}
    bounds = l2_softmax_bounds(parts, torch.float32, stored=stored, tile=tile_dtype)
    if case.reduction != "none":  # a mean of N losses that are off adds a sum's roundings
        rows = torch.where(parts["counts"], bounds["loss"], 0.0).sum()
        bounds["loss"] = (rows + 1e-7 * case.n * parts["loss"].abs().sum()) / parts["total"]
    for name, expected in exact.items():
        allowed = bounds[name] + 2 * (eager[name].double() - expected).abs().nan_to_num().amax()
        error = (got[name].double() - expected).abs()
        assert torch.equal(got[name].isnan(), expected.isnan()), f"{name}: not a number where it should be one"
        excess = (error / allowed).nan_to_num()
        assert (excess <= 1).all(), f"{name}: error {float(excess.max()):.3g} times what is allowed"
    assert got["loss"].dtype == torch.float32
    for name, tensor in inputs.items():
        assert got[name].dtype == tensor.dtype
        assert got[name].shape == tensor.shape

"""A head whose classes are spread over processes trains as the head of one process."""

import json
import subprocess
import sys
from pathlib import Path

import class_parallel_fit_ranks as fits
import pytest
import torch
from class_parallel_head_ranks import TRUE64
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from ranks import environment, ranks
from run_records import result_of, rows_of

from lit_l2softmax import class_parallel_head, class_parallel_strategy
from lit_l2softmax.__main__ import main
from lit_l2softmax.callbacks import ExponentialMovingAverage
from lit_l2softmax.class_parallel_head import ClassParallelL2SoftmaxLoss, gradient_norm, whole_shapes
from lit_l2softmax.class_parallel_strategy import ClassParallelStrategy
from lit_l2softmax.classification import LitClassification
from lit_l2softmax.errors import ConfigError, RunError
from lit_l2softmax.layers import L2SoftmaxLoss, TutorialL2SoftmaxHead, most_probable
from lit_l2softmax.penalties import WeightPenalty

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{message}") for message in ("does not have many workers", "LeafSpec")
]

ROOT = Path(__file__).parents[1]
SCRIPT = "class_parallel_head_ranks.py"


def test_two_processes_that_share_the_classes_or_the_rows_are_one(tmp_path):
    ranks(SCRIPT, 2, tmp_path, 2, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "overs"), [(3, (3, 1)), (4, (2, 4))])
def test_any_mesh_of_processes_is_one(tmp_path, size, overs):
    ranks(SCRIPT, size, tmp_path, *overs)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process with L2SoftmaxLoss saves at steps 2 and 4 of a training, and the weights it begins with."""
    folder = tmp_path_factory.mktemp("alone")
    dtype = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        torch.save(fits.training(False, "sgd").state_dict(), folder / "first.pt")
        said = {}
        for optimiser in ("sgd", "adam"):
            for steps in (2, 4):
                path = folder / f"{optimiser}-{steps}.ckpt"
                said[optimiser] = fits.fit(0, 1, steps, optimiser, folder / "first.pt", path, spread=False)
    finally:
        torch.set_default_dtype(dtype)
    return folder, said


def same(one, other):
    """Two checkpoints' weights and states of optimisers, to the rounding of so many steps."""
    one, other = (torch.load(path, weights_only=True) for path in (one, other))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, weight in other["state_dict"].items():
        assert (one["state_dict"][name] - weight).norm() <= TRUE64 * weight.norm(), name
    for mine, true in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
        assert mine["param_groups"] == true["param_groups"]
        assert mine["state"].keys() == true["state"].keys()
        for number, state in true["state"].items():
            for name, value in state.items():
                off = (mine["state"][number][name] - value).norm()
                assert off <= TRUE64 * value.norm(), (number, name, off / value.norm())
    assert one["global_step"] == other["global_step"]


def on(size, steps, optimiser, before, after):
    ranks("class_parallel_fit_ranks.py", size, after.parent, steps, optimiser, before, after)
    return json.loads(after.with_suffix(".json").read_text())


def test_a_training_on_two_processes_goes_on_in_one(alone, tmp_path):
    """Clipped, with two groups of parameters and uneven rows."""
    folder, said = alone
    validated = on(2, 2, "sgd", folder / "first.pt", tmp_path / "two.ckpt")
    same(tmp_path / "two.ckpt", folder / "sgd-2.ckpt")
    torch.set_default_dtype(torch.float64)
    try:
        again = fits.fit(0, 1, 4, "sgd", tmp_path / "two.ckpt", tmp_path / "one.ckpt", spread=False)
    finally:
        torch.set_default_dtype(torch.float32)
    same(tmp_path / "one.ckpt", folder / "sgd-4.ckpt")
    assert again == pytest.approx(said["sgd"])
    assert validated.keys() == again.keys()


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_checkpoint_of_any_number_of_processes_is_that_of_another(alone, tmp_path, optimiser):
    folder, said = alone
    for size in (2, 3):
        validated = on(size, 4, optimiser, folder / f"{optimiser}-2.ckpt", tmp_path / f"{size}.ckpt")
        same(tmp_path / f"{size}.ckpt", folder / f"{optimiser}-4.ckpt")
        for name in ("val/accuracy", "val/calibration_error"):
            assert validated[name] == pytest.approx(said[optimiser][name])
    on(2, 2, optimiser, folder / "first.pt", tmp_path / "two.ckpt")
    on(3, 4, optimiser, tmp_path / "two.ckpt", tmp_path / "three.ckpt")
    same(tmp_path / "three.ckpt", folder / f"{optimiser}-4.ckpt")


def spread(**options):
    torch.manual_seed(3)
    return ClassParallelL2SoftmaxLoss(**{"in_features": 5, "num_classes": 9, **options})


def test_in_one_process_it_is_the_head_of_one_process():
    """Also when the optimiser was made before it had weights."""
    head = spread(learn_alpha=True)
    assert head.weight.is_meta
    assert whole_shapes(head) == {"weight": (9, 5), "bias": (9,), "alpha": ()}
    before = list(head.parameters())
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.randn(6, 5), torch.tensor([0, 8, 3, -100, 1, 1])
    assert head.logits(x).shape == (6, 9)
    assert all(map(lambda one, other: one is other, before, head.parameters()))
    other = L2SoftmaxLoss(5, 9, learn_alpha=True)
    other.load_state_dict(head.state_dict())
    true = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        for one, stepping in ((head, optimiser), (other, true)):
            stepping.zero_grad()
            one(x, y).backward()
            stepping.step()
    for name, weight in other.state_dict().items():
        assert torch.equal(head.state_dict()[name], weight)
    found, expected = head.most_probable(x), other.most_probable(x)
    assert torch.equal(found.classes, expected.classes)
    torch.testing.assert_close(found.probability, expected.probability)
    assert torch.equal(gradient_norm(head, head.parameters()), gradient_norm(other, other.parameters()))
    spread(learn_alpha=True).load_state_dict(other.state_dict())
    assert repr(spread(classes_over=1)).endswith("(5, 9, alpha=16, classes over 1 processes)")


def test_most_probable_looks_at_some_classes_after_others(monkeypatch):
    monkeypatch.setattr(class_parallel_head, "SCORES", 8)  # of six rows one class at once
    for options in ({}, {"normalize_weight": True, "angular_margin": 0.5}):
        head = spread(**options)
        with torch.no_grad():
            for parameter in head.to("cpu").parameters():
                parameter.normal_()
            head.weight[7] = head.weight[2]  # of two with the same score the first
        if head.bias is not None:
            head.bias.data[7] = head.bias.data[2]
        x = torch.cat([torch.randn(5, 5), head.weight[2:3].detach()])
        found, expected = head.most_probable(x), most_probable(head.logits(x))
        assert torch.equal(found.classes, expected.classes)
        assert found.classes[5] == 2
        torch.testing.assert_close(found.probability, expected.probability.detach())
    assert head.most_probable(x[:0]).classes.shape == (0,)


@pytest.mark.parametrize("head", [L2SoftmaxLoss(5, 9), L2SoftmaxLoss(5, 9, alpha=0), TutorialL2SoftmaxHead(5, 9)])
def test_every_head_says_what_is_most_probable(head):
    x = torch.randn(4, 5)
    probability, classes = head.logits(x).softmax(1).max(1)
    found = head.most_probable(x)
    assert torch.equal(found.classes, classes)
    torch.testing.assert_close(found.probability, probability)
    assert head.counted(torch.tensor([3, -100, 0])) == 2
    assert not head.spreads_classes


def test_first_weights_are_glorots_or_a_cut_normal_and_a_seeds():
    head = spread(num_classes=3000, in_features=40).to("cpu")
    bound = (6 / 3040) ** 0.5
    assert 0.999 * bound < head.weight.abs().max() <= bound
    # Of 120,000: five deviations of the deviation of a uniform distribution.
    assert abs(float(head.weight.detach().std()) / bound * 3**0.5 - 1) < 5 * 0.45 / 120_000**0.5
    assert torch.equal(head.weight, spread(num_classes=3000, in_features=40).to("cpu").weight)
    assert len(head.weight.unique(dim=0)) == 3000
    cut = spread(num_classes=3000, weight_std=0.1).to("cpu").weight
    assert 0.19 < cut.abs().max() <= 0.2
    before = head.weight.clone()
    head.reset_parameters()
    assert (head.weight != before).float().mean() > 0.99
    assert spread().double().weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha=0 is the plain softmax, which L2SoftmaxLoss has"),
        ({"alpha": -1}, "alpha must be 0"),
        ({"classes_over": 0}, "classes_over must be at least 1, got 0"),
        ({"cosine_margin": 0.3}, "need normalize_weight=True"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        spread(**options)


def test_more_classes_over_processes_than_there_are_is_refused_when_that_is_known():
    with pytest.raises(ValueError, match="classes_over=2 does not divide the 1 processes"):
        spread(classes_over=2).to("cpu")


def test_a_bad_label_is_named_in_one_process_too():
    with pytest.raises(IndexError, match=r"target\[1\] is 9"):
        spread()(torch.ones(2, 5), torch.tensor([0, 9]))


class Given:
    """A trainer of two processes, as far as the strategy looks at it."""

    world_size = 2

    def __init__(self, *callbacks):
        self.callbacks = list(callbacks)


@pytest.mark.parametrize(
    ("callbacks", "penalty", "precision", "message"),
    [
        ([ExponentialMovingAverage()], None, Precision(), "no averages are kept .* --model.ema_decay=null"),
        ([], WeightPenalty(["head.weight"], l2=0.1), Precision(), "penalty: head.weight is spread over processes"),
        ([], None, MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu")), "--trainer.precision=bf16-mixed"),
    ],
)
def test_what_knows_of_no_shards_is_refused(callbacks, penalty, precision, message):
    strategy = ClassParallelStrategy(precision_plugin=precision)
    strategy.model = LitClassification(torch.nn.Linear(2, 5), spread(), penalty=penalty)
    with pytest.raises(ConfigError, match=message):
        strategy.setup(Given(*callbacks))


def test_an_optimiser_whose_state_has_another_shape_is_refused():
    with pytest.raises(RunError, match=r"the optimiser's row_var of a weight \(9, 5\) is \(9, 1\)"):
        class_parallel_strategy._is_of(torch.ones(9, 5), "row_var", torch.ones(9, 1))


@pytest.mark.slow
def test_the_command_line_trains_and_tests_on_two_processes_as_on_one(tmp_path):
    """The checkpoint that is tested is put together and cut again; lengths of gradients are those of all classes."""
    options = "--data.identities=101 --model.head.num_classes=101 --data.validation=50 --data.held_out=20"
    steps = "--trainer.max_steps=20 --trainer.val_check_interval=10 --wandb.mode=disabled"
    records = []
    for devices in (1, 2):
        command = f"-m lit_l2softmax fit --config=faces_synthetic {options} {steps} --trainer.devices={devices}"
        runs = tmp_path / str(devices)
        done = subprocess.run(
            [sys.executable, *command.split(), f"--runs={runs}"],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        (run,) = runs.glob("*/*")
        records.append((result_of(run), rows_of(run)))
    (one, one_rows), (two, two_rows) = records
    # In float32: some 20 steps, each of which carries on what the one before has rounded.
    for name in ("test/eer", "test/auc"):
        assert two[name] == pytest.approx(one[name], abs=1e-3)
    compared = 0
    for mine, true in zip(two_rows, one_rows, strict=True):
        for name in ("train/loss", "train/gradient_norm", "train/accuracy", "train/feature_norm", "val/loss"):
            if true.get(name):
                assert float(mine[name]) == pytest.approx(float(true[name]), rel=1e-3), name
                compared += 1
    assert compared >= 10


def test_the_command_line_refuses_another_strategy_before_it_starts_processes(capsys):
    options = ["--data.identities=100", "--model.head.num_classes=100", "--data.validation=10"]
    assert main(["fit", "--config=faces_synthetic", "--trainer.strategy=ddp", "--wandb.mode=disabled", *options]) == 2
    error = capsys.readouterr().err
    assert "ClassParallelL2SoftmaxLoss spreads classes over processes: --trainer.strategy=class_parallel" in error
